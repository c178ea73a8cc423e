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
from gateway.fresh import Fresh
from gateway.health import HealthReader
from gateway.idempotency import Fingerprints
from gateway.lookup import Lookup
from gateway.present import Presenter
from gateway.provider_reads import Seen
from gateway.settings import GatewaySettings
from gateway.tail import JobTail
from gateway.verifying import Verifier

if TYPE_CHECKING:
    from faststream.kafka import KafkaBroker

    from gateway.waiting import Waiters

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
    providers: Fresh[Seen]
    store: ArtifactStore
    present: Presenter
    waiters: Waiters
    verifiers: Mapping[Provider, Verifier]
    """Of providers' webhooks; none where callbacks are switched off."""


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Here = Annotated[Gateway, Depends(_gateway)]
