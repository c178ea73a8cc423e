"""`segue submit`, `jobs`, `job`, `logs` and `cancel`: the REST API on the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import typer

from segue_cli.commands.submit_options import (
    AmbiguityPolicyOption,
    DeadlineOption,
    LostOutputPolicyOption,
    MaxCostOption,
    ProviderOption,
    RouteByOption,
    SameModelOnlyOption,
    finite,
)

if TYPE_CHECKING:
    from segue_cli.commands.api import Api

POLL_S: Final = 0.25
TOO_LATE: Final = 3
PENDING: Final = 4
_CANCEL_STATUS: Final = {"too_late": TOO_LATE, "pending": PENDING}

ApiOption = Annotated[str | None, typer.Option("--api", help="The API's address; also SEGUE_API.")]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands with `segue`."""
    for command in (submit, jobs, job, logs, cancel):
        app.command()(command)


def submit(
    prompt: Annotated[str, typer.Argument(help="What it should sound like.")],
    duration: Annotated[float | None, typer.Option(callback=finite, help="Length in seconds.")] = None,
    vocals: Annotated[bool | None, typer.Option("--vocals/--instrumental", help="Whether somebody sings.")] = None,
    lyrics: Annotated[str | None, typer.Option(help="What is sung; @FILE reads a file.")] = None,
    style: Annotated[float | None, typer.Option(callback=finite, help="How closely to follow it, 0 to 1.")] = None,
    model: Annotated[str | None, typer.Option(help="A model of the catalogue.")] = None,
    provider: ProviderOption = None,
    route_by: RouteByOption = None,
    max_cost: MaxCostOption = None,
    same_model_only: SameModelOnlyOption = None,
    deadline: DeadlineOption = None,
    ambiguity_policy: AmbiguityPolicyOption = None,
    lost_output_policy: LostOutputPolicyOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and fetch the file.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where the file goes; implies --wait.")] = None,
    key: Annotated[str | None, typer.Option(help="The Idempotency-Key of an earlier try, to repeat it.")] = None,
    api: ApiOption = None,
) -> None:
    """Request a track."""
    from segue_cli.commands.api import submit_unknown
    from segue_cli.commands.output_place import require_file, require_folder

    sung = vocals if vocals is not None else (True if lyrics else None)
    said: dict[str, Any] = {
        "prompt": prompt,
        "duration_s": duration,
        "has_vocals": sung,
        "lyrics": _read(Path(lyrics[1:])) if lyrics and lyrics.startswith("@") else lyrics,
        "style_strength": style,
        "model": model,
        "providers": provider or None,
        "route_by": route_by,
        "max_cost_usd": max_cost,
        "same_model_only": same_model_only,
        "deadline_s": deadline,
        "ambiguity_policy": ambiguity_policy,
        "lost_output_policy": lost_output_policy,
    }
    request = {name: value for name, value in said.items() if value is not None}
    if out is not None:
        require_file(out, "--out")
    elif wait:
        require_folder(Path(), "--wait")
    key = key or str(uuid4())
    with at_api(api) as segue:
        with told_if_cut_off(submit_unknown(key)):
            accepted = segue.submit(request, key)
            print(f"job {accepted['job_id']}", flush=True)
        if not wait and out is None:
            print(f"Follow it with:  segue logs {accepted['job_id']} --follow")
            return
        raise typer.Exit(_wait_and_fetch(segue, accepted["job_id"], out))


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    api: ApiOption = None,
) -> None:
    """List the newest jobs."""
    from segue_cli.views.console import console
    from segue_cli.views.jobs import jobs_table

    with at_api(api) as segue:
        found = segue.jobs(limit, status)
    console().print(jobs_table(found, datetime.now(UTC)) if found else "No jobs yet.")


def job(job_id: JobArgument, api: ApiOption = None) -> None:
    """Show one job: its status, its attempts, its files, its cost."""
    from segue_cli.views.console import console
    from segue_cli.views.jobs import job_screen

    with at_api(api) as segue:
        console().print(job_screen(segue.job(job_id), segue.base))


