"""The hosts of the files that Replicate's models produce."""

from __future__ import annotations

from urllib.parse import urlsplit

OUTPUT_HOSTS = ("replicate.delivery", "pbxt.replicate.delivery")
"""As in Replicate's documentation (https://replicate.com/docs/topics/predictions/output-files)."""


def output_hosts(base_url: str) -> tuple[str, ...]:
    """The hosts of outputs; empty if the API is not Replicate's own, as in the sandbox."""
    host = urlsplit(base_url).hostname or ""
    return OUTPUT_HOSTS if host == "replicate.com" or host.endswith(".replicate.com") else ()
