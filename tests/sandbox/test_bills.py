"""The bills: every POST, what became of it, and what the provider would have billed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.models.endpoints import find_endpoint
from sandbox.runs.bills import attempt_of


def test_the_bills_on_disk_equal_those_of_the_api(box: Any) -> None:
    box.fault("fal", times=1, refuse="balance")
    refused = box.fal.post("/fal-ai/lyria2", json={"prompt": "Rain"}, headers={"X-Fal-Tags": "a=b,segue-attempt=j.9"})
    assert refused.status_code == 403
    box.prediction_ended(box.predict())
    entries = box.bills()["entries"]
    lines = Path(box.addresses["bills"]).read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries
    post = entries[0]
    assert (post["accepted"], post["status"], post["request_id"], post["attempt_id"]) == (False, 403, None, "j.9")
    assert post["input"] == {"prompt": "Rain"}
    assert entries[1]["price_usd"] == 0.06
    assert entries[2]["event"] == "finished"
    assert entries[2]["request_id"] == entries[1]["request_id"]
    assert box.totals("fal") == {"posts": 1, "accepted": 0, "refused": 1, "open": 0, "billed_usd": 0}


def test_a_reset_forgets_jobs_that_still_run(box: Any) -> None:
    created = box.predict()
    box.control.delete("/bills")
    box.prediction_ended(created)
    assert box.bills()["entries"] == []
    assert Path(box.addresses["bills"]).read_text() == ""


@pytest.mark.parametrize(
    ("webhook", "tags", "attempt"),
    [
        ("https://x.test/api/callbacks/fal/0197.2/abc", None, "0197.2"),
        ("https://x.test/base/api/callbacks/replicate/0197.3/abc/?a=b", "segue-attempt=other", "0197.3"),
        ("https://x.test/elsewhere", "team=a, segue-attempt=0197.4,b=c", "0197.4"),
        ("http://[", None, None),
        (None, "not-segue-attempt=1", None),
    ],
)
def test_the_attempt_is_read_from_the_webhook_or_the_tags(
    webhook: str | None, tags: str | None, attempt: str | None
) -> None:
    assert attempt_of(webhook, tags) == attempt


@pytest.mark.parametrize(
    ("provider", "name", "given", "usd"),
    [
        ("fal", "fal-ai/elevenlabs/music", {"prompt": "x", "music_length_ms": 61_000}, 1.6),
        ("fal", "CassetteAI/music-generator", {"prompt": "x", "duration": 61}, 0.04),
        ("fal", "fal-ai/flux/schnell", {"prompt": "x", "num_images": 3}, 0.009),
        ("replicate", "elevenlabs/music", {"prompt": "x", "music_length_ms": 20_000}, 0.166),
        ("replicate", "black-forest-labs/flux-schnell", {"prompt": "x", "num_outputs": 4}, 0.012),
    ],
)
def test_prices(provider: Any, name: str, given: dict[str, Any], usd: float) -> None:
    endpoint = find_endpoint(provider, name)
    assert endpoint is not None
    assert endpoint.price(endpoint.makes(endpoint.accepts.model_validate(given))) == pytest.approx(usd)


def test_the_page_escapes_input(box: Any) -> None:
    box.predict(webhook="http://127.0.0.1:9/<script>")
    page = box.control.get("/").text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


async def test_five_hundred_posts_at_once_are_billed(box: Any) -> None:
    host, port = box.addresses["replicate_base_url"].removeprefix("http://").split(":")
    body = b'{"input": {"prompt": "Rain"}}'
    head = f"Host: x\r\nAuthorization: Bearer r8_x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def post() -> bytes:
        # Without a client library, whose connection pool would take most of the time.
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/models/google/lyria-2/predictions HTTP/1.1\r\n" + head + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    answers = await asyncio.gather(*(post() for _ in range(500)))
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 201 Created"}
    assert len({json.loads(answer.split(b"\r\n\r\n")[1])["id"] for answer in answers}) == 500
    box.until(lambda: box.totals("replicate")["open"] == 0)
    assert box.totals("replicate")["billed_usd"] == pytest.approx(30.0)
