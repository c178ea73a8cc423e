"""An exception group is reported by its first cause."""

import asyncio
import base64
import gc
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import changed, queued_attempt

from adapter_kit.artifacts.collector import Collector
from adapter_kit.attempt.inputs import CollectFailed
from adapter_kit.http.causes import causes, first_cause, forget_frames
from adapter_kit.http.transport import exchange
from adapter_kit.port.outcomes import Output
from chassis.artifacts import ArtifactStore
from chassis.http.egress import EgressRefused
from contracts.failures import FailureKind
from contracts.ids import job_id_for

SAMPLE = Path(__file__).parents[1] / "media" / "samples" / "a.wav"
GROUP = ExceptionGroup(
    "unhandled errors in a TaskGroup", [ExceptionGroup("inner", [OSError("no route")]), ValueError("x")]
)


def test_the_first_cause_is_the_first_exception_that_is_no_group() -> None:
    assert [type(cause) for cause in causes(GROUP)] == [OSError, ValueError]
    plain = ValueError("plain")
    assert first_cause(plain) is plain


async def raising(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_an_exchange_returns_the_cause_of_a_group() -> None:
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raising(httpx.ReadError("broken pipe")))

    done = await exchange(grouped(), 5)
    assert isinstance(done.error, httpx.ReadError)


async def test_an_error_that_is_kept_holds_no_frames_whose_bodies_would_stay_in_memory() -> None:
    class Body:
        pass

    alive: weakref.WeakSet[Body] = weakref.WeakSet()

    async def call() -> None:
        body = Body()
        alive.add(body)
        try:
            await raising(ConnectionResetError("reset"))
        except ConnectionResetError as error:
            raise ExceptionGroup("calls", [httpx.ReadError("broken")]) from error

    gc.disable()
    try:
        done = await exchange(call(), 10)
        assert isinstance(done.error, httpx.ReadError)
        assert len(alive) == 0
    finally:
        gc.enable()


def test_the_frames_of_all_errors_before_one_are_removed_also_if_they_go_in_a_circle() -> None:
    def caught(error: Exception) -> Exception:
        with pytest.raises(type(error)) as raised:
            raise error
        return raised.value

    first, second, third, inner = (caught(ValueError(name)) for name in ("first", "second", "third", "inner"))
    group = caught(ExceptionGroup("group", [inner]))
    first.__cause__, second.__cause__ = second, first
    first.__context__, third.__context__ = third, group
    forget_frames(first)
    assert [each.__traceback__ for each in (first, second, third, group, inner)] == [None] * 5


async def test_of_several_causes_one_after_which_the_request_may_have_been_sent_counts() -> None:
    both = ExceptionGroup("two", [httpx.ConnectError("first"), httpx.ReadTimeout("second")])
    assert isinstance((await exchange(raising(both), 5)).error, httpx.ReadTimeout)
    alike = ExceptionGroup("two", [httpx.ConnectError("first"), httpx.ConnectError("second")])
    assert isinstance((await exchange(raising(alike), 5)).error, httpx.ConnectError)


@pytest.mark.parametrize(
    ("error", "kind", "final", "said"),
    [
        (OSError("disk"), FailureKind.STORE_FAILED, False, "(OSError)"),
        (EgressRefused("x.example", "10.0.0.1 is not a public address"), FailureKind.OUTPUT_REFUSED, True, "x.example"),
        (KeyError("odd"), FailureKind.STORE_FAILED, False, "KeyError"),
    ],
)
async def test_a_collection_reports_the_cause_of_a_group(
    tmp_path: Path, error: Exception, kind: FailureKind, final: bool, said: str
) -> None:
    class FailingStore(ArtifactStore):
        async def put_bytes(self, content: bytes, key: str, *, content_type: str) -> None:
            raise ExceptionGroup("unhandled errors in a TaskGroup", [error])

    client: Any = None
    url = "data:audio/wav;base64," + base64.b64encode(SAMPLE.read_bytes()).decode()
    queued = queued_attempt(job_id_for("tenant", "key"), datetime.now(UTC))
    collecting = changed(queued, state="collecting", outputs=(Output(url),))
    failed = await Collector(client, FailingStore.open((tmp_path / "store").as_uri())).collect(
        collecting, queued.created_at
    )
    assert isinstance(failed, CollectFailed)
    assert (failed.failure.kind, failed.final) == (kind, final)
    assert said in failed.failure.message
    assert "ExceptionGroup" not in failed.failure.message
