"""The golden examples of messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.documents.generate import repository
from contracts.envelope import Envelope, decode
from contracts.messages.base import Message


@dataclass(frozen=True)
class Example:
    path: Path
    topic: str
    headers: dict[str, str]
    key: str
    value: dict[str, Any]

    def decoded(self) -> Envelope:
        raw = [(name, value.encode()) for name, value in self.headers.items()]
        decoded = decode(raw, json.dumps(self.value).encode())
        assert isinstance(decoded, Envelope)
        return decoded


def _examples() -> list[Example]:
    paths = sorted((repository() / "contracts" / "examples").glob("*/*.json"))
    return [Example(path, **json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "example" in metafunc.fixturenames:
        examples = _examples()
        metafunc.parametrize(
            "example", examples, ids=[f"{each.path.parent.name}/{each.path.stem}" for each in examples]
        )


@pytest.fixture(scope="session")
def example_messages() -> list[Message]:
    return [each.decoded().message for each in _examples()]
