"""`segue up`, and other commands while it runs, with real processes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import wave
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.patience import patient

from contracts.topics import SERVICES
from segue_cli.stack.environment import read_env

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_up_runs_jobs_survives_the_death_of_a_service_and_stops_cleanly(shell: Any, until: Any) -> None:
    up = shell.start("up", "--port", "0")
    printed = up.until("Ctrl-C stops everything")
    env_file = shell.folder / ".segue" / "up.env"
    env = read_env(env_file)
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert env["SEGUE_API"] in printed
    assert "/api/tracks" in printed
    assert httpx.get(f"{env['SEGUE_API']}/docs", trust_env=False, timeout=patient(60)).status_code == 200

    second = shell.run("up", "--port", "0")
    assert second.returncode == 1
    assert "already running in this folder" in second.stdout
    assert env["SEGUE_API"] in second.stdout

    def all_ready() -> bool:
        examined = shell.run("doctor", "--sandbox")
        assert examined.returncode == 0, examined.stdout
        assert env["FAL_KEY"].partition(":")[2] not in examined.stdout
        return all(re.search(rf"^ok +{service} +ready", examined.stdout, re.MULTILINE) for service in SERVICES)

    # The orchestrator reads which adapters run every half second until it has heard of all of them.
    until(all_ready, 30)

    made = shell.run("submit", "Warm ambient pad", "--duration", "5", "-o", "pad.wav")
    assert made.returncode == 0, made.stdout
    with wave.open(str(shell.folder / "pad.wav")) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(5, abs=0.5)
    job_id = made.stdout.split()[1]
    until(lambda: job_id in shell.run("jobs").stdout, 60)
    until(lambda: "succeeded" in shell.run("job", job_id).stdout, 60)
    followed = shell.run("logs", job_id, "--follow").stdout.splitlines()
    assert "job.requested" in followed[0]
    assert "job.succeeded" in followed[-1]
    refused = shell.run("submit", "x", "--duration", "9999")
    assert refused.returncode == 1
    assert "duration_s" in refused.stdout
    assert "nothing will be billed" in refused.stdout

    _kill_and_start_again(shell, up, printed, until)
    assert up.stop(signal.SIGTERM) == 0
    assert "Stopped." in up.printed()
    assert not env_file.exists()


def test_its_files_are_private_and_a_second_replica_is_refused(shell: Any) -> None:
    old = shell.folder / ".segue" / "logs" / "old.log"
    old.parent.mkdir(parents=True)
    old.touch()
    for path in (old, *list(old.parents)[:2]):
        path.chmod(0o777)
    before = os.umask(0)
    up = shell.start("up", "--port", "0")
    os.umask(before)
    up.until("Ctrl-C stops everything")
    assert shell.run("submit", "Rain", "--duration", "5", "-o", "rain.wav").returncode == 0
    assert open_to_others(shell.folder / ".segue") == {}

    second = shell.run("run", "orchestrator", "--port", "0", "--env-file", ".segue/up.env")
    assert second.returncode == 78
    (line,) = [line for line in second.stdout.splitlines() if not line.startswith("{")]
    assert line.startswith("orchestrator cannot start: KAFKA_BOOTSTRAP_SERVERS: this is the embedded Kafka")
    assert "rebalanc" not in (shell.folder / ".segue/logs/orchestrator.log").read_text()
    assert shell.run("submit", "Rain", "--duration", "5", "-o", "rain.wav").returncode == 0
    assert up.stop(signal.SIGTERM) == 0


def open_to_others(folder: Path) -> dict[str, str]:
    """Paths that other users may access, with their modes, save for the way to a database that another user runs."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode & 0o077
        passage = 0o011 if path in (folder, folder / "postgres") and os.geteuid() == 0 else 0
        if mode & ~passage:
            found[str(path)] = oct(mode)
    return found


def _kill_and_start_again(shell: Any, up: Any, printed: str, until: Any) -> None:
    pid = next(int(line.split()[1]) for line in printed.splitlines() if line.startswith("orchestrator "))
    os.kill(pid, signal.SIGKILL)
    last = up.until("orchestrator was ended by SIGKILL").splitlines()[-1]
    again = shlex.split(last.partition("Start it again with:")[2])
    with subprocess.Popen(again, cwd=shell.folder, env=shell.env, stdout=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{again[again.index('--port') + 1]}/readyz"
        until(lambda: _is_ready(address), 60)
        assert shell.run("submit", "Rain", "--duration", "5", "-o", "rain.wav").returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(60)) == 0


def test_up_starts_again_on_its_kept_database_and_an_empty_kafka(shell: Any, until: Any) -> None:
    for count, name in enumerate(("first", "second"), 1):
        up = shell.start("up", "--port", "0")
        up.until("Ctrl-C stops everything")
        done = shell.run("submit", name, "--duration", "5", "-o", f"{name}.wav")
        assert done.returncode == 0, done.stdout
        until(lambda count=count: shell.run("jobs").stdout.count("succeeded") == count, 60)
        assert up.stop(signal.SIGINT) == 0


