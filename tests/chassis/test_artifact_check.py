"""The check of an artifact store that is not known to work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.buckets import Granted, bucket_granting
from tests.patience import eventually, patient

from chassis import artifact_check
from chassis.artifact_check import CHECK_KEY, Right, store_checked
from chassis.artifacts import ArtifactStore
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime

OFTEN_S = 0.01


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("fal-adapter", make_telemetry("fal-adapter", None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ArtifactStore:
    return ArtifactStore.open(folder.as_uri())


async def seen_as(store: ArtifactStore, status: str) -> None:
    async def seen() -> bool:
        return store.dependency.seen.status == status

    await eventually(seen)


@pytest.mark.parametrize("right", ["write", "read", "list"])
async def test_a_store_is_used_at_the_start(store: ArtifactStore, folder: Path, runtime: Runtime, right: Right) -> None:
    async with store_checked(store, runtime, right=right):
        await seen_as(store, "ok")
    assert (folder / CHECK_KEY).exists() is (right == "write")


@pytest.mark.parametrize(
    ("right", "granted", "status"),
    [
        ("read", ["read", "list"], "ok"),
        ("read", ["list"], "fail"),
        ("list", ["list"], "ok"),
        ("list", ["read"], "fail"),
    ],
)
async def test_a_check_asks_a_bucket_for_its_right_alone(
    runtime: Runtime, right: Right, granted: list[Granted], status: str
) -> None:
    with bucket_granting(*granted) as url:
        bucket = ArtifactStore.open(url)
        async with store_checked(bucket, runtime, right=right):
            await seen_as(bucket, status)


async def test_a_store_that_failed_is_used_until_it_works(store: ArtifactStore, folder: Path, runtime: Runtime) -> None:
    (folder / CHECK_KEY).mkdir(parents=True)
    (folder / CHECK_KEY / "not empty").touch()
    async with store_checked(store, runtime, right="write", every_s=OFTEN_S):
        await seen_as(store, "fail")
        (folder / CHECK_KEY / "not empty").unlink()
        (folder / CHECK_KEY).rmdir()
        await seen_as(store, "ok")


async def test_a_store_that_works_is_left_alone(
    store: ArtifactStore, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.dependency.works()
    looks, used = 0, list[str]()

    async def pause(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        return looks < 10

    async def head(key: str) -> int:
        used.append(key)
        return 0

    monkeypatch.setattr(runtime, "pause", pause)
    monkeypatch.setattr(store, "head", head)
    async with asyncio.timeout(patient(10)):
        await artifact_check._check(store, runtime, OFTEN_S, "read")
    assert (looks, used) == (10, [])


async def test_a_stop_ends_the_check(store: ArtifactStore, runtime: Runtime) -> None:
    runtime.stopping.set()
    async with asyncio.timeout(patient(10)), store_checked(store, runtime, right="list"):
        pass
