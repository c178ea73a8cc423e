"""The schema map: every schema in PostgreSQL with its service, and who else may read what in it. The only such list.

Grants are generated from it (`segue roles`), and a service checks its own at its start. A service writes to its own
schema only; in another's it reads views, whose columns only ever grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from contracts.providers.registry import PROVIDERS
from contracts.topics import ServiceName

Views = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema of the map."""

    name: str
    service: ServiceName
    """The service that reads and writes its tables."""
    package: str
    """The package with its migrations."""
    read_by: Mapping[ServiceName, Views] = field(default_factory=dict)
    """The views that other services read, by service."""
    for_people: Views = ()
    """The views that a person may read: none has a key, a signed address or a raw message."""


_READ_MODEL: Final = ("v_jobs", "v_attempts", "v_tracks", "v_artifacts", "v_job_log")
_PROVIDER_VIEWS: Final = ("v_health", "v_free_probe", "v_gates", "v_load", "v_callbacks")
_HEARTBEATS: Final = ("v_heartbeat",)

SCHEMAS: Final[tuple[Schema, ...]] = (
    Schema("orchestrator", "orchestrator", "orchestrator"),
    *(
        Schema(
            spec.schema,
            spec.service,
            "adapter_kit",
            read_by={"gateway": _PROVIDER_VIEWS, "orchestrator": _HEARTBEATS},
            for_people=(*_PROVIDER_VIEWS, *_HEARTBEATS),
        )
        for spec in PROVIDERS.values()
    ),
    Schema("log_sink", "log-sink", "log_sink", read_by={"gateway": _READ_MODEL}, for_people=_READ_MODEL),
    Schema("gateway", "gateway", "gateway"),
)


def read_elsewhere(schema: str) -> tuple[str, ...]:
    """What the service of a schema reads in other schemas, as `schema.view`; nothing for a schema not of the map."""
    services = {each.service for each in SCHEMAS if each.name == schema}
    return tuple(
        f"{each.name}.{view}" for each in SCHEMAS for service in services for view in each.read_by.get(service, ())
    )
