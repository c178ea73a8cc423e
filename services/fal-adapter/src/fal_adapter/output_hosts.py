"""Where fal keeps the files that its models make."""

from __future__ import annotations

from urllib.parse import urlsplit

from fal_client import client as sdk

OUTPUT_HOSTS = ("v3.fal.media", "v3b.fal.media", "fal.media")
"""As fal's documents and models' examples show them (https://fal.ai/docs/documentation/model-apis/faq)."""


def output_hosts() -> tuple[str, ...]:
    """The hosts that outputs will come from; none where the SDK does not talk to fal itself."""
    host = urlsplit(sdk.QUEUE_URL_FORMAT).hostname or ""
    return OUTPUT_HOSTS if host == "fal.run" or host.endswith(".fal.run") else ()
