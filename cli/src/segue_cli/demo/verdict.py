"""The claims of the demo, checked against what happened. Pure."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from segue_cli.views.jobs import short

ASKED_S: Final = 20.0
TOLERANCE_S: Final = 1.0
REFUSAL: Final = "Exhausted balance"


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement that has to be true, and what was found."""

    text: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Sound:
    """The properties of the audio file on disk."""

    path: Path
    seconds: float
    sha256: str


def listen(path: Path) -> Sound:
    """Read the file as a player does. Raises wave.Error if it is not playable."""
    with wave.open(str(path)) as file:
        frames = file.readframes(file.getnframes())
        seconds = len(frames) / (file.getframerate() * file.getsampwidth() * file.getnchannels())
    return Sound(path, seconds, sha256(path.read_bytes()).hexdigest())


def claims(
    job: Mapping[str, Any], log: Sequence[Mapping[str, Any]], bills: Mapping[str, Any], sound: Sound | None
) -> list[Claim]:
    """All claims of the demo, each with its result."""
    attempts = job["attempts"]
    first = attempts[0] if attempts else {}
    status = answered(bills, "fal")
    refused = (
        (first.get("provider"), first.get("state")) == ("fal", "failed")
        and (first.get("error_kind"), status) == ("insufficient_balance", HTTPStatus.FORBIDDEN)
        and REFUSAL in (first.get("message") or "")
    )
    fal, replicate = bills["totals"]["fal"], bills["totals"]["replicate"]
    events = [short(entry["event"]) for entry in log]
    digest = job["artifacts"][0]["sha256"] if job["artifacts"] else None
    return [
        Claim("the job succeeded", job["status"] == "succeeded", f"{job['status']}, {_reason(job)}"),
        Claim("fal refused it with 403, for want of balance", refused, f"{status}, {first}"),
        Claim("fal bills nothing", fal["accepted"] == 0 and fal["billed_usd"] == 0 and fal["posts"] == 1, str(fal)),
        Claim("Replicate made it", job["provider"] == "replicate" and len(attempts) == 2, f"by {job['provider']}"),
        Claim(
            "Replicate accepted one run and bills it once",
            replicate["posts"] == replicate["accepted"] == 1 and replicate["open"] == 0 and replicate["billed_usd"] > 0,
            str(replicate),
        ),
        Claim("each step is in the job's log", set(_TOLD) <= set(events), ", ".join(events)),
        Claim(
            f"the audio is {ASKED_S:.0f} s long",
            sound is not None and abs(sound.seconds - ASKED_S) <= TOLERANCE_S,
            f"{sound.seconds:.2f} s" if sound else "no file",
        ),
        Claim("the file is the one that was stored", sound is not None and sound.sha256 == digest, f"SHA-256 {digest}"),
    ]


def answered(bills: Mapping[str, Any], provider: str) -> int | None:
    """The HTTP status of the provider's last answer to a POST; None if there was none."""
    posts = [each for each in bills["entries"] if each["event"] == "post" and each["provider"] == provider]
    return posts[-1]["status"] if posts else None


_TOLD: Final = (
    "attempt.submitting",
    "attempt.failed",
    "job.rerouted",
    "attempt.submitted",
    "attempt.succeeded",
    "job.succeeded",
)


def _reason(job: Mapping[str, Any]) -> str:
    error = job["error"]
    return f"{error['kind']}: {error['message']}" if error else "no error"
