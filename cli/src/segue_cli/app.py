"""The subcommands of `segue`. The module of each subcommand is imported when it is used."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from chassis.settings.env_file import BadEnvironment
from contracts.text import escaped_line

EXIT_SETTINGS: Final = 78
"""As a service's exit code: a setting is wrong, or what it refers to cannot be used."""

app = typer.Typer(
    name="segue",
    help="Segue: one request becomes one job that ends well if any provider can do it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Providers(StrEnum):
    """The providers to use."""

    SANDBOX = "sandbox"
    LIVE = "live"


@app.command()
def up(
    providers: Annotated[
        Providers,
        typer.Option(help="sandbox: both providers on this machine, free; live: the real ones that have a key."),
    ] = Providers.SANDBOX,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The API's port; 0 takes any free one.")] = 8080,
) -> None:
    """Start all of Segue here, and keep it running until Ctrl-C."""
    from segue_cli.commands import up as command

    raise typer.Exit(command.up(live=providers is Providers.LIVE, port=port))


@app.command()
def run(
    service: Annotated[str, typer.Argument(help="gateway, orchestrator, fal-adapter, replicate-adapter or log-sink.")],
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port of its HTTP pages.")] = None,
    env_file: Annotated[Path | None, typer.Option(help="More settings, as in .segue/up.env.")] = None,
) -> None:
    """Run one service, as a pod would, with nothing embedded."""
    from segue_cli.commands import run_service

    run_service.run(service, port=port, env_file=env_file)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder that the audio file goes to.")] = Path("segue-demo"),
) -> None:
    """Show a job that fal refuses and Replicate makes, from start to end, and check every claim."""
    from segue_cli.demo import command

    raise typer.Exit(command.demo(out))


@app.command()
def topics(
    create: Annotated[
        bool | None, typer.Option("--create/--no-create", help="Default: if KAFKA_BOOTSTRAP_SERVERS is set.")
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Copies of each record, 3 in production; no topic is made with fewer. Default: one for each broker"
            " that is up, at most three.",
        ),
    ] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Create none, and wait that many seconds until they exist.")
    ] = None,
    acls: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Create none, and print what to grant each service, whose principal is User:PREFIX with its name.",
        ),
    ] = None,
) -> None:
    """Print the topic map, and create the topics on KAFKA_BOOTSTRAP_SERVERS."""
    from segue_cli.stack import topics as command

    raise typer.Exit(command.topics(create=create, replication=replication, wait_s=wait, acls=acls))


@app.command()
def migrate(
    schemas: Annotated[list[str] | None, typer.Argument(help="Schemas, or their services; default: all.")] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Change nothing, and wait that many seconds until it is done.")
    ] = None,
) -> None:
    """Bring the schemas in DATABASE_URL to this release. Each service also does so with its own when it starts."""
    from segue_cli.stack import migrations as command

    raise typer.Exit(command.run(schemas or (), wait))


@app.command()
def roles(
    apply: Annotated[bool, typer.Option("--apply", help="Run the SQL in DATABASE_URL instead of printing it.")] = False,
    prefix: Annotated[str, typer.Option(help="What the names of the roles begin with.")] = "segue_",
    owner: Annotated[
        str | None, typer.Option(help="The role that runs `segue migrate`; default: the one that runs the SQL.")
    ] = None,
) -> None:
    """Print the SQL that gives each service a database role of its own with what it needs, and no more."""
    from segue_cli.stack import roles as command

    raise typer.Exit(command.run(prefix, owner, apply=apply))


@app.command()
def doctor(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Check the `segue up` that runs in this folder.")] = False,
    env_file: Annotated[Path | None, typer.Option(help="Check with the settings of this file.")] = None,
) -> None:
    """Check everything that Segue needs, at no cost, and say how to correct what is wrong."""
    from segue_cli.doctor import command

    raise typer.Exit(command.doctor(sandbox=sandbox, env_file=env_file))


def prepare() -> None:
    """Register the commands, and have all output escaped."""
    from segue_cli.commands import artifacts, attempts, dlq, jobs, providers
    from segue_cli.views.console import harmless_output

    jobs.add_to(app)
    attempts.add_to(app)
    artifacts.add_to(app)
    providers.add_to(app)
    dlq.add_to(app)
    harmless_output()
    # It warns of every try to connect; the commands say once, in their own words, that Kafka does not answer.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def run_command() -> None:
    """Run the command that `sys.argv` names, and exit with its exit code."""
    try:
        app(prog_name="segue")
    except KeyboardInterrupt:
        sys.exit(130)  # Before the command itself runs, in which typer does this.
    except BadEnvironment as error:
        print(f"segue: {escaped_line(str(error))}", file=sys.stderr)
        sys.exit(EXIT_SETTINGS)
    except Exception as error:  # noqa: BLE001 - the last resort: the user gets one line, not a traceback
        _tell_unforeseen(error)
        sys.exit(1)


def _tell_unforeseen(error: Exception) -> None:
    from chassis.errors import in_one_line, root_cause

    if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    print(f"segue: {in_one_line(root_cause(error))} (LOG_LEVEL=DEBUG shows the traceback)", file=sys.stderr)
