"""Composition of the Replicate adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapter_kit.breaker.policy import Limits
from adapter_kit.service import adapter
from chassis.runtime.runtime import Runtime
from replicate_adapter.output_hosts import output_hosts
from replicate_adapter.provider import replicate_provider
from replicate_adapter.settings import ReplicateSettings
from replicate_adapter.transport import sdk_version

PROBE_ENDPOINT = "stability-ai/stable-audio-2.5"
RESULTS_KEPT_S = 3_600.0
"""Seconds after which Replicate deletes outputs: https://replicate.com/docs/topics/predictions/data-retention."""


@asynccontextmanager
async def app(settings: ReplicateSettings, runtime: Runtime) -> AsyncIterator[None]:
    """Run the adapter for as long as the block lasts. Raises CannotStart."""
    provider = replicate_provider(
        settings.replicate_api_token.get_secret_value(),
        base_url=settings.replicate_base_url,
        submit_timeout_s=settings.submit_timeout_s,
    )
    async with adapter(
        settings,
        runtime,
        "replicate",
        provider,
        sdk=f"replicate {sdk_version()}",
        probe_endpoint=PROBE_ENDPOINT,
        limits=Limits(settings.concurrent_runs, settings.submits_per_minute),
        results_kept_s=RESULTS_KEPT_S,
        output_hosts=output_hosts(settings.replicate_base_url),
    ):
        yield
