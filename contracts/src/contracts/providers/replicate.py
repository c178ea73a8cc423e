"""Replicate."""

from __future__ import annotations

from typing import Final

from contracts.providers.spec import ProviderSpec, Setting, StandardWebhooks

REPLICATE: Final = ProviderSpec(
    name="replicate",
    title="Replicate",
    listing="Replicate lists predictions at replicate.com/predictions",
    # https://replicate.com/docs/topics/webhooks/verify-webhook
    signature=StandardWebhooks(
        secret=Setting(
            name="REPLICATE_WEBHOOK_SIGNING_SECRET",
            description="What Replicate signs webhooks with, whsec_…; several, with commas between them, "
            "while it changes.",
        ),
        api_token=Setting(
            name="REPLICATE_API_TOKEN",
            description="Replicate's API token: it fetches the signing secret where that is not set.",
        ),
        api_url=Setting(
            name="REPLICATE_BASE_URL",
            default="https://api.replicate.com",
            description="The base of Replicate's API, without /v1.",
        ),
        secret_path="/v1/webhooks/default/secret",  # noqa: S106 - a path
    ),
    # https://replicate.com/docs/topics/webhooks
    run_id_key="id",
    address_key="webhook",
    # https://replicate.com/docs/reference/http#predictions.create
    version_pattern=r"[0-9a-f]{64}",
    api_urls=("api.replicate.com/v1/predictions", "stream.replicate.com"),
    settings=(
        "REPLICATE_API_TOKEN",
        "REPLICATE_BASE_URL",
        "REPLICATE_WEBHOOK_SIGNING_SECRET",
        "SEGUE_REPLICATE_CONCURRENT_RUNS",
        "SEGUE_REPLICATE_SUBMITS_PER_MINUTE",
    ),
    secrets=("REPLICATE_API_TOKEN", "REPLICATE_WEBHOOK_SIGNING_SECRET"),
    keys=("REPLICATE_API_TOKEN",),
)
