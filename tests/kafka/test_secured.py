"""Kafka as a cluster that denies by default: logins, certificates, grants from the topic map, and prefixes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.chassis.toy import Toy, job, read, request, runtime_for, send, toy, until
from tests.kafka.secured import KEY_PASSWORD, Authority, Secured, cluster_of, password_of, secured_kafka
from tests.patience import patient

from chassis.delivery.tail import Tail
from chassis.errors import EXIT_SETTINGS, CannotStart
from chassis.kafka import refusals
from chassis.kafka.topics import create_topics, describe, min_in_sync, require_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.access import TOPIC_MAKER, Grant, grants
from contracts.ids import JobId
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS, SERVICES, TOPICS, Topic, TopicNames
from segue_cli.doctor import checks
from segue_cli.local.process import Child, child
from segue_cli.stack.topics import BrokerAway, await_topics

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

TOYS = (
    Grant("topic", REQUESTS.name, ("Read", "Describe")),
    Grant("topic", JOBS.name, ("Write", "Describe")),
    Grant("topic", DEAD_LETTERS.name, ("Write", "Describe")),
    Grant("group", "toy", ("Read", "Describe")),
)
"""What the toy needs."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """The broker, with every topic of the map and a user for each service and for the toy."""
    async with secured_kafka(tmp_path_factory.mktemp("secured")) as broker:
        await make(KafkaCluster(broker.plain))
        for service, granted in grants(TopicNames()).items():
            await broker.add_user(f"segue-{service}")
            await broker.grant(f"segue-{service}", granted)
        await broker.add_user("toy")
        await broker.grant("toy", TOYS)
        yield broker


WAYS = ("PLAIN", "SCRAM-SHA-512", "a certificate", "a certificate with an encrypted key")


async def make(cluster: KafkaCluster, topics: Sequence[Topic] = TOPICS) -> None:
    """Create topics, and wait until the broker knows them."""
    assert set((await create_topics(cluster, topics, replication=1)).values()) == {"created"}

    async def there() -> bool:
        return len(await describe(cluster, topics)) == len(topics)

    await until(there)


def offered(kafka: Secured, how: str) -> dict[str, str]:
    match how:
        case "PLAIN" | "SCRAM-SHA-512":
            return kafka.login("toy", how)
        case "a certificate":
            return kafka.certificate("a-toy")
        case "a certificate with an encrypted key":
            return kafka.certificate("another-toy", key_password=KEY_PASSWORD)
    raise AssertionError(how)


@pytest.mark.parametrize("how", WAYS)
async def test_a_service_consumes_and_publishes_with_each_way_to_log_in(
    kafka: Secured, database_url: str, how: str
) -> None:
    cluster, runtime = cluster_of(offered(kafka, how)), runtime_for()
    assert password_of("toy") not in f"{cluster} {cluster!r}"
    await kafka.grant(cluster.principal.removeprefix("User:"), TOYS)
    n = 1000 + WAYS.index(how)
    async with toy(cluster, database_url, runtime, identified=True) as made:
        assert runtime.unready() is None
        await send(kafka.plain, [request(n)])

        async def handled() -> bool:
            return (await made.commits()).get(job(n)) == 1 and await made.waiting() == 0

        await until(handled)
        assert runtime.unready() is None
    assert str(job(n)).encode() in {record.key for record in await read(kafka.plain, JOBS.name, 1)}


def wrong(kafka: Secured, other: Authority) -> dict[str, tuple[dict[str, str], str]]:
    """Settings by the mistake in them, each with what is said of it."""
    stranger, key = other.issue("stranger")
    nobody = {name: value for name, value in kafka.certificate("some").items() if "_KEY" not in name}
    return {
        "password": (
            kafka.login("toy", KAFKA_SASL_PASSWORD="hunter2"),
            f"KAFKA_SASL_PASSWORD: {kafka.sasl}: it refuses the login of User:toy with SCRAM-SHA-512",
        ),
        "user": (
            kafka.login("nobody", "PLAIN"),
            f"KAFKA_SASL_PASSWORD: {kafka.sasl}: it refuses the login of User:nobody with PLAIN",
        ),
        "mechanism": (
            kafka.login("toy", "SCRAM-SHA-256"),
            f"KAFKA_SASL_MECHANISM: {kafka.sasl}: it does not take SCRAM-SHA-256",
        ),
        "authority": (
            kafka.login("toy", KAFKA_SSL_TRUSTSTORE_LOCATION=str(other.file)),
            f"KAFKA_SSL_TRUSTSTORE_LOCATION: {kafka.sasl}: its certificate is not trusted (",
        ),
        "host": (
            kafka.login("toy", KAFKA_BOOTSTRAP_SERVERS=kafka.sasl.replace("127.0.0.1", "localhost")),
            f"KAFKA_BOOTSTRAP_SERVERS: {kafka.sasl.replace('127.0.0.1', 'localhost')}: its certificate is for another",
        ),
        "stranger": (
            {
                **kafka.certificate("own"),
                "KAFKA_SSL_KEYSTORE_LOCATION": str(stranger),
                "KAFKA_SSL_KEY_LOCATION": str(key),
            },
            f"KAFKA_SSL_KEYSTORE_LOCATION: {kafka.mtls}: it refuses the certificate of User:CN=stranger",
        ),
        "no certificate": (nobody, f"KAFKA_SSL_KEYSTORE_LOCATION: {kafka.mtls}: it asks for a client's certificate"),
        "plain text": (
            {"KAFKA_BOOTSTRAP_SERVERS": kafka.sasl},
            f"KAFKA_SECURITY_PROTOCOL: {kafka.sasl}: it uses TLS",
        ),
        "a login that is not wanted": (
            {
                **{name: value for name, value in kafka.login("toy").items() if "SSL_" not in name},
                "KAFKA_BOOTSTRAP_SERVERS": kafka.plain,
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            },
            f"KAFKA_SECURITY_PROTOCOL: {kafka.plain}: it wants no login",
        ),
    }


async def test_what_the_brokers_refuse_is_told_with_the_setting_to_correct(
    kafka: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_LIMIT_S", 0.0)
    for mistake, (env, told) in wrong(kafka, Authority(tmp_path, "other")).items():
        with pytest.raises(CannotStart) as raised:
            async with asyncio.timeout(patient(20)):
                await require_topics(cluster_of(env), reads=[REQUESTS])
        assert str(raised.value).startswith(told), mistake
        assert "hunter2" not in str(raised.value)


async def test_a_wait_for_topics_ends_if_the_login_is_refused_for_long(
    kafka: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_LIMIT_S", 2.0)
    refused, told = cluster_of(kafka.login("toy", KAFKA_SASL_PASSWORD="hunter2")), list[str]()
    with pytest.raises(BrokerAway) as raised:
        async with asyncio.timeout(patient(60)):
            await await_topics(refused, 600, told.append)
    assert raised.value.exit_code == EXIT_SETTINGS
    why = f"KAFKA_SASL_PASSWORD: {kafka.sasl}: it refuses the login of User:toy with SCRAM-SHA-512: correct "
    assert str(raised.value).startswith(why)
    assert told == [f"{raised.value}; trying for 2 s, as brokers that are just starting may not know their users yet"]


async def test_a_user_that_the_brokers_learn_of_meanwhile_is_waited_for(kafka: Secured) -> None:
    refused = asyncio.Event()

    def tell(_: str) -> None:
        refused.set()

    late = cluster_of(kafka.login("segue-late"))
    async with asyncio.timeout(patient(60)), asyncio.TaskGroup() as tasks:
        tasks.create_task(await_topics(late, 600, tell))
        tasks.create_task(require_topics(late, reads=[REQUESTS], writes=[JOBS]))
        await refused.wait()
        await kafka.add_user("segue-late")
        await kafka.grant("segue-late", TOYS)


async def test_without_a_check_of_the_host_any_name_of_a_broker_is_accepted(kafka: Secured) -> None:
    servers = kafka.sasl.replace("127.0.0.1", "localhost")
    env = kafka.login("toy", KAFKA_BOOTSTRAP_SERVERS=servers, KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM="none")
    await require_topics(cluster_of(env), reads=[REQUESTS])


async def test_each_service_may_do_with_each_topic_what_the_map_says(kafka: Secured) -> None:
    for service in SERVICES:
        there = await describe(cluster_of(kafka.login(f"segue-{service}")), TOPICS)
        for topic in TOPICS:
            reads, writes = service in topic.groups or service in topic.tails, service in topic.producers
            may = {name for name, allowed in {"Read": reads, "Write": writes}.items() if allowed}
            assert set(there[topic.name].allowed or ()) == may, (service, topic.name)
            assert bool(there[topic.name].partitions) == bool(may), "what it has no use for it may not even see"


async def test_whoever_creates_topics_may_create_those_of_the_map_alone(kafka: Secured) -> None:
    names = TopicNames("made.")
    await kafka.grant(f"segue-{TOPIC_MAKER}", grants(names)[TOPIC_MAKER])
    login = kafka.login(f"segue-{TOPIC_MAKER}", SEGUE_TOPIC_PREFIX="made.", SEGUE_TOPIC_PARTITIONS="2")
    made = await create_topics(cluster_of(login), TOPICS, replication=1)
    assert made == {f"made.{topic.name}": "created" for topic in TOPICS}
    there = await describe(KafkaCluster(kafka.plain, names=names), TOPICS)
    assert {len(state.partitions) for state in there.values()} == {2}
    login["SEGUE_TOPIC_PREFIX"] = "others."
    refused = await create_topics(cluster_of(login), TOPICS, replication=1)
    assert set(refused.values()) == {"TopicAuthorizationFailedError"}


async def test_the_doctor_and_segue_topics_use_the_login(kafka: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIMIT_S", patient(20))
    login = kafka.login("segue-log-sink")
    connection, topics = await checks.broker(login)
    assert (connection.verdict, connection.found) == (
        "ok",
        f"{kafka.sasl} (SASL_SSL, SCRAM-SHA-512, User:segue-log-sink)",
    )
    assert topics.verdict == "warn"
    assert "User:segue-log-sink may not see segue.commands.fal" in topics.found
    assert await min_in_sync(cluster_of(login), [JOBS.name]) == {}, "it may not see the configuration"
    told: list[str] = []
    await await_topics(cluster_of(login), 0, told.append)
    assert not told
    (refused,) = await checks.broker(login | {"KAFKA_SASL_PASSWORD": "hunter2"})
    assert refused.verdict == "fail"
    assert "it refuses the login of User:segue-log-sink" in refused.found
    (incomplete,) = await checks.broker(login | {"KAFKA_SASL_USERNAME": ""})
    assert incomplete.found.startswith("KAFKA_SASL_USERNAME: has to be set")
    await kafka.add_user("nobody-in-particular")
    with pytest.raises(BrokerAway, match="User:nobody-in-particular may not see any topic"):
        await await_topics(cluster_of(kafka.login("nobody-in-particular")), 0, told.append)


async def ended(service: str, env: Mapping[str, str], folder: Path) -> tuple[int, list[str]]:
    """The exit code and the lines of a service that cannot start."""
    lines: list[str] = []
    argv = [sys.executable, "-m", service]
    whole = {**env, "PATH": os.defpath}
    running: Child
    async with child(argv, name=service, env=whole, cwd=str(folder), on_line=lines.append) as running:
        async with asyncio.timeout(patient(60)):
            return await running.wait(), lines


async def test_a_topic_that_is_denied_for_long_prevents_the_start(
    kafka: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REFUSED_LIMIT_S", 0.0)
    await kafka.add_user("lacks-a-topic")
    await kafka.grant("lacks-a-topic", [each for each in TOYS if each.name != JOBS.name])
    with pytest.raises(CannotStart) as raised:
        await require_topics(cluster_of(kafka.login("lacks-a-topic")), reads=[REQUESTS], writes=[JOBS])
    assert str(raised.value) == (
        f"KAFKA_SASL_USERNAME: the cluster denies User:lacks-a-topic Write on topic {JOBS.name};"
        " `segue topics --acls` prints what to grant"
    )


async def test_a_service_that_is_denied_its_group_ends_in_one_line(
    kafka: Secured, database_url: str, tmp_path: Path
) -> None:
    user, own = "lacks-a-group", grants(TopicNames())["orchestrator"]
    lacking = next(each for each in own if each.name == "orchestrator")
    await kafka.add_user(user)
    await kafka.grant(user, [each for each in own if each != lacking])
    code, lines = await ended("orchestrator", kafka.login(user, DATABASE_URL=database_url), tmp_path)
    assert code == EXIT_SETTINGS, lines
    told = (
        f"orchestrator cannot start: KAFKA_SASL_USERNAME: the cluster denies User:{user} Read on group"
        f" {lacking.name}; `segue topics --acls` prints what to grant"
    )
    assert lines[-1] == told
    assert not [line for line in lines if "Traceback" in line or password_of(user) in line]


async def test_a_grant_that_is_taken_back_is_in_readiness_until_it_is_given_again(
    kafka: Secured, database_url: str
) -> None:
    await kafka.add_user("revoked")
    await kafka.grant("revoked", TOYS)
    runtime = runtime_for()
    consuming, publishing, *_ = TOYS
    async with toy(cluster_of(kafka.login("revoked")), database_url, runtime) as made:
        for n, (grant, operation) in enumerate([(consuming, "Read"), (publishing, "Write")], start=2001):
            await kafka.revoke("revoked", grant)
            denial = f"the cluster denies User:revoked {operation} on topic {grant.name}"
            await send(kafka.plain, [request(n)])

            async def said(denial: str = denial) -> bool:
                return str(runtime.unready()).startswith(denial)

            async def again(n: int = n) -> bool:
                return runtime.unready() is None and await settled(made, job(n))

            await until(said)
            await kafka.grant("revoked", [grant])
            await until(again)


async def settled(made: Toy, job_id: JobId) -> bool:
    """Whether the job was handled, and its event was published."""
    # A rebalance before the commit of the offset delivers its message again.
    return job_id in await made.commits() and await made.waiting() == 0


async def test_a_login_that_is_refused_while_a_tail_runs_is_in_readiness(kafka: Secured) -> None:
    runtime = runtime_for()

    def take(*_: Any) -> None: ...

    refused = cluster_of(kafka.login("toy", KAFKA_SASL_PASSWORD="hunter2"))
    tail = Tail(refused, (JOBS,), take, runtime)
    tail.caught_up.set()
    runtime.started = True
    async with tail.running():

        async def said() -> bool:
            return str(runtime.unready()).startswith(f"KAFKA_SASL_PASSWORD: {kafka.sasl}: it refuses the login of")

        await until(said)


@pytest_asyncio.fixture(loop_scope="module")
async def other_database_url(postgres_url: str, database_url: str) -> AsyncIterator[str]:
    """The URL of one more empty database."""
    url = postgres_url.rpartition("/")[0] + "/test_other"
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE DATABASE test_other")
    yield url
    await connection.execute("DROP DATABASE test_other WITH (FORCE)")
    await connection.close()


async def test_two_prefixes_on_one_cluster_share_nothing(
    kafka: Secured, database_url: str, other_database_url: str
) -> None:
    one, two = (KafkaCluster(kafka.plain, names=TopicNames(prefix)) for prefix in ("one.", "two."))
    for cluster in (one, two):
        await make(cluster)
    async with (
        toy(one, database_url, runtime_for(), identified=True) as first,
        toy(two, other_database_url, runtime_for(), identified=True) as second,
    ):
        for n, cluster in ((3001, one), (3002, two), (3003, one)):
            await send(kafka.plain, [replace(request(n), topic=cluster.names.of(REQUESTS))])

        async def handled() -> bool:
            return await settled(first, job(3003)) and await settled(second, job(3002))

        await until(handled)
        assert set(await first.commits()) == {job(3001), job(3003)}
        assert set(await second.commits()) == {job(3002)}
    for numbers, cluster in (({3001, 3003}, one), ({3002}, two)):
        published = await read(kafka.plain, cluster.names.of(JOBS), len(numbers))
        assert {record.key for record in published} == {job(n).encode() for n in numbers}


async def test_a_row_that_waits_in_the_outbox_goes_to_the_prefix_of_the_day(kafka: Secured, database_url: str) -> None:
    before, after = (KafkaCluster(kafka.plain, names=TopicNames(prefix)) for prefix in ("before.", "after."))
    for cluster in (before, after):
        await make(cluster, (REQUESTS, JOBS, DEAD_LETTERS))
    await kafka.add_user("moved")
    await kafka.grant("moved", [Grant("topic", f"before.{each.name}", each.operations) for each in TOYS[:3]])
    await kafka.grant("moved", [Grant("group", "before.toy", ("Read",))])
    login = cluster_of(kafka.login("moved", SEGUE_TOPIC_PREFIX="before."))
    async with toy(login, database_url, runtime_for()) as made:
        await kafka.revoke("moved", Grant("topic", f"before.{JOBS.name}", ("Write", "Describe")))
        await send(kafka.plain, [replace(request(4001), topic=before.names.of(REQUESTS))])

        async def handled() -> bool:
            return job(4001) in await made.commits()

        await until(handled)
        assert await made.waiting() == 1
    async with toy(after, database_url, runtime_for(), consuming=False) as made:

        async def published() -> bool:
            return await made.waiting() == 0

        await until(published)
    (record,) = await read(kafka.plain, after.names.of(JOBS), 1)
    assert record.key == job(4001).encode()
