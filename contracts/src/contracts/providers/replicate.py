"""Replicate."""

from __future__ import annotations

from typing import Final

from contracts.providers.spec import ProviderSpec

REPLICATE: Final = ProviderSpec(
    name="replicate",
    title="Replicate",
    listing="Replicate lists predictions at replicate.com/predictions",
    # https://replicate.com/docs/topics/webhooks
    run_id_key="id",
    address_key="webhook",
)
