"""The book of bills: every POST a provider decided about, and what each accepted one came to cost."""

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
    """The caller's own attempt id, as its callback address or its tags carry it."""
    found = _CALLBACK.search(webhook) if webhook else None
    found = found or (_TAG.search(tags) if tags else None)
    return found.group(1).strip() if found else None


@dataclass(frozen=True)
class Post:
    """One POST to a submit endpoint at the moment it was decided; `status` is None where no answer was given."""

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
    """How an accepted job ended and what its provider charges for it."""

    at: float
    provider: Provider
    endpoint: str
    request_id: str
    event: str
    outcome: str
    billed_usd: float


class Bills:
    """Keeps the entries in memory and, flushed line by line, in a JSON-lines file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._entries: list[dict[str, Any]] = []
        self._open: set[str] = set()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Bills"]:
        """Appends to the book at `path`."""
        with path.open("a", encoding="utf-8") as file:
            yield cls(file)

    def post(self, entry: Post) -> None:
        """Books a decision; must come before the answer to it."""
        if entry.accepted and entry.request_id:
            self._open.add(entry.request_id)
        self._write({"event": "post"} | asdict(entry))

    def ending(self, entry: Ending) -> None:
        """Books the end of a job, unless the book was reset after that job was accepted."""
        if entry.request_id in self._open:
            self._open.remove(entry.request_id)
            self._write(asdict(entry))

    def reset(self) -> None:
        """Empties the book, in memory and on disk."""
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
