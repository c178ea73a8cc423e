"""`segue attempts`: lists attempts, and records an operator's finding about an ambiguous one."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from segue_cli.commands.jobs import PENDING, POLL_S, ApiOption, at_api, told_if_cut_off

if TYPE_CHECKING:
    from segue_cli.commands.api import Api

NOT_CONFIRMED: Final = 2


def add_to(app: typer.Typer) -> None:
    """Register the commands with `segue`."""
    attempts = typer.Typer(rich_markup_mode=None)
    attempts.callback(invoke_without_command=True)(list_attempts)
    attempts.command()(resolve)
    attempts.command()(collect)
    app.add_typer(attempts, name="attempts")


def list_attempts(
    context: typer.Context,
    ambiguous: Annotated[
        bool, typer.Option("--ambiguous", help="Only those of which it is not known whether they were accepted.")
    ] = False,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="The API's JSON.")] = False,
    api: ApiOption = None,
) -> None:
    """List attempts, newest first, or resolve one whose submit was lost."""
    if context.invoked_subcommand is not None:
        return
    from segue_cli.views.attempts import attempts_list
    from segue_cli.views.console import console

    with at_api(api) as segue:
        found = segue.attempts(limit, provider, ambiguous=ambiguous)
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        console().print(attempts_list(found, datetime.now(UTC)))
    else:
        print("No attempt is ambiguous." if ambiguous else "No attempts yet.")


def resolve(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT", help="The attempt's id: its job's, a dot, a number.")],
    accepted: Annotated[
        str | None, typer.Option(metavar="REF", help="It runs at the provider, or did, under this id.")
    ] = None,
    never_accepted: Annotated[
        bool, typer.Option("--never-accepted", help="It is nowhere at the provider, and nothing was billed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    wait: Annotated[int, typer.Option(min=0, max=3600, help="Seconds to wait for the result.")] = 60,
    api: ApiOption = None,
) -> None:
    """Report what you found at the provider about an attempt whose submit was lost.

    With --accepted its run is monitored and its output kept; with --never-accepted its job may be tried, and paid for,
    at another provider. The exit status is 0 if the attempt is resolved, 4 if it is not resolved in time, 2 if you did
    not confirm it, and 1 if the API refused or did not answer.
    """
    from segue_cli.commands.api import RESOLVE_UNKNOWN
    from segue_cli.views.attempts import told_apart

    if (accepted is None) is not never_accepted:
        raise typer.BadParameter("say one of --accepted REF and --never-accepted")
    with at_api(api) as segue:
        before = segue.attempt(attempt_id)
        if never_accepted and not yes and not _sure(before):
            print("Nothing was changed.")
            raise typer.Exit(NOT_CONFIRMED)
        with told_if_cut_off(RESOLVE_UNKNOWN):
            print(segue.resolve(attempt_id, accepted)["message"], flush=True)
        after = _settled(segue, before, wait)
    settled = _is_settled(after, before)
    print(told_apart(after, settled=settled))
    raise typer.Exit(0 if settled else PENDING)


def collect(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT", help="The attempt's id: its job's, a dot, a number.")],
    wait: Annotated[int, typer.Option(min=0, max=3600, help="Seconds to wait for the files.")] = 60,
    api: ApiOption = None,
) -> None:
    """Fetch the output of a paid run again, after the cause was corrected.

    Nothing is paid for. The files are stored with the attempt; the state of its job does not change. The exit status is
    0 if the files are stored, 4 if they are not stored yet, and 1 if the API refused or did not answer.
    """
    from segue_cli.commands.api import COLLECT_UNKNOWN
    from segue_cli.views.attempts import told_apart

    with at_api(api) as segue:
        before = segue.attempt(attempt_id)
        with told_if_cut_off(COLLECT_UNKNOWN):
            print(segue.collect(attempt_id)["message"], flush=True)
        deadline = time.monotonic() + wait
        while (after := segue.attempt(attempt_id))["state"] != "succeeded" and time.monotonic() < deadline:
            if after["message"] != before["message"]:
                break
            time.sleep(POLL_S)
    if after["state"] == "succeeded":
        print(told_apart(after, settled=True))
        return
    print(f"Its files are not stored: {after['message']}\nSegue goes on trying for an hour, where that can help.")
    raise typer.Exit(PENDING)


def _sure(attempt: dict[str, Any]) -> bool:
    from segue_cli.views.console import confirmed

    if attempt["look_for"]:
        print(f"You looked for {attempt['look_for']}")
    return confirmed(f"{attempt['provider']} never accepted it, and the job may be paid for elsewhere?")


def _settled(segue: Api, before: dict[str, Any], within_s: float) -> dict[str, Any]:
    """The attempt once it is resolved, or after `within_s` seconds; each state on the way is printed."""
    deadline = time.monotonic() + within_s
    state = before["state"]
    while not _is_settled(now := segue.attempt(before["id"]), before) and time.monotonic() < deadline:
        if now["state"] != state:
            state = now["state"]
            print(f"  {state}", flush=True)
        time.sleep(POLL_S)
    return now


def _is_settled(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether it has ended, and differs from `before`."""
    ended = not now["ambiguous"] and now["finished_at"] is not None
    return ended and now["finished_at"] != before["finished_at"]
