"""How a process lives: it starts, is ready, serves until told to stop, drains within a limit, and is gone."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exception
from typing import Any, TypeVar

from chassis.env_file import BadEnvironment
from chassis.logs import configure_logs, get_logger
from chassis.private_files import keep_private
from chassis.settings import ServiceSettings, load_settings
from chassis.telemetry import Telemetry, make_telemetry
from contracts.text import escaped_line

EXIT_SETTINGS = 78  # EX_CONFIG of sysexits.h: starting again does not help.
EXIT_UNHEALTHY = 70
EXIT_UNFORESEEN = 1
_SECRET_CHARS = 4
BLOCKED_LOOP_LIMIT_S = 40.0
EXIT_MARGIN_S = 3.0
TICK_S = 1.0
_MOST_TOLD = 20

_SETTING_OF = {
    "asyncpg": "DATABASE_URL",
    "aiokafka": "KAFKA_BOOTSTRAP_SERVERS",
    "obstore": "ARTIFACT_STORE_URL",
    "opentelemetry": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
"""Which setting leads to where each library's errors come from."""
_PROXY = "HTTPS_PROXY, or another proxy"

Check = Callable[[], str | None]
"""Looks at one part of the process; returns what is wrong with it, or None."""


class CannotStart(Exception):
    """A setting, or what it names, cannot be used; the message is one line that says which, why, and what to do."""


def cannot_use(setting: str, error: Exception) -> CannotStart:
    """What `error` says of what a setting names, with the setting before it where the text does not begin with it."""
    text = str(error)
    return CannotStart(text if text.startswith(setting) else f"{setting}: {text}")


@dataclass(frozen=True, slots=True)
class Consuming:
    """How this process's consumers behave towards the cluster."""

    session_timeout_s: float = 30
    """Seconds without a heartbeat after which Kafka gives the process's partitions to another."""
    fetch_wait_ms: int = 500
    """How long a broker may hold a fetch that finds nothing."""


class Runtime:
    """What a running service's parts share: when to stop, what must stay alive, what must be ready."""

    def __init__(self, service: str, telemetry: Telemetry, *, consuming: Consuming | None = None) -> None:
        self.service = service
        self.telemetry = telemetry
        self.consuming = consuming or Consuming()
        self.stopping = asyncio.Event()
        self.failure: str | None = None
        self._vital: list[Check] = []
        self._ready: list[Check] = []
        self._warnings: list[Check] = []
        self.started = False

    def must_live(self, check: Check) -> None:
        """End the process, so that it is started anew, when `check` finds something dead."""
        self._vital.append(check)

    def must_be_ready(self, check: Check) -> None:
        """Take the process out of service for as long as `check` finds something wrong."""
        self._ready.append(check)

    def warns(self, check: Check) -> None:
        """Say in `/readyz` what `check` finds wrong, of a process that can do its work all the same."""
        self._warnings.append(check)

    def warnings(self) -> list[str]:
        """What somebody should look at, in words."""
        return [why for check in self._warnings if (why := check())]

    def unhealthy(self) -> str | None:
        """The first dead part, in words."""
        return self.failure or next((why for check in self._vital if (why := check())), None)

    def unready(self) -> str | None:
        """Why the process should get no work right now, in words."""
        if not self.started:
            return "starting"
        if self.stopping.is_set():
            return "stopping"
        return next((why for check in self._ready if (why := check())), None)

    def fail(self, why: str) -> None:
        """Stop the process as unhealthy."""
        self.failure = self.failure or why
        self.stopping.set()

    async def pause(self, seconds: float) -> bool:
        """Wait for `seconds`, or less if the process is told to stop; returns whether to go on."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return True
        return False


S = TypeVar("S", bound=ServiceSettings)
App = Callable[[S, Runtime], AbstractAsyncContextManager[None]]


def run_service(service: str, settings_kind: type[S], app: App[S]) -> None:
    """Run a service until SIGTERM or SIGINT, and exit the process: 0 after a clean drain, not 0 otherwise.

    78 means that a setting is wrong, or that what it names cannot be used; stderr has one line that says which and why.
    """
    keep_private()
    try:
        settings = load_settings(settings_kind)
    except BadEnvironment as error:
        _tell(service, str(error))
        sys.exit(EXIT_SETTINGS)
    configure_logs(service, settings.log_level)
    for note in settings.notes:
        get_logger("chassis").warning("a setting is passed over in part", note=note)
    try:
        telemetry = make_telemetry(service, settings.traces)
    except Exception as error:  # noqa: BLE001 - it reads settings of its own, and raises what it likes
        _tell(service, f"a setting that begins with OTEL_: {in_one_line(error)}")
        sys.exit(EXIT_SETTINGS)
    _allow_open_files()
    sys.exit(asyncio.run(_live(service, settings, telemetry, app)))


def _allow_open_files() -> None:
    """Use what the system grants: each connection is a file, and the usual limit was made for interactive programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # Some systems grant less than they say.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _live(service: str, settings: S, telemetry: Telemetry, app: App[S]) -> int:
    log = get_logger("chassis")
    consuming = Consuming(settings.kafka_session_timeout_s, settings.kafka_fetch_wait_ms)
    runtime = Runtime(service, telemetry, consuming=consuming)
    _stop_on_signals(runtime)
    watchdog = asyncio.create_task(_watch(runtime))
    limit = asyncio.create_task(_exit_hard_after(runtime, settings.drain_s))
    try:
        async with app(settings, runtime):
            runtime.started = True
            log.info("ready")
            await runtime.stopping.wait()
            log.info("stopping", drain_s=settings.drain_s)
    except asyncio.CancelledError:
        if not runtime.stopping.is_set():
            raise
        log.info("stopped while starting")
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told in one line, and not by a traceback
        return _ended_by(error, runtime, settings)
    finally:
        runtime.stopping.set()
        watchdog.cancel()
        await asyncio.to_thread(telemetry.close)
        limit.cancel()
    if runtime.failure is not None:
        log.error("stopped as unhealthy", reason=runtime.failure)
        return EXIT_UNHEALTHY
    log.info("stopped")
    return 0


