"""The unusual answers in `odd_answers.yaml`, each sent by a server to the real client of its provider."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic_core import to_json

from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    Callback,
    CallbackRefused,
    Missing,
    NoAnswer,
    NotSent,
    OutputPending,
    Produced,
    ProviderRef,
    Refused,
    Running,
    Stopped,
    Throttled,
    Unclear,
    Unreadable,
    Waiting,
)
from adapter_kit.port.provider import Run
from contracts.failures import FAILURES, FailureKind
from contracts.ids import AttemptId
from fal_adapter.reading import read_callback as read_fal
from replicate_adapter.reading import read_callback as read_replicate

READ: Final = {"fal": read_fal, "replicate": read_replicate}
OUTCOMES: Final[Mapping[str, type]] = {
    "accepted": Accepted,
    "throttled": Throttled,
    "unclear": Unclear,
    "not_sent": NotSent,
    "waiting": Waiting,
    "running": Running,
    "produced": Produced,
    "missing": Missing,
    "stopped": Stopped,
    "no_answer": NoAnswer,
    "pending": OutputPending,
    "unreadable": Unreadable,
}
PLACES: Final = {
    "fal": {"submit", "status", "result", "webhook"},
    "replicate": {"submit", "prediction", "webhook"},
}


@dataclass(frozen=True)
class Row:
    """One answer, and its expected outcome."""

    provider: str
    name: str
    said: str
    expect: str
    source: str
    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=lambda: {"status": "COMPLETED"})
    prompt: str = "Warm ambient pad"
    moves_on: bool | None = None
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.said}: {self.name}".replace("'", "")


ROWS: Final = [
    Row(provider, **row)
    for provider, rows in yaml.load(
        Path(__file__).with_name("odd_answers.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader
    ).items()
    for row in rows
]
ASKED: Final = [row for row in ROWS if row.said != "webhook"]


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_there_are_fifty_of_each_and_each_has_a_source(provider: str) -> None:
    rows = [row for row in ROWS if row.provider == provider]
    assert len(rows) >= 50
    assert {row.said for row in rows} == PLACES[provider]
    assert Counter(str(row) for row in rows).most_common(1)[0][1] == 1
    assert all(row.source.startswith(("https://", "field report: ")) for row in rows)


@pytest.mark.parametrize("row", [row for row in ROWS if row.expect in list(FailureKind)], ids=str)
def test_a_row_agrees_with_the_traits_of_its_kind(row: Row) -> None:
    traits = FAILURES[FailureKind(row.expect)]
    assert row.moves_on is traits.moves_on
    assert not (traits.callers_fault and traits.breaker)


def arguments(row: Row) -> dict[str, Any]:
    return {"prompt": row.prompt}


async def outcome_of(row: Row, kind: Any, raw: Any, opened: Any, http: Any) -> Any:
    """The outcome that the provider's client returns for the row."""
    answer = http(row.status, row.body, **{name.replace("-", "_"): value for name, value in row.headers.items()})
    first = http(200, row.after) if row.said == "result" else answer
    async with raw(first, then=answer) as server, opened(server.port) as provider:
        if row.said == "submit":
            webhook_url = "https://segue.example/callbacks/x" if row.expect == "callback_refused" else None
            outcome = await provider.submit(kind.submission(arguments=arguments(row), webhook_url=webhook_url))
            assert server.posts == 1
        else:
            ref = ProviderRef("abc123", {})
            asked = Run(AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1"), kind.endpoint, "music", ref)
            outcome = await provider.check(replace(asked, arguments=arguments(row)))
            assert server.posts == 0
    return outcome


@pytest.mark.parametrize(
    ("kind", "row"), [pytest.param(row.provider, row, id=f"{row.provider}-{row}") for row in ASKED], indirect=["kind"]
)
async def test_an_unusual_answer_has_the_expected_outcome(
    row: Row, kind: Any, raw: Any, opened: Any, http: Any
) -> None:
    outcome = await outcome_of(row, kind, raw, opened, http)
    if row.expect in OUTCOMES:
        assert type(outcome) is OUTCOMES[row.expect]
    else:
        failed = CallbackRefused if row.expect == "callback_refused" else Refused
        assert type(outcome) is (failed if row.said == "submit" else Broken)
        assert outcome.failure.kind == row.expect
        assert outcome.failure.message.strip()
    if isinstance(outcome, Accepted | Produced):
        assert b"\\u0000" not in to_json(outcome), "PostgreSQL cannot hold a NUL, nor half of a surrogate pair"
    if row.retry_after_s is not None:
        assert outcome.retry_after_s == row.retry_after_s


@pytest.mark.parametrize("row", [row for row in ROWS if row.said == "webhook"], ids=lambda row: f"{row.provider}-{row}")
def test_the_run_is_read_from_an_unusual_callback(row: Row) -> None:
    said = READ[row.provider](json.dumps(row.body))
    if row.expect == "nothing":
        assert said is None
    else:
        assert isinstance(said, Callback)
        assert (said.ref.request_id, said.over) == ("abc123", row.expect == "over")
