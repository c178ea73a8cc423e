"""`segue dlq`: lists dead letters, and publishes their records again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeVar

import typer

from chassis.errors import EXIT_SETTINGS
from chassis.settings.env_file import BadEnvironment
from chassis.settings.names import KAFKA_SECURITY, SECRETS, SUFFIX
from chassis.settings.secret_files import replace, with_secrets
from segue_cli.stack.environment import as_written, read_env
from segue_cli.stack.folder import FOLDER

if TYPE_CHECKING:
    from chassis.delivery.letters import Letter
    from chassis.settings.kafka.cluster import KafkaCluster

T = TypeVar("T")
LIMIT_S: Final = 60.0
"""Seconds without any progress after which a command is given up; the whole may take as long as it needs."""
FAILED: Final = 1
NOT_CONFIRMED: Final = 2
_SERVERS: Final = "KAFKA_BOOTSTRAP_SERVERS"


class CannotReach(Exception):
    """The cluster does not answer, in one line."""


ServiceOption = Annotated[str | None, typer.Option(help="Only those of this service.")]
TopicOption = Annotated[str | None, typer.Option(help="Only records of this topic.")]
ErrorOption = Annotated[str | None, typer.Option(help="Only those whose error contains this text.")]
JobOption = Annotated[str | None, typer.Option(help="Only those of this job.")]
EnvOption = Annotated[
    Path | None, typer.Option(help="The settings of the cluster; default: the environment, then `segue up`'s.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands with `segue`."""
    dlq = typer.Typer(rich_markup_mode=None, help="List the messages that no service could process, or replay them.")
    dlq.callback(invoke_without_command=True)(list_letters)
    dlq.command()(show)
    dlq.command()(replay)
    app.add_typer(dlq, name="dlq")


def list_letters(
    context: typer.Context,
    service: ServiceOption = None,
    topic: TopicOption = None,
    error: ErrorOption = None,
    job: JobOption = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    env_file: EnvOption = None,
) -> None:
    """List the dead letters, the newest last; `show` prints one whole, `replay` publishes its record again."""
    if context.invoked_subcommand is not None:
        return
    from segue_cli.views.letters import letters_table

    found, others = _read(_cluster(env_file), _wanted(service, topic, error, job))
    if not found:
        print("There are no such dead letters." if any((service, topic, error, job)) else "There are no dead letters.")
    else:
        from segue_cli.views.console import console

        console().print(letters_table(found[-last:]))
        if len(found) > last:
            print(f"{len(found) - last} older ones are not shown: --last {len(found)}")
    if others:
        print(f"{len(others)} records of the topic are no letters of Segue's, the first at {others[0]}")


def show(
    place: Annotated[str, typer.Argument(metavar="LETTER", help="Its place, as the list has it: PARTITION/OFFSET.")],
    env_file: EnvOption = None,
) -> None:
    """Print one dead letter with the whole record."""
    from segue_cli.views.letters import whole_letter

    print(whole_letter(_chosen(_cluster(env_file), [place])[0]))


