"""The list of attempts for operators, and arguments that are refused before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from segue_cli.views.attempts import attempts_list, told_apart

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
JOB = "c1b0c5a4-8a3e-5f51-9a5d-0d7a6f1d2f3e"


def attempt(**more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "id": f"{JOB}.12",
        "job_id": JOB,
        "provider": "replicate",
        "state": "ambiguous",
        "ambiguous": True,
        "late": False,
        "provider_ref": None,
        "error_kind": None,
        "message": None,
        "cost_usd": None,
        "price_usd": 0.03,
        "look_for": "a run of minimax/music-1.5, made at 2026-03-10 11:57:00 UTC or just after, with the prompt "
        "“Slow country ballad, acoustic guitar, warm voice”. Replicate lists predictions at replicate.com/predictions.",
        "submitting_at": "2026-03-10T11:57:00Z",
        "resolve_by": "2026-03-10T12:06:00Z",
        "job_status": "queued",
        "job_deadline_at": "2026-03-10T12:27:00Z",
    }
    return known | more


def shown(*attempts: dict[str, Any]) -> str:
    out = StringIO()
    Console(file=out, width=80, color_system=None).print(attempts_list(attempts, NOW))
    return out.getvalue()


def test_the_list_fits_80_columns_and_says_what_to_look_for() -> None:
    failed = attempt(state="failed", error_kind="ambiguous_submission", job_status="failed")
    known = attempt(state="succeeded", ambiguous=False, look_for=None, cost_usd=0.5, submitting_at=None)
    printed = shown(attempt(), failed, known)
    assert max(map(len, printed.splitlines())) <= 80
    first = next(line for line in printed.splitlines() if JOB in line)
    assert first.split() == [f"{JOB}.12", "replicate", "ambiguous", "3", "min", "$0.03"]
    words = " ".join(printed.split())
    assert words.count("Look for a run of minimax/music-1.5") == 2
    assert (
        "Once the provider's list answers and shows no run, it counts as never accepted, at 12:06:00 UTC at the"
        " earliest. The job's deadline is at 12:27:00 UTC." in words
    )
    assert "The job is failed, and stays so." in words
    assert printed.splitlines()[-1].split()[-2:] == ["-", "$0.50"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"state": "succeeded", "ambiguous": False, "cost_usd": 0.2}, "replicate made it, and it cost $0.20"),
        (
            {"state": "succeeded", "ambiguous": False, "late": True, "cost_usd": 0.2, "job_status": "failed"},
            "kept on the attempt, and it cost $0.20; its job had gone on without it, and is failed",
        ),
        ({"state": "failed", "ambiguous": False, "error_kind": "never_accepted", "cost_usd": 0.0}, "it cost $0.00;"),
        ({"state": "failed", "job_status": "failed"}, "does not know more yet"),
        ({"state": "cancelled", "ambiguous": False, "provider_ref": "r1"}, "what it cost is not known"),
        ({"state": "ambiguous"}, "has not confirmed your report yet"),
        ({"state": "running", "ambiguous": False, "provider_ref": "r1"}, "It runs at replicate as r1"),
    ],
)
def test_the_result_of_an_attempt_is_printed_with_its_job_and_its_cost(what: dict[str, Any], words: str) -> None:
    resolved = attempt(**what)
    assert words in told_apart(resolved, settled=not resolved["ambiguous"])


@pytest.mark.parametrize("words", [(), ("--accepted", "x", "--never-accepted")])
def test_a_resolution_is_one_of_two(shell: Any, words: tuple[str, ...]) -> None:
    done = shell.run("attempts", "resolve", f"{JOB}.1", *words, "--api", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "--never-accepted" in done.stdout


@pytest.mark.parametrize("words", [("cancel", "x"), ("attempts",), ("attempts", "resolve", "x", "--accepted", "y")])
def test_without_an_api_the_message_names_segue_up(shell: Any, words: tuple[str, ...]) -> None:
    done = shell.run(*words, "--api", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "segue up" in done.stdout
    assert "Traceback" not in done.stdout
