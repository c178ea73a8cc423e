"""Crash points: runs `segue` with one function of the product wrapped, so that it kills, stops or blocks the process.

python -m chaos.crash_points POINT[:NTH[:ACT]] run fal-adapter --port 0 --env-file FILE

The product contains no code for this: the function is wrapped before its service is imported, and at its NTH call (the
first, by default) the process kills itself. ACT is `kill`, `stop` (SIGSTOP), `block` (the event loop), or `raise`: an
error from this call on, each time.
`SEGUE_CRASH_AT` names the point if the command line does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final, NoReturn

VARIABLE: Final = "SEGUE_CRASH_AT"
BLOCKED_S: Final = 600.0

Coroutine = Callable[..., Awaitable[Any]]
Act = Callable[..., None]
"""What is done at the crash point; called with the arguments of the wrapped function."""
Wrap = Callable[[Coroutine, Act], Coroutine]


class NoSuchSeam(Exception):
    """The product does not have this function."""


@dataclass(frozen=True, slots=True)
class Point:
    """A function of the product as `module:name.of.attribute`, and when the act is called around it."""

    seam: str
    wrap: Wrap
    act: Act | None = None
    """The act at this point; None for one of ACTS."""


def _before(original: Coroutine, act: Act) -> Coroutine:
    @wraps(original)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        act(*args)
        return await original(*args, **kwargs)

    return wrapped


def _after(original: Coroutine, act: Act) -> Coroutine:
    @wraps(original)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        act(*args)
        return result

    return wrapped


def _before_post(original: Coroutine, act: Act) -> Coroutine:
    from adapter_kit.attempt.actions import Post

    @wraps(original)
    async def perform(calls: Any, attempt: Any, action: Any, *rest: Any) -> Any:
        if isinstance(action, Post):
            act(calls, attempt)
        return await original(calls, attempt, action, *rest)

    return perform


def _after_post(original: Coroutine, act: Act) -> Coroutine:
    from adapter_kit.attempt.actions import Post

    @wraps(original)
    async def perform(calls: Any, attempt: Any, action: Any, *rest: Any) -> Any:
        result = await original(calls, attempt, action, *rest)
        if isinstance(action, Post):
            act(calls, attempt)
        return result

    return perform


def _after_outcome(original: Coroutine, act: Act) -> Coroutine:
    from adapter_kit.attempt.inputs import SubmitAnswered

    @wraps(original)
    async def apply(transaction: Any, inputs: Any, *rest: Any) -> Any:
        stepped = await original(transaction, inputs, *rest)
        if any(isinstance(input_, SubmitAnswered) for _, input_ in inputs):
            # Callbacks after the commit run before the publisher does.
            transaction.after_commit(partial(act, transaction))
        return stepped

    return apply


def _before_delete(original: Coroutine, act: Act) -> Coroutine:
    @wraps(original)
    async def relay_once(outbox: Any) -> Any:
        if outbox._published:
            act(outbox)
        return await original(outbox)

    return relay_once


def _cancel_consumer(consumer: Any, *_: Any) -> None:
    consumer.subscriber.tasks[0].cancel()


def _cancel_coordinator(consumer: Any, *_: Any) -> None:
    consumer.subscriber.consumer._coordinator._coordination_task.cancel()


def _leak_cancellation(*_: Any) -> None:
    raise asyncio.CancelledError


_HANDLE: Final = "chassis.delivery.handling:Handling._handle"
_PROCESS: Final = "chassis.delivery.consumer:BatchConsumer._process"
_PERFORM: Final = "adapter_kit.engine.executor:ActionExecutor.perform"

POINTS: Final = {
    # In an adapter.
    "after_intent": Point(_PERFORM, _before_post),
    "after_post": Point(_PERFORM, _after_post),
    "after_outcome_tx": Point("adapter_kit.engine.ledger:apply", _after_outcome),
    "mid_collect": Point("adapter_kit.artifacts.collector:Collector._store_one", _after),
    "leaked_cancellation": Point(
        "adapter_kit.engine.command_handler:CommandHandler.__call__", _before, _leak_cancellation
    ),
    # In every service that consumes or has an outbox.
    "before_handler_tx": Point(_HANDLE, _before),
    "after_handler_tx": Point("chassis.delivery.consumer:BatchConsumer._finish", _before),
    "after_publish": Point("chassis.kafka.outbox:Outbox._relay_once", _before_delete),
    "cancelled_consumer": Point(_PROCESS, _before, _cancel_consumer),
    "dead_coordinator": Point(_PROCESS, _before, _cancel_coordinator),
    # In the gateway, and in the log sink.
    "before_202": Point("gateway.intake.publisher:Publisher.publish_and_tail", _after),
    "sink_mid_batch": Point("log_sink.store:_execute_each", _after),
}


def _kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _block(*_: Any) -> None:
    time.sleep(BLOCKED_S)


class Faulty(Exception):
    """What the act `raise` raises."""


def _raise(*_: Any) -> None:
    raise Faulty("this release has a fault")


ACTS: Final[dict[str, Act]] = {"kill": _kill, "stop": _stop, "block": _block, "raise": _raise}


@dataclass(frozen=True, slots=True)
class Order:
    """The crash point, the act, and the number of the call."""

    name: str
    nth: int
    act: Act

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read `POINT[:NTH[:ACT]]`. Raises ValueError."""
        name, nth, act, *more = (*text.split(":"), *("", "")[text.count(":") :])
        if more or name not in POINTS or (act and act not in ACTS):
            raise ValueError(f"{text!r} is no crash point: POINT[:NTH[:ACT]], with POINT one of {', '.join(POINTS)}")
        if not (nth or "1").isdecimal() or int(nth or "1") < 1:
            raise ValueError(f"{text!r}: the passing is counted from 1")
        return cls(name, int(nth or "1"), ACTS[act] if act else POINTS[name].act or _kill)


def install(order: Order) -> None:
    """Wrap the function of the order. Raises NoSuchSeam if the product does not have it."""
    owner, attribute = seam(order.name)
    setattr(owner, attribute, POINTS[order.name].wrap(vars(owner)[attribute], _counted(order)))


def seam(name: str) -> tuple[Any, str]:
    """The module or class with the point's function, and the function's name in it. Raises NoSuchSeam."""
    module_name, _, path = POINTS[name].seam.partition(":")
    *owners, attribute = path.split(".")
    try:
        owner: Any = import_module(module_name)
        for inner in owners:
            owner = getattr(owner, inner)
        vars(owner)[attribute]
    except (ImportError, AttributeError, KeyError) as error:
        raise NoSuchSeam(f"{name}: there is no {POINTS[name].seam}") from error
    return owner, attribute


def _counted(order: Order) -> Act:
    left = order.nth

    def passed(*context: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            said = {"event": "crash point", "level": "warning", "point": order.name, "passing": order.nth}
            os.write(sys.stderr.fileno(), json.dumps(said).encode() + b"\n")
        if left == 0 or (left < 0 and order.act is _raise):
            order.act(*context)

    return passed


def main(argv: list[str]) -> NoReturn:
    """Run `segue` with a crash point installed; ends as `segue` does."""
    where = os.environ.get(VARIABLE)
    text, arguments = (where, argv) if where else (argv[0] if argv else "", argv[1:])
    try:
        install(Order.parse(text))
    except (ValueError, NoSuchSeam) as error:
        sys.exit(str(error))
    sys.argv = ["segue", *arguments]
    from segue_cli.__main__ import main as segue

    segue()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
