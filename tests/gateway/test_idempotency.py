"""The first uses of keys that concurrent requests store together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.builders import job_requested
from tests.gateway.conftest import SEED

import gateway
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.pool import migrate, open_pool
from contracts.ids import job_id_for
from gateway.context import TENANT
from gateway.intake import idempotency
from gateway.intake.idempotency import TOGETHER_LIMIT_S, Fingerprints, FirstUse, Use
from gateway.intake.track_request import TrackRequest
from gateway.queries.database import READ_LIMIT_S, Database
from gateway.queries.errors import ReadModelUnavailable
from gateway.queries.model import Job
from gateway.queries.read_model_sql import ReadModel

pytestmark = pytest.mark.asyncio(loop_scope="session")


FINGERPRINT = TrackRequest.model_validate(SEED).fingerprint()
Remember = Callable[..., Coroutine[Any, Any, FirstUse | None]]


@pytest.fixture(params=["remember", "remember_and_find"])
def remember(request: pytest.FixtureRequest) -> Remember:
    """Stores a use of a key, with the question for its job or without."""

    async def remembered(
        fingerprints: Fingerprints, key: str, fingerprint: str, trace: str | None = None
    ) -> FirstUse | None:
        first: FirstUse | None = await getattr(fingerprints, request.param)(
            Use(TENANT, key, fingerprint, "a job", trace)
        )
        assert first is None or first.has_job is (None if request.param == "remember" else False)
        return None if first is None else replace(first, has_job=None)

    return remembered


async def begun(work: Coroutine[Any, Any, FirstUse | None]) -> asyncio.Task[FirstUse | None]:
    """The task of a request that finds no statement running, once its own has begun."""
    task = asyncio.create_task(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def set_limits(patch: pytest.MonkeyPatch, seconds: float) -> None:
    for name in ("REMEMBER_LIMIT_S", "TOGETHER_LIMIT_S"):
        patch.setattr(idempotency, name, seconds)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def transactions(world: Any, keys: list[str]) -> list[str]:
    """The transaction that stored each of the keys that are stored."""
    async with connected(world.database_url) as connection:
        rows = await connection.fetch("SELECT xmin::text FROM gateway.idempotency WHERE key = ANY($1::text[])", keys)
        return [row["xmin"] for row in rows]


async def test_requests_that_arrive_during_a_statement_share_the_next_one(world: Any, remember: Remember) -> None:
    keys = [str(uuid4()) for _ in range(20)]
    alone = await begun(remember(world.parts.fingerprints, keys[0], f"of {keys[0]}"))
    stored = await asyncio.gather(*(remember(world.parts.fingerprints, key, f"of {key}") for key in keys[1:]))
    assert [await alone, *stored] == [FirstUse(f"of {key}", None) for key in keys]
    found = await transactions(world, keys)
    assert (len(found), len(set(found))) == (20, 2)


async def test_the_first_of_equal_keys_in_one_statement_wins(world: Any, remember: Remember) -> None:
    key, between = str(uuid4()), str(uuid4())
    uses = [(key, "first", "trace 1"), (between, "other", None), (key, "second", "trace 2")]
    stored = await asyncio.gather(*(remember(world.parts.fingerprints, *use) for use in uses))
    assert stored == [FirstUse("first", "trace 1"), FirstUse("other", None), FirstUse("first", "trace 1")]
    assert await remember(world.parts.fingerprints, key, "third") == FirstUse("first", "trace 1")


async def test_a_row_that_is_refused_fails_its_own_request_only(world: Any, remember: Remember) -> None:
    keys = [str(uuid4()) for _ in range(3)]
    uses = zip(keys, ("a", "nul \0", "c"), strict=True)
    works = (remember(world.parts.fingerprints, *use) for use in uses)
    first, refused, last = await asyncio.gather(*works, return_exceptions=True)
    assert (first, last) == (FirstUse("a", None), FirstUse("c", None))
    assert isinstance(refused, asyncpg.DataError)


async def test_replicas_that_store_the_same_keys_in_any_order_agree_without_deadlock(
    world: Any, remember: Remember
) -> None:
    async with (
        open_pool(world.database_url, "gateway", max_size=2) as one,
        open_pool(world.database_url, "gateway", max_size=2) as two,
    ):
        replicas = {name: Fingerprints(Database(pool)) for name, pool in (("one", one), ("two", two))}
        for _ in range(10):
            keys = [str(uuid4()) for _ in range(30)]
            works = {
                name: [remember(fingerprints, key, name) for key in random.sample(keys, len(keys))]
                for name, fingerprints in replicas.items()
            }
            stored = await asyncio.gather(*works["one"], *works["two"])
            assert None not in stored
            again = await asyncio.gather(*(remember(replicas["one"], key, "late") for key in keys))
            winners = sorted(use.fingerprint for use in stored if use)
            assert winners == sorted(use.fingerprint for use in again * 2 if use)


async def test_a_request_that_is_cancelled_does_not_disturb_those_of_its_statement(
    world: Any, remember: Remember
) -> None:
    keys = [str(uuid4()) for _ in range(4)]
    works = [asyncio.create_task(remember(world.parts.fingerprints, key, key)) for key in keys]
    await asyncio.sleep(0)
    works[0].cancel()
    works[2].cancel()
    done = await asyncio.gather(*works, return_exceptions=True)
    assert [type(result) for result in done[::2]] == [asyncio.CancelledError] * 2
    assert done[1::2] == [FirstUse(keys[1], None), FirstUse(keys[3], None)]


async def test_a_locked_key_does_not_fail_the_requests_behind_it(
    world: Any, remember: Remember, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, free = str(uuid4()), str(uuid4())
    await remember(world.parts.fingerprints, locked, "first")
    async with connected(world.database_url) as connection, connection.transaction():
        await connection.execute("SELECT FROM gateway.idempotency WHERE key = $1 FOR UPDATE", locked)
        set_limits(monkeypatch, 1.5)
        waiting = await begun(remember(world.parts.fingerprints, locked, "second"))
        set_limits(monkeypatch, 30.0)
        assert await remember(world.parts.fingerprints, free, "free") == FirstUse("free", None)
        assert await waiting is None
    assert await remember(world.parts.fingerprints, locked, "third") == FirstUse("first", None)


@contextmanager
def leases(patch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The leases of connections in the block, each of which serves one statement."""
    found: list[float] = []
    lease = Database.lease

    def counted(database: Database, within_s: float = READ_LIMIT_S) -> Any:
        found.append(within_s)
        return lease(database, within_s)

    with patch.context() as patched:
        patched.setattr(Database, "lease", counted)
        yield found


