"""Composition of the fal adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapter_kit.breaker.policy import Limits
from adapter_kit.service import adapter
from chassis.runtime.runtime import Runtime
from fal_adapter.settings import FalSettings

PROBE_ENDPOINT = "fal-ai/stable-audio-25/text-to-audio"
RESULTS_KEPT_S = 3_600.0
"""Seconds that fal keeps a small result: https://fal.ai/docs/inference-api/queue/result."""


@asynccontextmanager
async def app(settings: FalSettings, runtime: Runtime) -> AsyncIterator[None]:
    """Run the adapter for as long as the block lasts. Raises CannotStart."""
    # The SDK reads its hosts from the environment when it is imported; `.env` has been loaded by now.
    from fal_adapter.output_hosts import output_hosts
    from fal_adapter.provider import fal_provider
    from fal_adapter.transport import sdk_version

    provider = fal_provider(
        settings.fal_key.get_secret_value(),
        api_url=settings.fal_api_url,
        submit_timeout_s=settings.submit_timeout_s,
    )
    async with adapter(
        settings,
        runtime,
        "fal",
        provider,
        sdk=f"fal-client {sdk_version()}",
        probe_endpoint=PROBE_ENDPOINT,
        limits=Limits(settings.concurrent_runs, settings.submits_per_minute),
        results_kept_s=RESULTS_KEPT_S,
        output_hosts=output_hosts(),
    ):
        yield
