"""`segue artifacts`: the files that jobs produced, and the deletion of files from the store."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from log_sink.retention.artifact_expiry import Deleted
    from log_sink.retention.artifact_gc import Survey

RETENTION: Final = "SEGUE_ARTIFACT_RETENTION_DAYS"
ROW_RETENTION: Final = "SEGUE_ROW_RETENTION_DAYS"
LEAST_AGE: Final = timedelta(hours=1)
"""A younger file is never deleted: it may have been stored, and its event not sent yet."""
MOST_DAYS: Final = 36_500
_AGE: Final = re.compile(r"^([0-9]{1,5})([hdw])$")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}

EnvFileOption = Annotated[Path | None, typer.Option(help="Settings, as in .segue/up.env; they go before all others.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands with `segue`."""
    group = typer.Typer(invoke_without_command=True, help="The files that jobs made: list them, delete old ones.")
    group.callback()(artifacts)
    group.command()(gc)
    app.add_typer(group, name="artifacts")


def age(text: str) -> timedelta:
    """Parse an age such as 12h, 30d or 8w. Raises typer.BadParameter."""
    found = _AGE.match(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not an age such as 12h, 30d or 8w")
    value = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if not LEAST_AGE <= value <= timedelta(days=MOST_DAYS):
        raise typer.BadParameter(f"{text!r} is not between 1h and {MOST_DAYS}d")
    return value


def artifacts(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    env_file: EnvFileOption = None,
) -> None:
    """List the newest files, and show the total size of all."""
    if context.invoked_subcommand is not None:
        return
    from log_sink.retention.artifact_gc import CannotCollect, stored_artifacts
    from segue_cli.views.console import console, plain_table

    _read_settings(env_file)
    try:
        found, totals = asyncio.run(stored_artifacts(_required("DATABASE_URL"), limit))
    except CannotCollect as error:
        sys.exit(str(error))
    out = console()
    if found:
        table = plain_table("attempt", "file", "type", "size", "made", "")
        for each in found:
            gone = f"expired {each.expired_at:%Y-%m-%d %H:%M}" if each.expired_at else ""
            made = f"{each.made_at:%Y-%m-%d %H:%M}"
            table.add_row(each.attempt_id, each.name, each.content_type, in_bytes(each.size_bytes), made, gone)
        out.print(table)
    out.print(f"{totals.kept.files:,} files, {in_bytes(totals.kept.size_bytes)}; {totals.expired:,} have expired.")


def gc(
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=age, metavar="AGE", help=f"As in 30d, 12h, 8w; default: {RETENTION}, if it is set."),
    ] = None,
    orphan_age: Annotated[
        timedelta | None,
        typer.Option(
            parser=age, metavar="AGE", help="Files without a row are deleted once they are this old; default: 1d."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    env_file: EnvFileOption = None,
) -> None:
    """Delete files that are old enough, and orphans: files that a killed collection left behind."""
    from chassis.observability.logs import configure_logs
    from chassis.settings.service import DEFAULT_ROW_RETENTION_DAYS, LEAST_ROW_RETENTION_DAYS
    from log_sink.retention.artifact_gc import AGE_OF_ORPHANS, CannotCollect
    from segue_cli.views.console import console

    configure_logs("segue", "WARNING", "auto")
    _read_settings(env_file)
    database_url, store_url = _required("DATABASE_URL"), _required("ARTIFACT_STORE_URL")
    keep, orphan_age = older_than or _period(RETENTION), orphan_age or AGE_OF_ORPHANS
    keep_rows = _period(ROW_RETENTION, more_than=LEAST_ROW_RETENTION_DAYS) or timedelta(days=DEFAULT_ROW_RETENTION_DAYS)
    out = console()
    try:
        found = asyncio.run(_survey(database_url, store_url, keep, orphan_age, keep_rows))
        out.print(_where(database_url, store_url), markup=False)
        out.print(_what_would_go(found, keep, orphan_age))
        if dry_run or not _number(found):
            out.print("Nothing was deleted." if dry_run else "There is nothing to delete.")
            return
        if not yes:
            _ask(found)
        expired, swept = asyncio.run(_delete(database_url, store_url, keep, orphan_age, keep_rows, found))
    except CannotCollect as error:
        sys.exit(str(error))
    failed = expired.failed + swept.failed
    out.print(f"Deleted {_told(expired)} that were old enough, and {_told(swept)} that no row knew.")
    if failed:
        out.print(f"{failed:,} could not be deleted; run it again.", style="red")
        raise typer.Exit(1)


def in_bytes(size: int) -> str:
    """A size as text, with a unit."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


async def _survey(
    database_url: str, store_url: str, keep: timedelta | None, orphan_age: timedelta, keep_rows: timedelta
) -> Survey:
    from log_sink.retention.artifact_gc import collection

    async with collection(database_url, store_url, keep, orphan_age, keep_rows) as store:
        return await store.survey()


async def _delete(
    database_url: str,
    store_url: str,
    keep: timedelta | None,
    orphan_age: timedelta,
    keep_rows: timedelta,
    found: Survey,
) -> tuple[Deleted, Deleted]:
    from log_sink.retention.artifact_gc import collection

    async with collection(database_url, store_url, keep, orphan_age, keep_rows) as store:
        return await store.delete(found)


def _what_would_go(found: Survey, keep: timedelta | None, orphan_age: timedelta) -> object:
    from log_sink.retention.artifact_gc import Tally
    from segue_cli.views.console import plain_table

    old = f"older than {_days(keep)}" if keep else f"old enough: {RETENTION} is not set"
    table = plain_table("what", "files", "size", "")
    orphans = Tally(len(found.orphans), sum(file.size_bytes for file in found.orphans))
    rows = (
        (old, found.due, "goes"),
        ("expired earlier, not deleted yet", found.left_over, "goes"),
        (f"orphans, older than {_days(orphan_age)}", orphans, "goes"),
        ("known by a row", found.standing.get("kept", Tally()), "stays, unless it is counted above"),
        (
            "not known yet",
            found.standing.get("young", Tally()),
            "stays: young, of a job under way, or of an output that can be collected",
        ),
        ("of jobs that this database does not know", found.standing.get("foreign", Tally()), "stays"),
    )
    for what, tally, becomes in rows:
        table.add_row(what, f"{tally.files:,}", in_bytes(tally.size_bytes), becomes)
    return table


def _number(found: Survey) -> int:
    """How many files would be deleted."""
    return found.due.files + found.left_over.files + len(found.orphans)


def _ask(found: Survey) -> None:
    if not sys.stdin.isatty():
        print(
            "Nothing was deleted: there is no terminal for the question; --yes deletes without asking.", file=sys.stderr
        )
        raise typer.Exit(2)
    typer.confirm(f"Delete {_number(found):,} files?", abort=True)


def _read_settings(env_file: Path | None) -> None:
    from chassis.settings.env_file import BadEnvironment
    from chassis.settings.service import read_into_environment
    from segue_cli.stack.folder import FOLDER

    if env_file is not None:
        if not env_file.exists():
            raise BadEnvironment(f"{env_file} is not there")
        read_into_environment(env_file, override=True)
    read_into_environment(Path(".env"))
    if env_file is None and not (os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE")):
        # Both from one file: rows of one Segue must not be used with the store of another.
        read_into_environment(FOLDER / "up.env", override=True)


def _required(name: str) -> str:
    from chassis.settings.names import SECRETS
    from chassis.settings.secret_files import with_secrets

    value = with_secrets(os.environ, {name} & {*SECRETS}).get(name)
    if not value:
        sys.exit(f"{name} is not set, in the environment or in .env, and no `segue up` runs in this folder")
    return value


def _period(name: str, more_than: float | None = None) -> timedelta | None:
    """A setting in days, by the bounds of the services: from 1, or more than `more_than`."""
    if not (told := os.environ.get(name)):
        return None
    try:
        days = float(told)
    except ValueError:
        days = 0
    fits = days >= 1 if more_than is None else days > more_than
    if not (fits and days <= MOST_DAYS):
        least = "from 1" if more_than is None else f"more than {more_than:g} and up"
        sys.exit(f"{name}: must be a number of days, {least} to {MOST_DAYS}")
    return timedelta(days=days)


def _where(database_url: str, store_url: str) -> str:
    from chassis.postgres.pool import database_name

    return f"Database {database_name(database_url)}, store {store_url.partition('?')[0]}"


def _told(deleted: Deleted) -> str:
    return f"{deleted.files:,} files ({in_bytes(deleted.size_bytes)})"


def _days(of: timedelta) -> str:
    return f"{of.days:,} d" if of >= timedelta(days=1) else f"{of.total_seconds() / 3600:g} h"
