"""What all tests share: a real PostgreSQL with a fresh database for each test, an embedded cluster, profiles."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings
from tests import patience

from chassis.broker import create_topics
from contracts.topics import PARTITIONS, TOPICS
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import postgres
from segue_cli.local.process import child, ready_with

KAFKA_LAUNCHER = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.py"

# The machine's load says nothing about the code: no deadlines for single examples.
settings.register_profile("quick", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settle the run's patience, for its workers and for the processes of tests, and scale the limit of each test."""
    os.environ.setdefault(patience.SETTING, str(patience.measured()))
    try:
        patience.patience()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    # A worker is given the option that its controller has scaled.
    if config.option.timeout is None:
        config.option.timeout = patience.patient(float(config.getini("timeout")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scale the limits that tests set for themselves."""
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


@pytest.fixture(scope="session")
def database_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(postgres_url: str, database_numbers: Iterator[int]) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    name = f"test_{next(database_numbers)}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield postgres_url.rpartition("/")[0] + f"/{name}"
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
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


@pytest_asyncio.fixture
async def embedded_kafka() -> AsyncIterator[str]:
    """The bootstrap address of an embedded cluster of the test's own, with every topic of the map."""
    async with kafka({topic.name: PARTITIONS for topic in TOPICS}) as cluster:
        yield cluster.bootstrap_servers
