"""The bills: every POST with the provider's decision, and the final price of each accepted one."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from sandbox.http.responses import Provider

_CALLBACK = re.compile(r"/api/callbacks/[^/?#]+/([^/?#]+)/[^/?#]+/?(?:[?#]|$)")
_TAG = re.compile(r"(?:^|,)\s*segue-attempt=([^,]+)")


def attempt_of(webhook: str | None, tags: str | None) -> str | None:
    """The caller's attempt id, from its callback URL or its tags; None if neither contains one."""
    found = _CALLBACK.search(webhook) if webhook else None
    found = found or (_TAG.search(tags) if tags else None)
    return found.group(1).strip() if found else None


@dataclass(frozen=True)
class Post:
    """One POST to a submit endpoint at the time of its decision; `status` is None if no answer was sent."""

    at: float
    provider: Provider
    endpoint: str
    accepted: bool
    status: int | None
    request_id: str | None
    webhook: str | None
    attempt_id: str | None
    input: Any
    price_usd: float


@dataclass(frozen=True)
class Ending:
    """How an accepted job ended, and what its provider charges for it."""

    at: float
    provider: Provider
    endpoint: str
    request_id: str
    event: str
    outcome: str
    billed_usd: float


class Bills:
    """Keeps the entries in memory and in a JSON-lines file, which is flushed after each line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._entries: list[dict[str, Any]] = []
        self._open: set[str] = set()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Bills"]:
        """Opens the file at `path` for appending."""
        with path.open("a", encoding="utf-8") as file:
            yield cls(file)

    def post(self, entry: Post) -> None:
        """Records a decision; must be called before the answer is sent."""
        if entry.accepted and entry.request_id:
            self._open.add(entry.request_id)
        self._write({"event": "post"} | asdict(entry))

    def ending(self, entry: Ending) -> None:
        """Records the end of a job, unless the bills were reset after that job was accepted."""
        if entry.request_id in self._open:
            self._open.remove(entry.request_id)
            self._write(asdict(entry))

    def reset(self) -> None:
        """Removes all entries, in memory and on disk."""
        self._entries.clear()
        self._open.clear()
        self._file.truncate(0)

    def as_json(self) -> dict[str, Any]:
        """All entries in order, with totals per provider."""
        return {"entries": self._entries, "totals": {name: self._totals(name) for name in ("fal", "replicate")}}

    def _totals(self, provider: str) -> dict[str, float]:
        mine = [entry for entry in self._entries if entry["provider"] == provider]
        posts = [entry for entry in mine if entry["event"] == "post"]
        accepted = sum(entry["accepted"] for entry in posts)
        endings = [entry for entry in mine if entry["event"] != "post"]
        return {
            "posts": len(posts),
            "accepted": accepted,
            "refused": len(posts) - accepted,
            "open": accepted - len(endings),
            "billed_usd": round(sum(entry["billed_usd"] for entry in endings), 6),
        }

    def _write(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