async def test_a_new_key_takes_one_statement_and_many_at_once_share_theirs(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leases(monkeypatch) as found:
        assert (await world.post(idempotency_key=str(uuid4()))).status_code == 202
    assert len(found) == 1
    with leases(monkeypatch) as found:
        answers = await asyncio.gather(*(world.post(idempotency_key=str(uuid4())) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(found) < 20


async def test_the_job_of_a_key_is_found_for_its_own_tenant_only(world: Any, story_of: Any) -> None:
    story = story_of(str(uuid4()))
    await world.store(story.accepted())
    asked = [(TENANT, story.job_id, "trace"), (TENANT, str(uuid4()), None), ("another", story.job_id, None)]
    uses = [Use(tenant, str(uuid4()), "a body", job_id, trace) for tenant, job_id, trace in asked]
    for trace in ("trace", "another trace"):  # The second use of each key is a repeat.
        found = await asyncio.gather(
            *(world.parts.fingerprints.remember_and_find(use._replace(traceparent=trace)) for use in uses)
        )
        assert found == [FirstUse("a body", "trace", has_job) for has_job in (True, False, False)]


async def connect_ahead(world: Any) -> None:
    """Open the connections that requests need beside those that wait for a lock: it may take long on a slow machine."""
    pool = world.parts.fingerprints._database._pool
    connections = [await pool.acquire() for _ in range(4)]
    for connection in connections:
        await pool.release(connection)


async def stored_and_forgotten(world: Any, key: str) -> str:
    """The id of a job that only the read model has: neither the tail nor a row of the key, which may be deleted."""
    job_id = job_id_for(TENANT, key)
    await world.store(job_requested(job_id, datetime.now(UTC), fingerprint=FINGERPRINT))
    async with connected(world.database_url) as connection:
        await connection.execute("DELETE FROM gateway.idempotency WHERE key = $1", key)
    # A lookup of an unknown job waits until the tail has read all records, among them that of the job.
    assert (await world.client.get(f"/api/jobs/{uuid4()}")).status_code == 404
    world.empty_tail()
    return job_id


async def assert_finds_its_job(world: Any, key: str, job_id: str) -> None:
    """Check that the key is refused with another body, and finds its job, with which nothing is published."""
    assert (await world.post({"prompt": "another"}, idempotency_key=key)).status_code == 422
    answer = await world.post(idempotency_key=key)
    assert (answer.status_code, answer.json()["job_id"]) == (202, job_id)
    assert world.parts.tail.known(job_id).job is None


@pytest.mark.parametrize("given", [True, False], ids=["deleted", "generated for a request without one"])
async def test_a_key_that_is_not_stored_finds_its_job(world: Any, *, given: bool) -> None:
    first = await (world.post(idempotency_key=str(uuid4())) if given else world.post())
    key = first.headers["idempotency-key"]
    await assert_finds_its_job(world, key, await stored_and_forgotten(world, key))


@pytest.fixture
def real_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of a request's time that the common statement takes: on a slow machine tests have a longer one."""
    monkeypatch.setattr(idempotency, "TOGETHER_LIMIT_S", TOGETHER_LIMIT_S)


@pytest.mark.usefixtures("real_share")
async def test_a_key_finds_its_job_while_no_key_can_be_stored(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # However much of the request's time the key takes, the job is read.
    monkeypatch.setattr(idempotency, "REMEMBER_LIMIT_S", READ_LIMIT_S)
    key = str(uuid4())
    job_id = await stored_and_forgotten(world, key)
    await connect_ahead(world)
    async with connected(world.database_url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE gateway.idempotency")
        await assert_finds_its_job(world, key, job_id)


@pytest.mark.usefixtures("real_share")
async def test_a_key_is_stored_while_no_job_can_be_found(world: Any) -> None:
    key = str(uuid4())
    await connect_ahead(world)
    async with connected(world.database_url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE log_sink.jobs")
        assert (await world.post(idempotency_key=key)).status_code == 202
        world.empty_tail()
        assert (await world.post({"prompt": "another"}, idempotency_key=key)).status_code == 422
    assert len(await transactions(world, [key])) == 1


async def test_a_key_is_stored_before_the_log_sink_has_made_its_view(world: Any) -> None:
    async with connected(world.database_url) as connection:
        await connection.execute("CREATE DATABASE without_log_sink")
    url = world.database_url.rpartition("/")[0] + "/without_log_sink"
    await migrate(url, "gateway", gateway)
    async with open_pool(url, "gateway") as pool:
        fingerprints, use = Fingerprints(Database(pool)), Use(TENANT, "a key", "a body", "a job", None)
        assert await fingerprints.remember_and_find(use) is None
        assert await fingerprints.remember(use) == FirstUse("a body", None)
        assert await fingerprints.remember(use._replace(fingerprint="another")) == FirstUse("a body", None)


@pytest.mark.parametrize("locked", [False, True], ids=["found with the key", "found alone"])
@pytest.mark.usefixtures("real_share")
async def test_a_job_that_exists_and_cannot_be_read_is_not_published_again(
    world: Any, monkeypatch: pytest.MonkeyPatch, *, locked: bool
) -> None:
    key = str(uuid4())
    job_id = await stored_and_forgotten(world, key)

    async def unreadable(*_: Any) -> Any:
        raise ReadModelUnavailable("this job")

    await connect_ahead(world)
    async with connected(world.database_url) as connection, connection.transaction():
        if locked:
            await connection.execute("LOCK TABLE gateway.idempotency")
        with monkeypatch.context() as patched:
            patched.setattr(ReadModel, "job", unreadable)
            answer = await world.post(idempotency_key=key)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:job-unreadable")
    assert (answer.headers["idempotency-key"], answer.json()["idempotency_key"]) == (key, key)
    assert world.parts.tail.known(job_id).job is None
    await assert_finds_its_job(world, key, job_id)


async def test_a_job_that_runs_again_has_no_trace_of_a_request_that_was_refused(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(uuid4())
    await stored_and_forgotten(world, key)
    refused = await world.post({"prompt": "another"}, idempotency_key=key)
    assert refused.status_code == 422
    monkeypatch.setattr(Job, "runs_again", lambda *_: True)
    again = await world.post(idempotency_key=key)
    assert again.status_code == 202
    async with connected(world.database_url) as connection:
        row = "SELECT traceparent FROM gateway.idempotency WHERE key = $1"
        of_the_refused = trace_id_of(await connection.fetchval(row, key))
    assert again.json()["trace_id"] not in (None, of_the_refused)
