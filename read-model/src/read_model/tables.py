"""The tables of current state as data: each column with the rule by which two reports about the same row merge.

Every rule is commutative, associative and idempotent over the reports that Segue's services make, so the rows do not
depend on the order in which topics, redeliveries and replays deliver the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Row = Mapping[str, Any]
"""One report: the values of the columns that it reports, by name."""

Rule = Literal["once", "earliest", "highest", "latest"]
"""The reported value that is kept: the first that is not null, the smallest, the largest, or the one with the highest
version."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its PostgreSQL type, and the rule by which reports about it merge."""

    name: str
    type: str
    rule: Rule
    by: str = "version"
    """The column that holds the version, for the rule `latest`."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of current state: one row for each key. Tables are compared by identity, which makes them fast as keys of
    dictionaries."""

    name: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, without the keys."""
        return tuple(column.name for column in self.columns)


def columns(rule: Rule, names_and_types: str, by: str = "version") -> list[Column]:
    """Columns with one rule, from text such as `status:text cost_usd:float8`."""
    pairs = (pair.split(":") for pair in names_and_types.split())
    return [Column(name, kind, rule, by) for name, kind in pairs]


JOBS: Final = Table(
    "jobs",
    ("job_id",),
    (
        *columns("once", "track_id:text tenant:text requested_model:text providers:jsonb modality:text input:jsonb"),
        *columns("once", "fingerprint:text metadata:jsonb origin:text requested_at:timestamptz trace_id:text"),
        *columns("earliest", "first_at:timestamptz started_at:timestamptz cancel_asked_at:timestamptz"),
        *columns("highest", "version:bigint plan_version:bigint placed_version:bigint updated_at:timestamptz"),
        *columns("latest", "plan:jsonb skipped:jsonb planned_model:text deadline_at:timestamptz", "plan_version"),
        *columns("latest", "provider:text attempt_id:text", "placed_version"),
        *columns("latest", "status:text error:jsonb cancel_effect:text cost_usd:float8 finished_at:timestamptz"),
    ),
)
ATTEMPTS: Final = Table(
    "attempts",
    ("attempt_id",),
    (
        *columns("once", "job_id:text track_id:text n:integer provider:text model:text endpoint:text"),
        *columns("once", "provider_ref:text trace_id:text"),
        *columns("earliest", "first_at:timestamptz submitting_at:timestamptz submitted_at:timestamptz"),
        *columns("highest", "version:bigint updated_at:timestamptz"),
        *columns("latest", "state:text error_kind:text error_code:text message:text http_status:integer"),
        *columns("latest", "accepted:boolean late:boolean cost_usd:float8 queue_position:bigint"),
        *columns("latest", "resolve_by:timestamptz finished_at:timestamptz"),
    ),
)
TRACKS: Final = Table(
    "tracks",
    ("track_id",),
    (
        *columns("once", "job_id:text tenant:text modality:text requested_at:timestamptz"),
        *columns("earliest", "first_at:timestamptz"),
        *columns("highest", "version:bigint updated_at:timestamptz"),
        *columns("latest", "status:text attempt_id:text provider:text model:text artifact_name:text"),
        *columns("latest", "content_type:text duration_s:float8 finished_at:timestamptz"),
    ),
)
ARTIFACTS: Final = Table(
    "artifacts",
    ("attempt_id", "name"),
    (
        *columns("once", "job_id:text content_type:text size_bytes:bigint sha256:text"),
        *columns("once", "duration_s:float8 width:integer height:integer"),
        *columns("earliest", "made_at:timestamptz"),
    ),
)
STATE: Final = (JOBS, TRACKS, ATTEMPTS, ARTIFACTS)
"""The tables, in the order in which a transaction writes them."""
