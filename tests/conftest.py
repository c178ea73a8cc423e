"""What all tests share: a real PostgreSQL with a fresh database for each test, an embedded cluster, profiles."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings
from tests import patience
from tests.order import UnitScheduling, slowest_first
from tests.progress import Progress

from chassis.kafka.topics import create_topics
from contracts.topics import PARTITIONS, TOPICS
from segue_cli.local.kafka import cluster
from segue_cli.local.postgres import postgres
from segue_cli.local.process import child, ready_with

EndSessions = Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]]
KAFKA_LAUNCHER = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.py"

OTHER_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
EMPTY = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""

# For all of the run: for the conftest files that are read after this one, for workers, and for the processes of tests.
os.environ.setdefault(patience.SETTING, str(patience.measured()))
patience.patience()

# The machine's load says nothing about the code: no deadlines for single examples.
settings.register_profile("quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), max_examples=200)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Scale the limit of each test, and say how far a run with several workers is."""
    # A worker is given the option that its controller has scaled.
    if config.option.timeout is None:
        config.option.timeout = patience.patient(float(config.getini("timeout")))
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling | None:
    """Of `--dist loadfile`: files, but for those that share a system."""
    return UnitScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what lasts for the whole run: thousands of tests, and the modules they import."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests, and scale the limits that they set for themselves."""
    slowest_first(items)
    for item in items:
        if own := item.get_closest_marker("timeout"):
            (seconds,) = own.args
            item.add_marker(pytest.mark.timeout(patience.patient(seconds)), append=False)


def pytest_report_header(config: pytest.Config) -> str:
    return f"patience: {patience.patience():g} ({patience.SETTING}), {config.option.timeout:g} s for each test"


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker of Apache Kafka: where it listens, and the process that a test may stop and continue."""

    bootstrap_servers: str
    pid: int


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Lines that cost nothing; the library's default draws a picture of every exception, for seconds."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url() -> AsyncIterator[str]:
    """A server for the whole run, with nothing in it."""
    async with postgres() as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def spare_database(postgres_url: str) -> str:
    """A database for one test after the other: emptying it takes a tenth of the time that making another one takes."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE test_1")
    await connection.close()
    return postgres_url.rpartition("/")[0] + "/test_1"


async def end_other_sessions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Leave nobody else connected to the same database."""
    await connection.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({OTHER_SESSIONS}) AS others")  # noqa: S608


@pytest.fixture(scope="session")
def end_sessions() -> EndSessions:
    return end_other_sessions


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(spare_database: str, end_sessions: EndSessions) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    yield spare_database
    connection = await asyncpg.connect(spare_database)
    try:
        await end_sessions(connection)
        await connection.execute(EMPTY)
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_kafka() -> AsyncIterator[Broker]:
    """One broker of Apache Kafka for the whole run, with every topic of the map."""
    if shutil.which("java") is None:
        pytest.fail("a real Kafka needs Java, and there is none on the PATH")
    async with child(
        [sys.executable, str(KAFKA_LAUNCHER), "--brokers", "1"],
        name="kafka",
        ready=ready_with("brokers"),
        ready_within_s=patience.patient(120),
        death_signal=signal.SIGTERM,
    ) as launcher:
        (broker,) = launcher.ready["brokers"]
        servers = launcher.ready["bootstrap_servers"]
        await create_topics(servers, TOPICS, replication=1)
        yield Broker(servers, broker["pid"])


@pytest.fixture
def embedded_kafka() -> Iterator[str]:
    """The bootstrap address of an embedded cluster of the test's own, with every topic of the map, in this process."""
    with cluster({topic.name: PARTITIONS for topic in TOPICS}, brokers=1, port=0) as bootstrap_servers:
        yield bootstrap_servers
