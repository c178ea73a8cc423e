"""The sandbox as a process: its end, its addresses, its settings, and single steps of jobs."""

import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.patience import patient


def test_it_stops_at_once_although_a_request_is_not_answered(start_sandbox: Any, tmp_path: Path) -> None:
    process, addresses = start_sandbox(tmp_path, "--queue-s", "60")
    with (
        process.stdout,
        httpx.Client(base_url=addresses["control_url"], trust_env=False, timeout=patient(60)) as control,
    ):
        control.put("/faults", json=[{"action": {"accept_then": "hang"}}]).raise_for_status()
        host, port = addresses["replicate_base_url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as caller:
            body = b'{"input": {"prompt": "Rain"}}'
            head = f"Host: x\r\nAuthorization: Bearer r8_x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            caller.sendall(b"POST /v1/models/google/lyria-2/predictions HTTP/1.1\r\n" + head + body)
            while control.get("/bills").json()["totals"]["replicate"]["accepted"] == 0:
                assert process.poll() is None
            control.close()
            process.terminate()
            assert process.wait(patient(5)) == 0


def test_it_listens_on_this_machine_only(box: Any) -> None:
    hosts = {
        box.addresses[name].split(":")[-2].strip("/") for name in ("replicate_base_url", "control_url", "fal_api_url")
    }
    assert hosts == {"127.0.0.1", "localhost"}
    assert box.control.get("/healthz").json() == {"status": "ok"}
    assert Path(box.addresses["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_with_a_host_others_reach_it_by_that_name_and_rules_hold_from_the_start(
    start_sandbox: Any, tmp_path: Path
) -> None:
    rules = '[{"provider": "fal", "action": {"refuse": "balance"}}]'
    process, addresses = start_sandbox(tmp_path, "--host", "sandbox.test", "--faults", rules)
    url, port = addresses["fal_api_url"].rsplit(":", 1)
    assert url == "https://sandbox.test"
    assert addresses["replicate_base_url"].startswith("http://sandbox.test:")
    trust = ssl.create_default_context(cafile=addresses["ca_file"])
    try:
        # 127.0.0.2 stands for an address of another interface.
        with httpx.Client(verify=trust, trust_env=False, timeout=patient(60)) as client:
            answer = client.post(
                f"https://127.0.0.2:{port}/fal-ai/lyria2",
                json={"prompt": "Rain"},
                headers={"Authorization": "Key id:secret"},
                extensions={"sni_hostname": "sandbox.test"},
            )
        assert answer.status_code == 403
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(patient(60)) == 0


def test_settings_change_as_a_whole_or_not_at_all(box: Any) -> None:
    before = box.control.get("/settings").json()
    assert box.control.patch("/settings", json={"queue_s": 9, "run_s": -1}).status_code == 422
    assert box.control.patch("/settings", json={"no_such": 1}).status_code == 422
    assert box.control.get("/settings").json() == before


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_each_job_takes_its_next_step_on_request(box: Any, provider: str) -> None:
    box.settings(fal_concurrency=1, queue_s=600, run_s=600)
    for _ in range(2):
        box.fal_submit() if provider == "fal" else box.predict()

    def states() -> list[str]:
        return sorted(job["status"] for job in box.control.get("/jobs").json())

    # With a concurrency of one, the second job of fal has left the queue, and starts when the first has ended.
    ways = [["queued", "running"], ["running", "succeeded"]] if provider == "fal" else [["running"] * 2]
    assert states() == ["queued", "queued"]
    for expected in (*ways, ["succeeded", "succeeded"]):
        box.step()
        box.until(lambda expected=expected: states() == expected)
    box.step()
    assert states() == ["succeeded", "succeeded"]