def logs(
    job_id: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    api: ApiOption = None,
) -> None:
    """Show what happened to a job, in order."""
    from rich.text import Text

    from segue_cli.commands.follow import follow_log
    from segue_cli.views.console import console
    from segue_cli.views.jobs import log_line, log_table, when

    out = console()
    with at_api(api) as segue:
        if not follow:
            found = segue.whole_log(job_id)
            out.print(log_table(found["entries"]))
            if url := found.get("trace_url"):
                out.print(Text(f"Its trace: {url}"), soft_wrap=True)
            return
        begin: datetime | None = None
        for entry in follow_log(segue, job_id):
            begin = begin or when(entry["time"])
            out.print(log_line(entry, begin), soft_wrap=True)


def cancel(
    job_id: JobArgument,
    wait: Annotated[int, typer.Option(min=0, max=60, help="Seconds to wait for the result.")] = 10,
    api: ApiOption = None,
) -> None:
    """Cancel a job, and show the effect and the cost.

    The exit status is 0 if it was cancelled, 3 if it was too late, 4 if the result is not known yet, and 1 if the API
    refused or did not answer. A repeated call is harmless.
    """
    from segue_cli.commands.api import CANCEL_UNKNOWN

    with at_api(api) as segue, told_if_cut_off(CANCEL_UNKNOWN):
        found = segue.cancel(job_id, wait)
        outcome = found["cancel"]
        print(f"job {found['id']}: {found['status']} ({outcome['effect']})")
        print(outcome["message"], flush=True)
    if outcome["effect"] == "pending":
        print(f"Watch it with:  segue logs {found['id']} --follow")
    raise typer.Exit(_CANCEL_STATUS.get(outcome["effect"], 0))


@contextmanager
def at_api(option: str | None) -> Iterator[Api]:
    """The API; if it refuses, the command prints a sentence to stderr and exits with 1."""
    from segue_cli.commands.api import ApiFailed, address, connected

    try:
        with connected(address(option)) as segue:
            yield segue
    except ApiFailed as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


@contextmanager
def told_if_cut_off(unknown: str) -> Iterator[None]:
    """Print `unknown` to stderr if Ctrl-C, or output that cannot be written, ends the block: its answer is not seen."""
    try:
        yield
    except (KeyboardInterrupt, OSError):
        print(f"\n{unknown}" if sys.stderr.isatty() else unknown, file=sys.stderr)
        raise


def _wait_and_fetch(segue: Api, job_id: str, out: Path | None) -> int:
    from segue_cli.commands.api import ApiFailed, NotFetched
    from segue_cli.stack.signals import INTERRUPTED
    from segue_cli.views.console import console
    from segue_cli.views.jobs import job_screen

    screen = console()
    try:
        found = _ended(segue, job_id)
    except KeyboardInterrupt:
        print(f"\nThe job goes on. Look at it with:  segue job {job_id}")
        return INTERRUPTED
    if found["status"] != "succeeded":
        screen.print(job_screen(found, segue.base))
        return 1
    for n, artifact in enumerate(found["artifacts"]):
        to = out if out is not None and n == 0 else (out.parent if out else Path()) / f"{job_id[:8]}-{artifact['name']}"
        kept = f"Job {job_id} has succeeded, and its file is stored:  curl -fo FILE {segue.url(artifact['url'])}"
        try:
            size = segue.download(artifact["url"], to)
        except NotFetched as error:
            raise ApiFailed(f"{error}\n{kept}") from error
        except KeyboardInterrupt:
            print(f"\n{kept}", file=sys.stderr)
            return INTERRUPTED
        print(f"{to}  ({size:,} bytes, made by {found['provider']})")
    return 0


def _ended(segue: Api, job_id: str) -> dict[str, Any]:
    from segue_cli.commands.api import FINAL
    from segue_cli.views.console import console

    began = time.monotonic()
    with console(stderr=True).status("queued") as line:
        while (found := segue.job(job_id))["status"] not in FINAL:
            where = f" at {found['provider']}" if found["provider"] else ""
            place = f", {found['queue_position']} ahead" if found["queue_position"] is not None else ""
            tries = f", attempt {len(found['attempts'])}" if len(found["attempts"]) > 1 else ""
            line.update(f"{found['status']}{where}{tries}{place}  {time.monotonic() - began:.0f} s")
            time.sleep(POLL_S)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        sys.exit(f"--lyrics @{path}: {why}; nothing was sent")
