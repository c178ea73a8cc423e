"""fal.ai."""

from __future__ import annotations

from typing import Final

from contracts.providers.spec import Ed25519Jwks, ProviderSpec, Setting

FAL: Final = ProviderSpec(
    name="fal",
    title="fal",
    listing="fal lists an endpoint's requests at fal.ai/dashboard",
    # https://fal.ai/docs/documentation/model-apis/inference/webhooks
    signature=Ed25519Jwks(
        header_prefix="x-fal-webhook-",
        jwks_url=Setting(
            name="FAL_JWKS_URL",
            default="https://rest.fal.ai/.well-known/jwks.json",
            description="Where the keys are that fal signs webhooks with.",
        ),
    ),
    # gateway_request_id differs for each of fal's own retries.
    run_id_key="request_id",
    parameter_prefix="fal_",
    api_urls=("queue.fal.run", "queue.falrun.com"),
    never_sent={"sync_mode": "returns data URIs instead of files"},
    settings=(
        "FAL_KEY",
        "FAL_API_KEY",
        "FAL_API_URL",
        "FAL_RUN_HOST",
        "FAL_QUEUE_RUN_HOST",
        "FAL_JWKS_URL",
        "SEGUE_FAL_CONCURRENT_RUNS",
        "SEGUE_FAL_SUBMITS_PER_MINUTE",
    ),
    secrets=("FAL_KEY", "FAL_API_KEY"),
    keys=("FAL_KEY", "FAL_API_KEY"),
)
