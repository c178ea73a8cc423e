"""`segue dlq`: lists dead letters, shows one, and publishes their records again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from aiokafka import AIOKafkaProducer
from tests.chassis.delivery.test_dead_letters import record
from tests.chassis.toy import read, request
from tests.cli.conftest import restore_sigint
from tests.patience import patient

from chassis.delivery.dead_letters import DeadLetter, to_record
from chassis.delivery.handling import REPLAYED
from chassis.kafka.broker import publish
from chassis.kafka.topics import admin
from chassis.settings.kafka.cluster import KafkaCluster
from chassis.settings.names import KAFKA_SECURITY
from contracts.topics import DEAD_LETTERS, REQUESTS
from segue_cli.commands import dlq, replay
from segue_cli.stack.environment import write_env

GONE = "127.0.0.1:9"


def dead(n: int, error: str) -> DeadLetter:
    sent = request(n)
    return DeadLetter(replace(record(sent.key, sent.value, sent.headers), offset=n), error, 3)


async def bury(servers: str, *letters: DeadLetter, others: tuple[bytes, ...] = ()) -> None:
    """Publish letters to partition 0, and records that are none to partition 1."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for letter in letters:
            made = to_record(letter, "orchestrator")
            await producer.send_and_wait(
                DEAD_LETTERS.name, made.value, key=made.key, headers=list(made.headers), partition=0
            )
        for value in others:
            await producer.send_and_wait(DEAD_LETTERS.name, value, partition=1)


async def test_letters_are_listed_shown_and_published_again(shell: Any, embedded_kafka: str) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka}
    assert shell.run("dlq", env=env).stdout == "There are no dead letters.\n"
    first, second = dead(1, "Faulty: one"), dead(2, "ValueError: two\nlines")
    await bury(embedded_kafka, first, second, others=(b"garbage",))
    listed = shell.run("dlq", env=env)
    assert listed.returncode == 0, listed.stdout
    assert "0/0" in listed.stdout
    assert "Faulty: one" in listed.stdout
    assert "ValueError: two; lines" in listed.stdout
    assert "1 records of the topic are no letters of Segue's, the first at 1/0" in listed.stdout
    narrowed = shell.run("dlq", "--error", "Faulty", env=env).stdout
    assert "0/0" in narrowed
    assert "0/1" not in narrowed
    shown = shell.run("dlq", "show", "0/1", env=env).stdout
    assert "ce_type: segue.job.cancel_requested.v1" in shown
    assert second.record.value is not None
    assert second.record.value.decode() in shown
    done = shell.run("dlq", "replay", "--error", "Faulty", "--yes", env=env)
    assert done.returncode == 0, done.stdout
    assert f"To publish again: 1 of {REQUESTS.name}" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 of 1 are published."
    (found,) = await read(embedded_kafka, REQUESTS.name, 1)
    sent = first.record
    assert (found.key, found.value) == (sent.key, sent.value)
    assert tuple(found.headers) == (*sent.headers, (REPLAYED, str(sent.timestamp).encode()))


async def test_what_cannot_be_published_is_told_and_the_others_are(shell: Any, embedded_kafka: str) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka}
    await bury(embedded_kafka, DeadLetter(record(None, b"v"), "no key", 0), dead(2, "Faulty: two"))
    done = shell.run("dlq", "replay", "--all", "--yes", env=env)
    assert done.returncode == 1
    assert "0/0: not published: the record had no key or no value" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 of 2 are published."
    assert len(await read(embedded_kafka, REQUESTS.name, 1)) == 1


