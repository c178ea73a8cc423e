"""What the calls of one gateway process share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from chassis.artifacts import ArtifactStore
from chassis.runtime.runtime import Runtime
from contracts.catalogue import Catalogue
from contracts.generation import Provider
from gateway.clocks import Clocks
from gateway.intake.idempotency import Fingerprints
from gateway.queries.lookup import Lookup
from gateway.queries.provider_health import HealthReader
from gateway.queries.provider_status import Seen
from gateway.queries.single_flight import SingleFlight
from gateway.queries.tail import JobTail
from gateway.settings import GatewaySettings
from gateway.signatures.verifier import Verifier
from gateway.views.jobs import Presenter

if TYPE_CHECKING:
    from faststream.kafka import KafkaBroker

    from gateway.queries.await_completion import CompletionWaiters

TENANT = "default"
"""Whose jobs these are; there is one tenant until there are keys."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a gateway, wired."""

    settings: GatewaySettings
    runtime: Runtime
    catalogue: Catalogue
    broker: KafkaBroker
    clocks: Clocks
    tail: JobTail
    lookup: Lookup
    fingerprints: Fingerprints
    health: HealthReader
    providers: SingleFlight[Seen]
    store: ArtifactStore
    present: Presenter
    waiters: CompletionWaiters
    verifiers: Mapping[Provider, Verifier]
    """Of providers' webhooks; none where callbacks are switched off."""


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
