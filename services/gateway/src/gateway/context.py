"""The components that the endpoints of one gateway process share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from chassis.artifacts import ArtifactStore
from chassis.runtime.runtime import Runtime
from contracts.catalogue import Catalogue
from contracts.generation import Provider
from gateway.clocks import Clocks
from gateway.intake.idempotency import Fingerprints
from gateway.intake.publisher import PUBLISH_LIMIT_S, Publisher
from gateway.places import Places
from gateway.queries.await_completion import Completion
from gateway.queries.lookup import Lookup
from gateway.queries.provider_status import HealthReader, ProviderStatusReader
from gateway.queries.tail import JobTail
from gateway.settings import GatewaySettings
from gateway.signatures.verifier import Verifier
from gateway.views.jobs import Presenter

TENANT = "default"
"""The owner of all jobs: there is only one tenant until the API has keys."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The components of a gateway."""

    settings: GatewaySettings
    runtime: Runtime
    catalogue: Catalogue
    clocks: Clocks
    tail: JobTail
    lookup: Lookup
    publisher: Publisher
    completion: Completion
    fingerprints: Fingerprints
    health: HealthReader
    providers: ProviderStatusReader
    store: ArtifactStore
    downloads: Places
    """For the requests that read from the store."""
    present: Presenter
    verifiers: Mapping[Provider, Verifier]
    """The verifiers of providers' callbacks; none if callbacks are switched off."""


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def publish_deadline() -> float:
    """The time, by the loop's clock, until which Kafka has to confirm the message of a request that begins now."""
    return asyncio.get_running_loop().time() + PUBLISH_LIMIT_S


async def _publish_deadline() -> float:
    return publish_deadline()


GatewayDep = Annotated[Gateway, Depends(_gateway)]
PublishDeadline = Annotated[float, Depends(_publish_deadline)]
"""The publish deadline, counted from the moment at which FastAPI resolves the parameter."""