def test_nothing_outlives_an_up_that_was_killed(shell: Any, until: Any) -> None:
    up = shell.start("up", "--port", "0")
    up.until("Ctrl-C stops everything")
    assert up.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not shell.left_over(), 60, lambda: str(shell.left_over()))


def test_a_port_that_is_taken_is_named_before_anything_starts(shell: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shell.run("up", "--port", str(port))
    assert done.returncode == 78
    assert f"port {port} is taken" in done.stdout


def test_live_providers_need_a_key(shell: Any) -> None:
    done = shell.run("up", "--port", "0", "--providers", "live")
    assert done.returncode == 78
    assert done.stdout.strip() == (
        "--providers live needs FAL_KEY (or FAL_API_KEY) or REPLICATE_API_TOKEN in the environment or in .env"
    )


def test_one_key_is_enough_and_the_other_provider_is_left_out(shell: Any, until: Any) -> None:
    # Nothing listens there: this provider is never reached, and costs nothing.
    live = {"REPLICATE_API_TOKEN": "r8_" + "t" * 37, "REPLICATE_BASE_URL": "http://127.0.0.1:9"}
    up = shell.start("up", "--port", "0", "--providers", "live", env=live)
    printed = up.until("Ctrl-C stops everything")
    line = "Fal has no key (FAL_KEY (or FAL_API_KEY) is not set) and is left out."
    assert printed.count(line) == 1
    assert "replicate-adapter" in printed
    assert "fal-adapter" not in printed
    env = read_env(shell.folder / ".segue" / "up.env")
    assert env["SEGUE_PROVIDERS"] == "replicate"
    with httpx.Client(base_url=env["SEGUE_API"], trust_env=False, timeout=patient(60)) as api:
        health = api.get("/api/health/providers").json()
        assert (health["fal"], health["fal_error"]) == ("disabled", None)
        only_fal = {"prompt": "Rain", "duration_s": 5, "has_vocals": False, "style_strength": 0.5, "providers": ["fal"]}
        refused = api.post("/api/tracks", json=only_fal)
        assert (refused.status_code, refused.json()["routes"][0]["reason"]) == (422, "not enabled (SEGUE_PROVIDERS)")
        assert api.get("/readyz").status_code == 200
    assert "not enabled: SEGUE_PROVIDERS leaves it out" in shell.run("providers").stdout
    job_id = shell.run("submit", "Rain", "--duration", "5").stdout.split()[1]
    until(lambda: "may go to replicate" in shell.run("logs", job_id).stdout, 60)
    assert "skipped fal: not enabled (SEGUE_PROVIDERS)" in " ".join(shell.run("logs", job_id).stdout.split())
    assert up.stop(signal.SIGTERM) == 0


def test_a_service_that_cannot_start_is_named_with_its_line(shell: Any) -> None:
    (shell.folder / "models.yaml").write_text("models: 3\nmore: [\n")
    wrong = {"SEGUE_CATALOGUE": str(shell.folder / "models.yaml")}
    done = shell.run("up", "--port", "0", env=wrong)
    assert done.returncode == 78
    *waited, line = done.stdout.splitlines()
    assert all(each.startswith("Starting Segue") for each in waited)  # Printed on a slow machine.
    assert re.match(r"(gateway|orchestrator) cannot start: SEGUE_CATALOGUE: models.yaml:3: ", line)


def test_run_names_the_services_and_missing_settings(shell: Any) -> None:
    done = shell.run("run", "composer")
    assert done.returncode == 1
    assert "log-sink" in done.stdout
    lacking = shell.run("run", "log-sink")
    assert lacking.returncode == 78
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in lacking.stdout


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_a_secret_in_a_file_is_used_and_copied_nowhere(shell: Any, database_url: str) -> None:
    (shell.folder / "database").write_text(f"{database_url}?application_name=sesame\n")
    (shell.folder / "fal").write_text("not-used:sesame\n")
    (shell.folder / ".env").write_text("DATABASE_URL_FILE=database\nFAL_KEY_FILE=fal\nSEGUE_PROT=1\n")
    up = shell.start("up", "--port", "0")
    up.until("Ctrl-C stops everything")
    assert "SEGUE_PROT is not a setting of Segue; did you mean SEGUE_PORT?" in up.printed()
    env_file = shell.folder / ".segue" / "up.env"
    env = read_env(env_file)
    assert (env["DATABASE_URL_FILE"], env.get("DATABASE_URL"), env.get("FAL_KEY_FILE")) == ("database", None, None)
    assert "sesame" not in env_file.read_text()
    made = shell.run("submit", "Warm ambient pad", "--duration", "5", "-o", "pad.wav")
    assert made.returncode == 0, made.stdout
    assert up.stop(signal.SIGTERM) == 0
    logs = "".join(path.read_text() for path in (shell.folder / ".segue" / "logs").iterdir())
    assert "sesame" not in logs


def test_a_secret_s_file_that_is_gone_is_one_line(shell: Any) -> None:
    (shell.folder / ".env").write_text("DATABASE_URL_FILE=gone\n")
    done = shell.run("up", "--port", "0")
    assert done.returncode == 78
    (line,) = done.stdout.splitlines()
    assert line.startswith("segue: DATABASE_URL_FILE: gone cannot be read: No such file or directory")
