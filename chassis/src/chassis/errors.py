"""Exit codes of a service, and errors as one line that names the setting at fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from contracts.text import escaped_line

EXIT_SETTINGS: Final = 78
"""EX_CONFIG of sysexits.h: a setting is wrong, and a restart does not help."""
EXIT_TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: what a setting names did not answer in time, and a restart may help."""
EXIT_UNHEALTHY: Final = 70
"""A component of the process has failed, or the process did not stop in time."""
EXIT_UNFORESEEN: Final = 1

_SETTING_OF: Final = {
    "asyncpg": "DATABASE_URL",
    "aiokafka": "KAFKA_BOOTSTRAP_SERVERS",
    "obstore": "ARTIFACT_STORE_URL",
    "opentelemetry": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
"""The setting with the address of the service whose errors each library raises."""
PROXY: Final = "HTTPS_PROXY, or another proxy"


class CannotStart(Exception):
    """A setting, or the resource that it names, cannot be used; the message is one line that names the setting."""

    exit_code: ClassVar[int] = EXIT_SETTINGS


class CannotStartYet(CannotStart):
    """What the setting names did not answer in time. It may later, with the same setting."""

    exit_code = EXIT_TEMPORARY


def cannot_use(setting: str, error: Exception) -> CannotStart:
    """A CannotStart with the text of `error`, which is prefixed with the setting unless it already starts with it."""
    text = str(error)
    return CannotStart(text if text.startswith(setting) else f"{setting}: {text}")


def root_cause(error: BaseException) -> BaseException:
    """The first CannotStart in nested exception groups, or else their first error; `error` itself if it is no group."""
    leaves = list(_leaves(error))
    return next((each for each in leaves if isinstance(each, CannotStart)), leaves[0])


def in_one_line(error: BaseException) -> str:
    """An error as one line: the setting that it is likely about, its type and its text."""
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
