"""`segue demo`: its claims, with any environment, and interrupted at any moment."""

from __future__ import annotations

import re
import signal
import tempfile
import time
import wave
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from segue_cli.demo import command
from segue_cli.demo.verdict import Sound, claims
from segue_cli.stack.folder import State

PLAYED = Sound(Path("pad.wav"), 20.0, "ab")
JOB: dict[str, Any] = {
    "status": "succeeded",
    "provider": "replicate",
    "error": None,
    "artifacts": [{"sha256": "ab"}],
    "attempts": [
        {"provider": "fal", "state": "failed", "error_kind": "insufficient_balance", "message": "Exhausted balance."},
        {"provider": "replicate", "state": "succeeded", "error_kind": None, "message": None},
    ],
}
LOG = [
    {"event": event}
    for event in (
        "attempt.submitting",
        "attempt.failed",
        "job.rerouted",
        "attempt.submitted",
        "attempt.succeeded",
        "job.succeeded",
    )
]
BILLS: dict[str, Any] = {
    "entries": [{"event": "post", "provider": "fal", "status": 403}],
    "totals": {
        "fal": {"posts": 1, "accepted": 0, "open": 0, "billed_usd": 0},
        "replicate": {"posts": 1, "accepted": 1, "open": 0, "billed_usd": 0.2},
    },
}


def test_all_claims_hold_for_what_the_demo_shows() -> None:
    assert all(claim.holds for claim in claims(JOB, LOG, BILLS, PLAYED))


@pytest.mark.parametrize(
    ("path", "value", "broken"),
    [
        (("job", "status"), "failed", "the job succeeded"),
        (("job", "provider"), "fal", "Replicate made it"),
        (("job", "attempts", 0, "error_kind"), "forbidden", "fal refused it"),
        (("job", "attempts", 0, "message"), "no", "fal refused it"),
        (("bills", "entries", 0, "status"), 402, "fal refused it"),
        (("bills", "totals", "fal", "accepted"), 1, "fal bills nothing"),
        (("bills", "totals", "fal", "posts"), 2, "fal bills nothing"),
        (("bills", "totals", "replicate", "accepted"), 2, "Replicate accepted one run"),
        (("bills", "totals", "replicate", "billed_usd"), 0, "Replicate accepted one run"),
        (("log", 2, "event"), "job.started", "each step"),
        (("job", "artifacts", 0, "sha256"), "cd", "the file is the one"),
    ],
)
def test_each_claim_fails_if_it_is_not_true(path: tuple[Any, ...], value: object, broken: str) -> None:
    shown: dict[str, Any] = {"job": deepcopy(JOB), "log": deepcopy(LOG), "bills": deepcopy(BILLS)}
    inner: Any = shown
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    wrong = [claim.text for claim in claims(shown["job"], shown["log"], shown["bills"], PLAYED) if not claim.holds]
    assert len(wrong) == 1
    assert wrong[0].startswith(broken)


def test_a_job_without_attempts_breaks_claims_and_raises_nothing() -> None:
    job = {**JOB, "status": "failed", "attempts": [], "artifacts": [], "error": {"kind": "no_route", "message": "x"}}
    verdict = claims(job, [], {**BILLS, "entries": []}, None)
    assert not all(claim.holds for claim in verdict)
    assert "no_route" in verdict[0].found


def test_logs_that_cannot_be_kept_beside_the_file_are_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, out = tmp_path / "state" / "logs", tmp_path / "out"
    logs.mkdir(parents=True)
    (logs / "gateway.log").write_text("a line")
    assert command._keep_logs(State(logs.parent), out) == out / "logs"
    assert (out / "logs" / "gateway.log").read_text() == "a line"
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = command._keep_logs(State(logs.parent), tmp_path / "file")
    assert (kept / "gateway.log").read_text() == "a line"


@pytest.mark.e2e
@pytest.mark.timeout(200)
def test_it_prints_each_step_and_keeps_the_file(shell: Any) -> None:
    hostile = {
        "FAL_KEY": "my-real:key",
        "MUSIC_PROVIDER": "replicate",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "ARTIFACT_STORE_URL": "s3://nowhere",
    }
    done = shell.run("demo", env=hostile)
    assert done.returncode == 0, done.stdout
    story = ("submitted to fal", "refused by fal", "moved on", "submitted to replicate", "stored", "succeeded")
    places = [done.stdout.index(step) for step in story]
    assert places == sorted(places)
    assert re.search(r"refused by fal\s+403 User is locked\. Reason: Exhausted balance", done.stdout)
    assert re.search(r"^fal +1 +1 +0 +\$0\.00 ", done.stdout, re.MULTILINE)
    with wave.open(str(shell.folder / "segue-demo" / "warm-ambient-pad.wav")) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(20, abs=1)


@pytest.mark.e2e
@pytest.mark.timeout(200)
@pytest.mark.parametrize("after_s", [0.5, 2.0, 4.0])
def test_ctrl_c_leaves_nothing_behind(shell: Any, after_s: float) -> None:
    demo = shell.start("demo")
    time.sleep(after_s)
    code = demo.stop(signal.SIGINT)
    assert code in (1, 130, -signal.SIGINT)


@pytest.mark.e2e
@pytest.mark.timeout(200)
def test_ctrl_c_while_the_job_runs_leaves_nothing_behind(shell: Any) -> None:
    demo = shell.start("demo")
    demo.until("submitted to replicate")
    assert demo.stop(signal.SIGINT) == 130
    assert "nothing is left running" in demo.printed()
