"""`segue demo`: one job, refused by fal and completed by Replicate, with every claim checked at the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
import wave
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
from rich.console import Console
from rich.text import Text

from chassis.errors import EXIT_SETTINGS, EXIT_TEMPORARY
from chassis.runtime.private_files import keep_private
from segue_cli.commands.api import Api, ApiFailed, connected
from segue_cli.commands.follow import follow_log
from segue_cli.commands.output_place import require_folder
from segue_cli.demo import view
from segue_cli.demo.verdict import Sound, answered, claims, listen
from segue_cli.stack import environment
from segue_cli.stack.components import StackFailed, from_here
from segue_cli.stack.folder import State, held
from segue_cli.stack.progress import told
from segue_cli.stack.run import Plan, Stack, stack
from segue_cli.stack.signals import INTERRUPTED, run_until_told
from segue_cli.views.console import SEED_REQUEST, console
from segue_cli.views.jobs import log_table, short, when

OUT_OF_BALANCE: Final = [{"provider": "fal", "on": "submit", "action": {"refuse": "balance"}}]
LIMIT_S: Final = 300.0
"""Time limit of the job, in seconds; on an idle machine it takes three seconds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The results of the demo's job."""

    job: dict[str, Any]
    log: list[dict[str, Any]]
    bills: dict[str, Any]
    sound: Sound | None
    refusals: list[str]
    """Why the file could not be fetched or played."""


def demo(out: Path) -> int:
    """Run the demo; returns 0 only if every claim is true."""
    keep_private()
    require_folder(out, "--out")
    screen = console()
    with tempfile.TemporaryDirectory(prefix="segue-demo-") as folder, held(Path(folder)) as state:
        environ = {**environment.without_settings(os.environ), "MUSIC_PROVIDER": "fal"}
        plan = Plan(state, environ, Path(folder), throwaway=True)
        code = run_until_told(_demo(plan, out, screen))
        if code not in (0, INTERRUPTED, EXIT_SETTINGS, EXIT_TEMPORARY):
            view.tell_what_went_wrong(screen, state, _keep_logs(state, out))
    if code == INTERRUPTED:
        screen.print("Stopped; nothing is left running.")
    return code


async def _demo(plan: Plan, out: Path, screen: Console) -> int:
    began = time.monotonic()
    what = "Starting Kafka's protocol, PostgreSQL, both providers' stand-ins and five services"
    try:
        async with AsyncExitStack() as started:
            async with told(screen, what, plan.starting):
                running = await started.enter_async_context(stack(plan))
            screen.print(f"[bold green]Segue is up[/] after {time.monotonic() - began:.1f} s at {running.api}.")
            # In a thread, so that this loop continues to read the output of the processes; it ends with the API.
            shown = await asyncio.to_thread(_show, running, out, screen)
    except (StackFailed, ApiFailed) as error:
        console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True)
        return error.code if isinstance(error, StackFailed) else 1
    verdict = claims(shown.job, shown.log, shown.bills, shown.sound)
    view.tell_verdict(screen, verdict, shown.bills, shown.sound, time.monotonic() - began)
    for refusal in shown.refusals:
        screen.print(Text(refusal, style="red"))
    if not all(claim.holds for claim in verdict):
        return 1
    view.tell_how_to_go_on(screen)
    return 0


def _show(running: Stack, out: Path, screen: Console) -> Shown:
    sandbox = running.env[environment.SANDBOX]
    try:
        with httpx.Client(base_url=sandbox, trust_env=False) as control, connected(running.api) as segue:
            control.put("/faults", json=OUT_OF_BALANCE).raise_for_status()
            screen.print("fal is told to refuse: 403, the account's balance is exhausted.\n")
            screen.print(Text(f"POST /api/tracks {SEED_REQUEST}"), soft_wrap=True)
            accepted = segue.submit(json.loads(SEED_REQUEST), str(uuid4()))
            screen.print(f"202 job {accepted['job_id']}\n")
            return _follow(segue, control, accepted["job_id"], out, screen)
    except httpx.HTTPError as error:
        raise ApiFailed(f"the sandbox at {sandbox} did not answer: {error!r}") from error


def _follow(segue: Api, control: httpx.Client, job_id: str, out: Path, screen: Console) -> Shown:
    begin: datetime | None = None
    for entry in follow_log(segue, job_id, within_s=LIMIT_S):
        begin = begin or when(entry["time"])
        status = answered(_bills(control), entry["provider"]) if short(entry["event"]) == "attempt.failed" else None
        screen.print(view.step(entry, begin, status), soft_wrap=True)
    log, job = segue.log(job_id), segue.job(job_id)
    screen.print("\n[bold]The job's log[/]", log_table(log), sep="\n")
    sound, refusals = _fetch(segue, job, out)
    return Shown(job, log, _bills(control), sound, refusals)


def _bills(control: httpx.Client) -> dict[str, Any]:
    book: dict[str, Any] = control.get("/bills").raise_for_status().json()
    return book


def _fetch(segue: Api, job: dict[str, Any], out: Path) -> tuple[Sound | None, list[str]]:
    """Fetch the job's file through the API to a place that outlives the demo."""
    if not job["artifacts"]:
        return None, ["the job has no file"]
    artifact = job["artifacts"][0]
    to = out / f"warm-ambient-pad{Path(artifact['name']).suffix}"
    try:
        segue.download(artifact["url"], to)
        return listen(to), []
    except ApiFailed as error:
        return None, [str(error)]
    except (wave.Error, EOFError) as error:
        return None, [f"{from_here(to)} cannot be played: {error}"]


def _keep_logs(state: State, out: Path) -> Path:
    """Copy the logs into the folder, or into a new one if that is impossible by now, such as on a full disk."""
    kept = out / "logs"
    try:
        return Path(shutil.copytree(state.logs, kept, dirs_exist_ok=True))
    except OSError:
        return Path(shutil.copytree(state.logs, tempfile.mkdtemp(prefix="segue-demo-logs-"), dirs_exist_ok=True))