async def test_a_record_of_which_several_services_wrote_a_letter_is_published_once(
    shell: Any, embedded_kafka: str
) -> None:
    first = dead(1, "Faulty: one")
    await bury(embedded_kafka, first, replace(first, error="Faulty: two"))
    done = shell.run("dlq", "replay", "--all", "--yes", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.stdout.splitlines()[-1] == "1 of 1 are published."
    assert len(await read(embedded_kafka, REQUESTS.name, 1)) == 1


async def test_records_that_had_the_same_place_in_a_topic_and_its_successor_are_both_published(
    shell: Any, embedded_kafka: str
) -> None:
    later = dead(2, "Faulty: two")
    await bury(embedded_kafka, dead(1, "Faulty: one"), replace(later, record=replace(later.record, offset=1)))
    done = shell.run("dlq", "replay", "--all", "--yes", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.stdout.splitlines()[-1] == "2 of 2 are published."
    assert len(await read(embedded_kafka, REQUESTS.name, 2)) == 2


async def test_nothing_is_published_unless_it_is_said_and_confirmed(shell: Any, embedded_kafka: str) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka}
    await bury(embedded_kafka, dead(1, "Faulty: one"))
    for words in ([], ["0/0", "--all"], ["--all", "--topic", REQUESTS.name]):
        refused = shell.run("dlq", "replay", *words, "--yes", env=env)
        assert refused.returncode == 78, words
        assert "Say which" in refused.stdout
    missing = shell.run("dlq", "replay", "0/7", "--yes", env=env)
    assert "There is no dead letter 0/7: `segue dlq` lists them." in missing.stdout
    unconfirmed = shell.run("dlq", "replay", "0/0", env=env, stdin=subprocess.DEVNULL)
    assert unconfirmed.returncode == 2
    assert unconfirmed.stdout.splitlines()[-1] == "Nothing was published."
    assert not await read(embedded_kafka, REQUESTS.name, 0)


def test_without_a_broker_it_ends_in_one_line(shell: Any) -> None:
    none = shell.run("dlq")
    assert none.returncode == 78
    assert none.stdout == (
        "KAFKA_BOOTSTRAP_SERVERS is not set, and no `segue up` runs in this folder: there is no broker to ask.\n"
    )
    gone = shell.run("dlq", env={"KAFKA_BOOTSTRAP_SERVERS": GONE})
    assert gone.returncode == 78
    assert len(gone.stdout.splitlines()) == 1
    assert "KAFKA_BOOTSTRAP_SERVERS" in gone.stdout


async def test_the_records_of_a_job_keep_their_order_among_those_of_many(shell: Any, embedded_kafka: str) -> None:
    """More jobs than are published at a time, each with several records."""
    jobs, each = 2 * replay.AT_ONCE, 3
    letters = [
        replace(dead(n, "Faulty"), record=replace(dead(n, "").record, offset=jobs * turn + n, timestamp=turn + 1))
        for turn in range(each)
        for n in range(jobs)
    ]
    await bury(embedded_kafka, *letters)
    done = shell.run("dlq", "replay", "--all", "--yes", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.stdout.splitlines()[-1] == f"{jobs * each} of {jobs * each} are published."
    order: dict[bytes, list[bytes]] = {}
    for found in await read(embedded_kafka, REQUESTS.name, jobs * each):
        order.setdefault(found.key or b"", []).append(dict(found.headers)[REPLAYED])
    assert len(order) == jobs
    assert {tuple(turns) for turns in order.values()} == {(b"1", b"2", b"3")}


SENT = 6
"""Records that are published, one after the other, in more time than there may be without progress."""


def replay_all(
    servers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: Callable[[int], Any]
) -> tuple[int, list[str], str]:
    """Replay letters of one job, where `before(n)` is awaited before record n; the exit status and what is printed."""
    only = dead(1, "Faulty").record
    asyncio.run(
        bury(servers, *(DeadLetter(replace(only, offset=n, timestamp=n + 1), "Faulty", 3) for n in range(SENT)))
    )
    count = 0

    async def slowly(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        await before(count)
        return await publish(*arguments)

    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    monkeypatch.setattr(replay, "publish", slowly)
    monkeypatch.setattr(dlq, "LIMIT_S", patient(2))
    with pytest.raises(typer.Exit) as ended:
        dlq.replay(every=True, yes=True)
    printed = capsys.readouterr()
    return ended.value.exit_code, printed.out.splitlines(), printed.err


def test_a_replay_may_take_as_long_as_it_needs(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def half(_: int) -> None:
        await asyncio.sleep(dlq.LIMIT_S / 2)

    code, lines, _ = replay_all(embedded_kafka, monkeypatch, capsys, half)
    assert (code, lines[-1]) == (0, f"{SENT} of {SENT} are published.")


def test_a_replay_that_no_longer_progresses_says_what_is_published(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stuck(n: int) -> None:
        if n == 4:
            await asyncio.Event().wait()

    code, lines, said = replay_all(embedded_kafka, monkeypatch, capsys, stuck)
    assert (code, lines[-1]) == (1, f"3 of {SENT} are published.")
    assert said.startswith(f"KAFKA_BOOTSTRAP_SERVERS: {embedded_kafka} did not answer (")
    assert said.endswith("; repeat the command then: to publish a record twice is harmless\n")


async def topics_of(servers: str) -> set[str]:
    async with admin(KafkaCluster(servers)) as client:
        return set(await client.list_topics())


async def test_a_cluster_without_the_topic_is_named_and_stays_as_it_is(shell: Any, embedded_kafka: str) -> None:
    before = await topics_of(embedded_kafka)
    env = {"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka, "SEGUE_TOPIC_PREFIX": "mistyped."}
    for words in ((), ("show", "0/0"), ("replay", "--all", "--yes")):
        done = shell.run("dlq", *words, env=env)
        assert done.returncode == 78
        assert done.stdout == (
            f"KAFKA_BOOTSTRAP_SERVERS: {embedded_kafka} has no topic mistyped.segue.dead-letters: is it the right"
            " cluster, and the right SEGUE_TOPIC_PREFIX? `segue topics` creates what is missing\n"
        )
    assert await topics_of(embedded_kafka) == before


def test_an_env_file_that_is_not_there_is_named_and_no_other_cluster_is_asked(shell: Any, embedded_kafka: str) -> None:
    for words in ((), ("show", "0/0"), ("replay", "--all", "--yes")):
        done = shell.run("dlq", *words, "--env-file", "typo.env", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
        assert (done.returncode, done.stdout) == (78, "segue: typo.env is not there\n"), words


def cluster_from(
    monkeypatch: pytest.MonkeyPatch, folder: Path, file: dict[str, str], environment: dict[str, str]
) -> KafkaCluster:
    """The cluster of an env file, with this environment."""
    for name in KAFKA_SECURITY:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name + "_FILE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    write_env(folder / "other.env", file)
    return dlq._cluster(folder / "other.env")


LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
    "KAFKA_SASL_USERNAME": "operator",
}


def test_the_login_of_the_environment_is_not_sent_to_the_cluster_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = {"KAFKA_BOOTSTRAP_SERVERS": "mine:9092", **LOGIN, "KAFKA_SASL_PASSWORD": "open-sesame"}
    found = cluster_from(monkeypatch, tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": "other:9092"}, mine)
    assert (found.servers, found.login) == ("other:9092", None)


def test_a_password_of_the_environment_gives_way_to_one_that_is_in_the_file_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("from-a-file\n")
    file = {**LOGIN, "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password")}
    around = {"KAFKA_BOOTSTRAP_SERVERS": "mine:9092", "KAFKA_SASL_PASSWORD": "open-sesame"}
    for servers in ({}, {"KAFKA_BOOTSTRAP_SERVERS": "other:9092"}):
        found = cluster_from(monkeypatch, tmp_path, file | servers, around)
        assert found.login is not None
        assert found.login.password == "from-a-file"
        assert found.servers == (around | servers)["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.mark.parametrize("refuse", ["Ctrl-C", "Ctrl-D", "n"])
async def test_a_question_that_is_not_answered_with_yes_publishes_nothing(
    shell: Any, embedded_kafka: str, refuse: str
) -> None:
    await bury(embedded_kafka, dead(1, "Faulty: one"))
    terminal, end = os.openpty()
    try:
        command = shell.start("dlq", "replay", "--all", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka}, stdin=end)
        command.until("Is the cause corrected?")
        if refuse == "Ctrl-C":
            command.interrupt_question()
        else:
            os.write(terminal, b"\x04" if refuse == "Ctrl-D" else b"n\n")
        assert command.process.wait(patient(60)) == 2
    finally:
        os.close(terminal)
        os.close(end)
    assert command.printed().endswith("Nothing was published.\n")
    assert "Aborted" not in command.printed()
    assert not await read(embedded_kafka, REQUESTS.name, 0)


STUCK = """
import asyncio, sys
from segue_cli.commands import replay

publish, count = replay.publish, 0

async def stuck(*arguments):
    global count
    count += 1
    if count == 4:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    return await publish(*arguments)

replay.publish = stuck
from segue_cli.__main__ import main
main()
"""
"""The command, whose fourth record is never confirmed."""


def test_ctrl_c_says_how_many_are_published(shell: Any, embedded_kafka: str, until: Any) -> None:
    only = dead(1, "Faulty").record
    letters = (DeadLetter(replace(only, offset=n, timestamp=n + 1), "Faulty", 3) for n in range(SENT))
    asyncio.run(bury(embedded_kafka, *letters))
    output = shell.folder / "replay.out"
    env = {**shell.env, "KAFKA_BOOTSTRAP_SERVERS": embedded_kafka}
    how: dict[str, Any] = {"cwd": shell.folder, "env": env, "preexec_fn": restore_sigint}
    with output.open("w") as file:
        words = [sys.executable, "-c", STUCK, "dlq", "replay", "--all", "--yes"]
        process = subprocess.Popen(words, stdout=file, stderr=file, **how)
        try:
            until(lambda: "stuck" in output.read_text(), 60, output.read_text)
            process.send_signal(signal.SIGINT)
            assert process.wait(patient(60)) == 130
        finally:
            process.kill()
            process.wait()
    printed = output.read_text()
    assert f"3 of {SENT} are published.\n" in printed
    assert "Interrupted; repeat the command for the others: to publish a record twice is harmless\n" in printed
    assert "Traceback" not in printed
    assert len(asyncio.run(read(embedded_kafka, REQUESTS.name, 3))) == 3
