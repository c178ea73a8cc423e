"""The environment of Segue's processes: the list of settings, and the file that stores a set of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chassis.settings import names
from chassis.settings.env_file import BadEnvironment, read_env_file
from chassis.settings.header_values import stripped
from chassis.settings.secret_files import add_missing, with_secrets

SETTINGS: Final = (*names.SETTINGS, "SSL_CERT_FILE")
"""Every setting that a service of Segue reads from its environment."""
FILES: Final = tuple(name + names.SUFFIX for name in names.SECRETS)
"""The variables that name files with secrets."""
PROVIDER_SETTINGS: Final = (
    "FAL_KEY",
    "FAL_API_KEY",
    "REPLICATE_API_TOKEN",
    "FAL_RUN_HOST",
    "FAL_QUEUE_RUN_HOST",
    "FAL_API_URL",
    "FAL_JWKS_URL",
    "REPLICATE_WEBHOOK_SIGNING_SECRET",
    "SSL_CERT_FILE",
    "REPLICATE_BASE_URL",
)
"""The settings that choose the providers and their keys; the sandbox replaces all of them."""

API: Final = "SEGUE_API"
SANDBOX: Final = "SEGUE_SANDBOX_URL"
SERVICES: Final = "SEGUE_SERVICES"
"""In the env file of `segue up`: the services that it started, each as name=address, with commas between."""
_PRIVATE: Final = 0o600


def given(folder: Path) -> dict[str, str]:
    """The environment over the folder's `.env`, as a service started in that folder sees it, with secrets from files.

    Raises BadEnvironment if that file, or the file of a secret, cannot be read.
    """
    return with_secrets(as_written(folder), names.SECRETS)


def as_written(folder: Path) -> dict[str, str]:
    """The environment over the folder's `.env`, with the paths of files of secrets. Raises BadEnvironment."""
    found = around()
    add_missing(found, read_env(folder / ".env"), names.SECRETS)
    return found


def around() -> dict[str, str]:
    """The environment, with values stripped and empty values left out."""
    return {name: bare for name, value in os.environ.items() if (bare := stripped(value))}


def read_env(path: Path) -> dict[str, str]:
    """The settings in an env file; empty if there is no such file. Raises BadEnvironment if it cannot be read."""
    return {name: bare for name, value in read_env_file(path).values.items() if (bare := stripped(value))}


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write an env file, readable by its owner only, completely or not at all; a shell can source it too.

    Raises BadEnvironment for a value with a line break.
    """
    text = "".join(f"{name}={_quoted(name, value)}\n" for name, value in values.items())
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.rename(path)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without Segue's settings, except those of traces and the level of logs."""
    every = {*SETTINGS, *FILES}
    kept = {name for name in every if name.startswith("OTEL_") or name == "LOG_LEVEL"}
    return {name: value for name, value in environ.items() if name in kept or name not in every}


def _quoted(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        raise BadEnvironment(f"{name}: has a line break, which an env file cannot keep: take it out")
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
