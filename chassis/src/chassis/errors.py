"""Why a service cannot start or go on: its exit codes, and errors as one line that names the setting at fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contracts.text import escaped_line

EXIT_SETTINGS: Final = 78
"""EX_CONFIG of sysexits.h: a setting is wrong, and starting again does not help."""
EXIT_UNHEALTHY: Final = 70
"""A part of the process has died, or it did not stop in time."""
EXIT_UNFORESEEN: Final = 1

_SETTING_OF: Final = {
    "asyncpg": "DATABASE_URL",
    "aiokafka": "KAFKA_BOOTSTRAP_SERVERS",
    "obstore": "ARTIFACT_STORE_URL",
    "opentelemetry": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
"""Which setting leads to where each library's errors come from."""
PROXY: Final = "HTTPS_PROXY, or another proxy"


class CannotStart(Exception):
    """A setting, or what it names, cannot be used; the message is one line that says which, why, and what to do."""


def cannot_use(setting: str, error: Exception) -> CannotStart:
    """What `error` says of what a setting names, with the setting before it where the text does not begin with it."""
    text = str(error)
    return CannotStart(text if text.startswith(setting) else f"{setting}: {text}")


def why_not(error: BaseException) -> BaseException:
    """What it was, out of the groups that task groups make of it: CannotStart, if that is in there."""
    leaves = list(_leaves(error))
    return next((each for each in leaves if isinstance(each, CannotStart)), leaves[0])


def in_one_line(error: BaseException) -> str:
    """An error that ended something: the setting that it is likely about, its type and its text."""
    text = escaped_line(str(error))
    if isinstance(error, CannotStart):
        return text
    library = type(error).__module__.partition(".")[0]
    about = _SETTING_OF.get(library) or (PROXY if "proxy" in text.lower() else "")
    return ": ".join(part for part in (about, type(error).__name__, text) if part)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
