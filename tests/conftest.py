"""Shared by all tests: PostgreSQL with an empty database for each test, Kafka, and the profiles of Hypothesis."""

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
from chassis.settings.kafka.cluster import KafkaCluster
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

# In the environment, so that conftest files read later, workers and child processes use the same factor.
os.environ.setdefault(patience.SETTING, str(patience.measured()))
patience.patience()

# No deadline for single examples: their time depends on the load of the machine.
settings.register_profile("quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), max_examples=200)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Scale the time limit of each test, and report the progress of a run with several workers."""
    # A worker receives the option, which its controller has scaled already.
    if config.option.timeout is None:
        config.option.timeout = patience.patient(float(config.getini("timeout")))
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling | None:
    """The scheduler of `--dist loadfile`: one file at a time, or all files that share a system."""
    return UnitScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the collected tests and their modules, which last for the whole run, from garbage collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests, and scale the time limits that they set themselves."""
    slowest_first(items)
    for item in items:
        if own := item.get_closest_marker("timeout"):
            (seconds,) = own.args
            item.add_marker(pytest.mark.timeout(patience.patient(seconds)), append=False)


def pytest_report_header(config: pytest.Config) -> str:
    return f"patience: {patience.patience():g} ({patience.SETTING}), {config.option.timeout:g} s for each test"


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker of Apache Kafka: its address, and its process, which a test may pause."""

    bootstrap_servers: str
    pid: int


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Plain log lines: the default of structlog renders exceptions with rich, which takes seconds."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url() -> AsyncIterator[str]:
    """The URL of an empty server for the whole run."""
    async with postgres() as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def spare_database(postgres_url: str) -> str:
    """A database that all tests use in turn: to empty it takes a tenth of the time that it takes to create one."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE test_1")
    await connection.close()
    return postgres_url.rpartition("/")[0] + "/test_1"


async def end_other_sessions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """End all other sessions of the same database."""
    await connection.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({OTHER_SESSIONS}) AS others")  # noqa: S608


@pytest.fixture(scope="session")
def end_sessions() -> EndSessions:
    return end_other_sessions


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(spare_database: str, end_sessions: EndSessions) -> AsyncIterator[str]:
    """The URL of an empty database that no other test uses meanwhile."""
    yield spare_database
    connection = await asyncpg.connect(spare_database)
    try:
        await end_sessions(connection)
        await connection.execute(EMPTY)
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_kafka() -> AsyncIterator[Broker]:
    """A broker of Apache Kafka for the whole run, with every topic of the map."""
    if shutil.which("java") is None:
        pytest.fail("Apache Kafka needs Java, and there is none on the PATH")
    async with child(
        [sys.executable, str(KAFKA_LAUNCHER), "--brokers", "1"],
        name="kafka",
        ready=ready_with("brokers"),
        ready_within_s=patience.patient(120),
        death_signal=signal.SIGTERM,
    ) as launcher:
        (broker,) = launcher.ready["brokers"]
        servers = launcher.ready["bootstrap_servers"]
        await create_topics(KafkaCluster(servers), TOPICS, replication=1)
        yield Broker(servers, broker["pid"])


@pytest.fixture
def embedded_kafka() -> Iterator[str]:
    """The bootstrap servers of an embedded cluster in this process, for one test, with every topic of the map."""
    with cluster({topic.name: PARTITIONS for topic in TOPICS}, brokers=1, port=0) as bootstrap_servers:
        yield bootstrap_servers
