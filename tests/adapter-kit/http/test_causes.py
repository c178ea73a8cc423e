"""An error that comes in a group is told by what it was about."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapter_kit.artifacts.collector import Collector
from adapter_kit.http.causes import causes, first_cause
from adapter_kit.http.transport import exchange
from chassis.artifacts import ArtifactStore
from chassis.http.egress import EgressRefused
from contracts.failures import FailureKind

GROUP = ExceptionGroup(
    "unhandled errors in a TaskGroup", [ExceptionGroup("inner", [OSError("no route")]), ValueError("x")]
)


def test_the_first_real_cause_is_told() -> None:
    assert [type(cause) for cause in causes(GROUP)] == [OSError, ValueError]
    plain = ValueError("plain")
    assert first_cause(plain) is plain


async def raising(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_an_exchange_tells_the_cause() -> None:
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raising(httpx.ReadError("broken pipe")))

    done = await exchange(grouped(), 5)
    assert isinstance(done.error, httpx.ReadError)


async def test_of_several_causes_the_one_counts_after_which_a_request_may_have_been_sent() -> None:
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
def test_a_collection_fails_by_its_cause(
    tmp_path: Path, error: Exception, kind: FailureKind, final: bool, said: str
) -> None:
    client: Any = None
    collector = Collector(client, ArtifactStore.open((tmp_path / "store").as_uri()))
    group = ExceptionGroup("unhandled errors in a TaskGroup", [error])
    failed = collector._failed(first_cause(group), "output 1: ")
    assert (failed.failure.kind, failed.final) == (kind, final)
    assert said in failed.failure.message
    assert "ExceptionGroup" not in failed.failure.message