def _ended_by(error: Exception, runtime: Runtime, settings: ServiceSettings) -> int:
    """Tell what ended the process, and return its exit code."""
    reason = why_not(error)
    log = get_logger("chassis")
    log.debug("traceback", exception=_without(settings.secrets(), "".join(format_exception(error))))
    said = _without(settings.secrets(), in_one_line(reason))
    if runtime.started:
        log.critical("ended by an error that nobody foresaw", error=said)
        return EXIT_UNHEALTHY
    if isinstance(reason, CannotStart) or said.startswith(_PROXY):
        _tell(runtime.service, said)
        return EXIT_SETTINGS
    _tell(runtime.service, f"{said} (LOG_LEVEL=DEBUG logs the traceback)")
    return EXIT_UNFORESEEN


def _tell(service: str, reason: str) -> None:
    print(f"{service} cannot start: {escaped_line(reason)}", file=sys.stderr)  # noqa: T201 - for whoever starts it, beside the logs


def _without(secrets: frozenset[str], text: str) -> str:
    for secret in sorted((each for each in secrets if len(each) >= _SECRET_CHARS), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _stop_on_signals(runtime: Runtime) -> None:
    serving = asyncio.current_task()

    def stop() -> None:
        if serving is not None and not runtime.started and not runtime.stopping.is_set():
            serving.cancel()  # Nothing is in hand yet, and what a start waits for may never come.
        runtime.stopping.set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)


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
    about = _SETTING_OF.get(library) or (_PROXY if "proxy" in text.lower() else "")
    return ": ".join(part for part in (about, type(error).__name__, text) if part)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


async def _watch(runtime: Runtime) -> None:
    log = get_logger("chassis.watchdog")
    while True:
        # A loop that no longer turns cannot watch itself: re-arming this timer is its sign of life.
        faulthandler.dump_traceback_later(BLOCKED_LOOP_LIMIT_S, exit=True)
        if runtime.started and (why := _what_is_dead(runtime)):
            log.critical("a part of this process is dead; exiting, so that it is started anew", reason=why)
            runtime.fail(why)
        if not await runtime.pause(TICK_S):
            return


def _what_is_dead(runtime: Runtime) -> str | None:
    try:
        return runtime.unhealthy()
    except Exception as error:  # noqa: BLE001 - a check that cannot look any more is itself a dead part
        return f"a check of the watchdog: {error!r}"


async def _exit_hard_after(runtime: Runtime, drain_s: float) -> None:
    await runtime.stopping.wait()
    # For a loop that is blocked, and for threads that the interpreter would wait for at its end.
    faulthandler.dump_traceback_later(drain_s + EXIT_MARGIN_S, exit=True)
    await asyncio.sleep(drain_s)
    waiting = sorted({_where(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()})
    get_logger("chassis").error("did not drain in time; exiting hard", drain_s=drain_s, waiting=waiting[:_MOST_TOLD])
    # Kafka's client can wait for ever in its stop while the cluster is away.
    os._exit(EXIT_UNHEALTHY)


def _where(task: asyncio.Task[Any]) -> str:
    """What a task does and the innermost place it waits at: `Outbox._relay at pool.py:812`."""
    coroutine: Any = task.get_coro()
    name, place = getattr(coroutine, "__qualname__", "?"), "?"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return f"{name} at {place}"
