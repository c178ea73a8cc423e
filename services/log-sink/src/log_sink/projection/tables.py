"""The sink's tables as data: each column with the rule by which two reports about the same thing become one row.

Every rule is commutative, associative and idempotent over the reports that Segue's services make, so the rows come out
the same whatever the order in which topics, redeliveries and replays bring them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

Row = Mapping[str, Any]
"""One report: the columns it knows, by name; it says nothing about the others."""


Rule = Literal["once", "earliest", "highest", "latest"]
"""Of all that is reported: the first that is known, the smallest, the largest, or what has the highest version."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its Postgres type, and how reports about it merge."""

    name: str
    type: str
    rule: Rule
    by: str = "version"

    @property
    def handed_over(self) -> str:
        """The type it has as an argument: asyncpg would take an array of JSON lists for one of two dimensions."""
        return "text" if self.type == "jsonb" else self.type

    @property
    def _cast(self) -> str:
        return "::jsonb" if self.type == "jsonb" else ""

    def argument(self, value: Any) -> Any:
        """A value as an argument."""
        return json.dumps(value) if self.type == "jsonb" and value is not None else value

    def folded(self) -> str:
        """The one value of a batch's reports."""
        match self.rule:
            case "once":
                return f"(array_agg({self.name} ORDER BY place) FILTER (WHERE {self.name} IS NOT NULL))[1]{self._cast}"
            case "earliest":
                return f"min({self.name})"
            case "highest":
                return f"max({self.name})"
            case "latest":
                return f"(array_agg({self.name} ORDER BY {self.by} DESC NULLS LAST))[1]{self._cast}"

    def merged(self) -> str:
        """The stored value and the batch's, as one."""
        new, old = f"excluded.{self.name}", f"t.{self.name}"
        match self.rule:
            case "once":
                return f"coalesce({old}, {new})"
            case "earliest":
                return f"least({old}, {new})"
            case "highest":
                return f"greatest({old}, {new})"
            case "latest":
                newer = f"t.{self.by} IS NULL OR excluded.{self.by} > t.{self.by}"
                return f"CASE WHEN {newer} THEN {new} ELSE {old} END"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of current state: one row for each key."""

    name: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]

    def arguments(self, rows: Sequence[Row]) -> list[list[Any]]:
        """What `upsert` takes for these reports: one array for each column."""
        keys = [[row[key] for row in rows] for key in self.keys]
        return keys + [[column.argument(row.get(column.name)) for row in rows] for column in self.columns]


@cache
def upsert(table: Table) -> str:
    """The statement that merges any number of reports, several of one key too, into a table."""
    names = [*table.keys, *(column.name for column in table.columns)]
    types = ["text"] * len(table.keys) + [column.handed_over for column in table.columns]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(types, 1))
    keys = ", ".join(table.keys)
    # Rows are locked in the order of their keys, so that two writers never wait for each other in a circle.
    return f"""
        INSERT INTO {table.name} AS t ({", ".join(names)})
        SELECT {", ".join([*table.keys, *(column.folded() for column in table.columns)])}
        FROM unnest({arrays}) WITH ORDINALITY AS report ({", ".join(names)}, place)
        GROUP BY {keys} ORDER BY {keys}
        ON CONFLICT ({keys}) DO UPDATE SET {", ".join(f"{c.name} = {c.merged()}" for c in table.columns)}
    """  # noqa: S608 - made of the names in this module only


def _columns(rule: Rule, names_and_types: str, by: str = "version") -> list[Column]:
    pairs = (pair.split(":") for pair in names_and_types.split())
    return [Column(name, kind, rule, by) for name, kind in pairs]


JOBS: Final = Table(
    "jobs",
    ("job_id",),
    (
        *_columns("once", "track_id:text tenant:text requested_model:text providers:jsonb modality:text input:jsonb"),
        *_columns("once", "fingerprint:text metadata:jsonb origin:text requested_at:timestamptz trace_id:text"),
        *_columns("earliest", "first_at:timestamptz started_at:timestamptz cancel_asked_at:timestamptz"),
        *_columns("highest", "version:bigint plan_version:bigint placed_version:bigint updated_at:timestamptz"),
        *_columns("latest", "plan:jsonb skipped:jsonb planned_model:text deadline_at:timestamptz", "plan_version"),
        *_columns("latest", "provider:text attempt_id:text", "placed_version"),
        *_columns("latest", "status:text error:jsonb cancel_effect:text cost_usd:float8 finished_at:timestamptz"),
    ),
)
ATTEMPTS: Final = Table(
    "attempts",
    ("attempt_id",),
    (
        *_columns("once", "job_id:text track_id:text n:integer provider:text model:text endpoint:text"),
        *_columns("once", "provider_ref:text trace_id:text"),
        *_columns("earliest", "first_at:timestamptz submitting_at:timestamptz submitted_at:timestamptz"),
        *_columns("highest", "version:bigint updated_at:timestamptz"),
        *_columns("latest", "state:text error_kind:text error_code:text message:text http_status:integer"),
        *_columns("latest", "accepted:boolean late:boolean cost_usd:float8 queue_position:bigint"),
        *_columns("latest", "resolve_by:timestamptz finished_at:timestamptz"),
    ),
)
TRACKS: Final = Table(
    "tracks",
    ("track_id",),
    (
        *_columns("once", "job_id:text tenant:text modality:text requested_at:timestamptz"),
        *_columns("earliest", "first_at:timestamptz"),
        *_columns("highest", "version:bigint updated_at:timestamptz"),
        *_columns("latest", "status:text attempt_id:text provider:text model:text artifact_name:text"),
        *_columns("latest", "content_type:text duration_s:float8 finished_at:timestamptz"),
    ),
)
ARTIFACTS: Final = Table(
    "artifacts",
    ("attempt_id", "name"),
    (
        *_columns("once", "job_id:text content_type:text size_bytes:bigint sha256:text"),
        *_columns("once", "duration_s:float8 width:integer height:integer"),
        *_columns("earliest", "made_at:timestamptz"),
    ),
)
STATE: Final = (JOBS, TRACKS, ATTEMPTS, ARTIFACTS)
"""In the order in which a transaction writes them."""
