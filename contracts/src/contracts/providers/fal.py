"""fal.ai."""

from __future__ import annotations

from typing import Final

from contracts.providers.spec import ProviderSpec

FAL: Final = ProviderSpec(
    name="fal",
    title="fal",
    listing="fal lists an endpoint's requests at fal.ai/dashboard",
    # Its gateway_request_id is another one for each of fal's own tries:
    # https://fal.ai/docs/documentation/model-apis/inference/webhooks
    run_id_key="request_id",
    never_sent={"sync_mode": "returns data URIs instead of files"},
)
