"""How a process lives: it starts, is ready, serves until told to stop, drains within a limit, and is gone."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import TypeVar

from chassis.logs import configure_logs, get_logger
from chassis.settings import ServiceSettings, WrongSettings, load_settings
from chassis.telemetry import Telemetry, make_telemetry

EXIT_SETTINGS = 78  # EX_CONFIG of sysexits.h: starting again does not help.
EXIT_UNHEALTHY = 70
BLOCKED_LOOP_LIMIT_S = 40.0
EXIT_MARGIN_S = 3.0
TICK_S = 1.0

Check = Callable[[], str | None]
"""Looks at one part of the process; returns what is wrong with it, or None."""


class CannotStart(Exception):
    """Something the service needs at start is missing; the message is one line for whoever starts it."""


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
    """Run a service until SIGTERM or SIGINT, and exit the process: 0 after a clean drain, not 0 otherwise."""
    try:
        settings = load_settings(settings_kind)
    except WrongSettings as error:
        print(f"{service} cannot start: {error}", file=sys.stderr)  # noqa: T201 - for whoever starts it, before there are logs
        sys.exit(EXIT_SETTINGS)
    configure_logs(service, settings.log_level)
    _allow_open_files()
    sys.exit(asyncio.run(_live(service, settings, app)))


def _allow_open_files() -> None:
    """Use what the system grants: each connection is a file, and the usual limit was made for interactive programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # Some systems grant less than they say.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _live(service: str, settings: S, app: App[S]) -> int:
    log = get_logger("chassis")
    telemetry = make_telemetry(service, settings.otlp_endpoint)
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
    except (CannotStart, ExceptionGroup) as error:
        if (reason := _why_not(error)) is None:
            raise
        print(f"{service} cannot start: {reason}", file=sys.stderr)  # noqa: T201 - for whoever starts it, before there are logs
        return 1
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


def _stop_on_signals(runtime: Runtime) -> None:
    serving = asyncio.current_task()

    def stop() -> None:
        if serving is not None and not runtime.started and not runtime.stopping.is_set():
            serving.cancel()  # Nothing is in hand yet, and what a start waits for may never come.
        runtime.stopping.set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)


def _why_not(error: BaseException) -> CannotStart | None:
    """What kept the service from starting, out of the groups that task groups make of it."""
    if isinstance(error, BaseExceptionGroup):
        return next((why for each in error.exceptions if (why := _why_not(each))), None)
    return error if isinstance(error, CannotStart) else None


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
    get_logger("chassis").error("did not drain in time; exiting hard", drain_s=drain_s)
    # Kafka's client can wait for ever in its stop while the cluster is away.
    os._exit(EXIT_UNHEALTHY)
