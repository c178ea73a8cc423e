"""The lifecycle of a process: it starts, serves until it is stopped, drains within a limit, and exits."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from importlib.metadata import version
from traceback import format_exception
from typing import Final, TypeVar

import asyncpg
import uvloop
from aiokafka.errors import KafkaError

from chassis.errors import (
    EXIT_SETTINGS,
    EXIT_TEMPORARY,
    EXIT_UNFORESEEN,
    EXIT_UNHEALTHY,
    PROXY,
    CannotStart,
    in_one_line,
    root_cause,
)
from chassis.observability.log_events import RuntimeEvent
from chassis.observability.logs import configure_logs, get_logger
from chassis.observability.metrics import BUILD_INFO
from chassis.observability.telemetry import Telemetry, make_telemetry
from chassis.runtime.leaving import leave
from chassis.runtime.private_files import keep_private
from chassis.runtime.runtime import Consuming, Runtime
from chassis.runtime.watchdog import exit_hard_after, watch
from chassis.settings.env_file import BadEnvironment
from chassis.settings.service import ServiceSettings, load_settings
from contracts.text import escaped_line

_SECRET_CHARS: Final = 4
_SERVER_AWAY: Final = (
    KafkaError,
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
)
"""The errors of a server that has gone away: it may be there again at the next start."""

YOUNG_OBJECTS: Final = 10_000
"""How many new objects there are before garbage is collected. CPython 3.11's 700 are those of three requests or jobs in
progress: it looked at them again and again, found that they are in use, and went on to all that is kept for longer."""

S = TypeVar("S", bound=ServiceSettings)
App = Callable[[S, Runtime], AbstractAsyncContextManager[None]]


def run_service(service: str, settings_kind: type[S], app: App[S]) -> None:
    """Run a service until SIGTERM or SIGINT, and exit the process: with 0 after a clean drain.

    78 means that a setting is wrong, or that the resource it names cannot be used; 75 that this resource did not answer
    in time. stderr has one line with the reason.
    """
    keep_private()
    try:
        settings = load_settings(settings_kind)
    except BadEnvironment as error:
        _report(service, str(error))
        sys.exit(EXIT_SETTINGS)
    configure_logs(service, settings.log_level, settings.log_format)
    BUILD_INFO.labels(service, version("segue-chassis")).set(1)
    for note in settings.notes:
        get_logger("chassis").warning(RuntimeEvent.SETTING_IGNORED, note=note)
    try:
        telemetry = make_telemetry(service, settings.traces)
    except Exception as error:  # noqa: BLE001 - OpenTelemetry reads settings itself and raises errors of any type
        _report(service, f"a setting that begins with OTEL_: {in_one_line(error)}")
        sys.exit(EXIT_SETTINGS)
    _allow_open_files()
    gc.set_threshold(YOUNG_OBJECTS)
    leave(SystemExit(uvloop.run(_run(service, settings, telemetry, app))))


def _allow_open_files() -> None:
    """Raise the soft limit of open files to the hard one: each connection is a file, and the default is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # Some systems allow less than the hard limit that they report.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(service: str, settings: S, telemetry: Telemetry, app: App[S]) -> int:
    log = get_logger("chassis")
    consuming = Consuming(settings.kafka_session_timeout_s, settings.kafka_fetch_wait_ms)
    runtime = Runtime(service, telemetry, consuming=consuming)
    _stop_on_signals(runtime)
    watchdog = asyncio.create_task(watch(runtime))
    limit = asyncio.create_task(exit_hard_after(runtime, settings.drain_s))
    try:
        async with app(settings, runtime):
            runtime.started = True
            # Modules and settings stay: garbage collection need not look at them again and again.
            gc.freeze()
            log.info(RuntimeEvent.READY)
            await runtime.stopping.wait()
            log.info(RuntimeEvent.STOPPING, drain_s=settings.drain_s)
    except asyncio.CancelledError:
        if not runtime.stopping.is_set():
            raise
        log.info(RuntimeEvent.STOPPED_WHILE_STARTING)
    except Exception as error:  # noqa: BLE001 - any error is reported in one line, without a traceback
        return _report_end(error, runtime, settings)
    finally:
        runtime.stopping.set()
        watchdog.cancel()
        await asyncio.to_thread(telemetry.close)
        limit.cancel()
    if runtime.failure is not None:
        log.error(RuntimeEvent.STOPPED_UNHEALTHY, reason=runtime.failure)
        return EXIT_UNHEALTHY
    log.info(RuntimeEvent.STOPPED)
    return 0


def _report_end(error: Exception, runtime: Runtime, settings: ServiceSettings) -> int:
    """Report the error that ended the process; returns the exit code."""
    reason = root_cause(error)
    log = get_logger("chassis")
    log.debug(RuntimeEvent.TRACEBACK, exception=_without(settings.secrets(), "".join(format_exception(error))))
    text = _without(settings.secrets(), in_one_line(reason))
    if runtime.started:
        log.critical(RuntimeEvent.UNEXPECTED_ERROR, error=text)
        return EXIT_UNHEALTHY
    if isinstance(reason, CannotStart):
        _report(runtime.service, text)
        return reason.exit_code
    if text.startswith(PROXY):
        _report(runtime.service, text)
        return EXIT_SETTINGS
    _report(runtime.service, f"{text} (LOG_LEVEL=DEBUG logs the traceback)")
    # A server may go away at any moment of a start, and its client raises what it happens to be doing.
    return EXIT_TEMPORARY if isinstance(reason, _SERVER_AWAY) else EXIT_UNFORESEEN


def _report(service: str, reason: str) -> None:
    print(f"{service} cannot start: {escaped_line(reason)}", file=sys.stderr)  # noqa: T201 - for the user, outside the logs


def _without(secrets: frozenset[str], text: str) -> str:
    for secret in sorted((each for each in secrets if len(each) >= _SECRET_CHARS), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _stop_on_signals(runtime: Runtime) -> None:
    serving = asyncio.current_task()

    def stop() -> None:
        if serving is not None and not runtime.started and not runtime.stopping.is_set():
            serving.cancel()  # No work has started, and the start may wait forever.
        runtime.stopping.set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
