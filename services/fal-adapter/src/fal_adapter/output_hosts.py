"""The hosts of the files that fal's models produce."""

from __future__ import annotations

from urllib.parse import urlsplit

from fal_client import client as sdk

OUTPUT_HOSTS = ("v3.fal.media", "v3b.fal.media", "fal.media")
"""As in fal's documentation and the examples of its models (https://fal.ai/docs/documentation/model-apis/faq)."""


def output_hosts() -> tuple[str, ...]:
    """The hosts of outputs; empty if the SDK is configured for another host than fal."""
    host = urlsplit(sdk.QUEUE_URL_FORMAT).hostname or ""
    return OUTPUT_HOSTS if host == "fal.run" or host.endswith(".fal.run") else ()