def replay(
    places: Annotated[list[str] | None, typer.Argument(metavar="LETTER...", help="PARTITION/OFFSET, of each.")] = None,
    service: ServiceOption = None,
    topic: TopicOption = None,
    error: ErrorOption = None,
    job: JobOption = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    runs: Annotated[
        bool, typer.Option("--runs", help="Also commands to run an attempt, which cost money although cancelled since.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    env_file: EnvOption = None,
) -> None:
    """Publish the records of dead letters to their topics again, once their cause is corrected.

    A record that was processed meanwhile changes nothing, so that replaying one twice is harmless: nothing is paid for
    again. A command to run an attempt is published with --runs only: its job may have been cancelled. The letters stay
    until their retention is over. The exit status is 0 if all are published, 1 if some are not, 2 if it was not
    confirmed, and 130 after Ctrl-C, with how many are published.
    """
    from segue_cli.views.console import confirmed

    narrowed = any((service, topic, error, job))
    if bool(places) + narrowed + every != 1:
        _refuse("Say which: the places of letters, or --service, --topic, --error and --job, or --all.")
    cluster = _cluster(env_file)
    found = _chosen(cluster, places) if places else _read(cluster, _wanted(service, topic, error, job))[0]
    # Each service that could not process a record has written a letter of it. Its place alone does not tell it from a
    # record of an earlier topic with this name.
    chosen = list({(one.topic, one.source_partition, one.source_offset, one.content): one for one in found}.values())
    if not chosen:
        print("There are no such dead letters: nothing was published.")
        return
    by_topic = Counter(letter.topic for letter in chosen)
    print(f"To publish again: {', '.join(f'{n} of {name}' for name, n in sorted(by_topic.items()))}")
    if not yes and not confirmed("Is the cause corrected?"):
        print("Nothing was published.")
        raise typer.Exit(NOT_CONFIRMED)
    raise typer.Exit(_publish(cluster, chosen, runs=runs))


def _publish(cluster: KafkaCluster, chosen: Sequence[Letter], *, runs: bool) -> int:
    """Publish the records of letters, and say of each that is not published why; returns the exit status."""
    from segue_cli.commands.replay import Replay
    from segue_cli.stack.signals import INTERRUPTED
    from segue_cli.views.console import console

    with console(stderr=True).status("Publishing …") as status:
        replay = Replay(cluster, runs=runs)

        async def publish(step: Callable[[], None]) -> None:
            def told() -> None:
                step()
                status.update(f"Publishing … {replay.published:,} of {len(chosen):,}")

            await replay.publish(chosen, told)

        try:
            _run(publish, cluster)
            code, broken_off = FAILED if replay.left else 0, ""
        except CannotReach as error:
            code, broken_off = FAILED, f"{error}; repeat the command then"
        except KeyboardInterrupt:
            code, broken_off = INTERRUPTED, "Interrupted; repeat the command for the others"
    order = {letter.id: n for n, letter in enumerate(chosen)}
    for letter, why in sorted(replay.left, key=lambda each: order[each[0].id]):
        print(f"{letter.id}: not published: {why}")
    print(f"{replay.published} of {len(chosen)} are published.")
    if broken_off:
        print(f"{broken_off}: to publish a record twice is harmless", file=sys.stderr)
    return code


def _wanted(service: str | None, topic: str | None, error: str | None, job: str | None) -> Callable[[Letter], bool]:
    def wanted(letter: Letter) -> bool:
        return (
            service in (None, letter.service)
            and topic in (None, letter.topic)
            and (error is None or error in letter.error)
            and (job is None or letter.key == job.encode())
        )

    return wanted


def _chosen(cluster: KafkaCluster, places: Sequence[str]) -> list[Letter]:
    found, _ = _read(cluster, lambda letter: letter.id in places)
    if missing := set(places) - {letter.id for letter in found}:
        _refuse(f"There is no dead letter {', '.join(sorted(missing))}: `segue dlq` lists them.")
    return found


def _read(cluster: KafkaCluster, wanted: Callable[[Letter], bool]) -> tuple[list[Letter], list[str]]:
    from chassis.delivery.letters import read_letters
    from segue_cli.stack.topics import BrokerAway
    from segue_cli.views.console import console

    with console(stderr=True).status("Reading the dead letters …") as status:

        async def read(step: Callable[[], None]) -> tuple[list[Letter], list[str]]:
            def told(count: int) -> None:
                step()
                status.update(f"Reading the dead letters … {count:,}")

            await _require_topic(cluster)
            return await read_letters(cluster, wanted, told)

        try:
            return _run(read, cluster)
        except (BrokerAway, CannotReach) as error:
            _refuse(str(error))


async def _require_topic(cluster: KafkaCluster) -> None:
    """Check that the cluster has the topic of the letters: another one must not look as if there were none.

    Raises BrokerAway.
    """
    from chassis.kafka.access import denied_topics
    from chassis.kafka.topics import describe
    from contracts.topics import DEAD_LETTERS
    from segue_cli.stack.topics import LIMIT_S as ANSWER_LIMIT_S
    from segue_cli.stack.topics import BrokerAway, asked

    there = await asked(cluster, ANSWER_LIMIT_S, lambda: describe(cluster, [DEAD_LETTERS]))
    if denied := denied_topics(cluster, there, reads=[DEAD_LETTERS]):
        raise BrokerAway(f"{cluster.setting}: {'; '.join(denied.values())}")
    if (name := cluster.names.of(DEAD_LETTERS)) not in there:
        right = "is it the right cluster, and the right SEGUE_TOPIC_PREFIX?"
        raise BrokerAway(f"{_SERVERS}: {cluster} has no topic {name}: {right} `segue topics` creates what is missing")


def _run(work: Callable[[Callable[[], None]], Awaitable[T]], cluster: KafkaCluster) -> T:
    """The result of work that calls its argument with each step. Raises CannotReach after `LIMIT_S` without one."""
    from aiokafka.errors import KafkaError

    from chassis.kafka.diagnosis import diagnose

    async def limited() -> T:
        try:
            async with asyncio.timeout(LIMIT_S) as limit:

                def step() -> None:
                    if not limit.expired():
                        limit.reschedule(asyncio.get_running_loop().time() + LIMIT_S)

                return await work(step)
        except (KafkaError, OSError, TimeoutError) as error:
            raise CannotReach(f"{_SERVERS}: {cluster} did not answer ({await diagnose(cluster)})") from error

    return asyncio.run(limited())


def _cluster(env_file: Path | None) -> KafkaCluster:
    """The cluster of the settings; those of a file go before all others. Raises BadEnvironment."""
    from segue_cli.stack.topics import BrokerAway, cluster_of

    if env_file is not None and not env_file.exists():
        raise BadEnvironment(f"{env_file} is not there")
    environ = as_written(Path.cwd())
    if env_file is not None or _SERVERS not in environ:
        told = read_env(env_file or FOLDER / "up.env")
        if _SERVERS in told:
            # The login of one cluster must not be sent to another; what a setting lacks is read from os.environ.
            for name in (each + suffix for each in KAFKA_SECURITY for suffix in ("", SUFFIX)):
                environ.pop(name, None)
                os.environ.pop(name, None)
        replace(environ, told, SECRETS)
    if _SERVERS not in environ:
        _refuse(f"{_SERVERS} is not set, and no `segue up` runs in this folder: there is no broker to ask.")
    try:
        return cluster_of(with_secrets(environ, SECRETS))
    except BrokerAway as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise typer.Exit(EXIT_SETTINGS)
