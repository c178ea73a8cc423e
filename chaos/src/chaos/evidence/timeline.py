"""Prints jobs from request to bill: `python -m chaos.evidence.timeline TOKEN|JOB…`, or `--random 20`."""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

Line = tuple[float, str, str]
SHOWN: Final = (
    "n", "provider", "stage", "kind", "message", "provider_ref", "accepted", "effect", "cost_usd", "deadline_at",
)  # fmt: skip


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; empty if there is no such file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def read_timelines(folder: Path) -> tuple[dict[str, list[Line]], dict[str, str]]:
    """The timeline of each job, without duplicates, and the job of each token."""
    lines: dict[str, set[Line]] = defaultdict(set)
    jobs: dict[str, str] = {}
    for answer in entries(folder / "client.jsonl"):
        if answer["job_id"] is not None:
            jobs[answer["token"]] = answer["job_id"]
            words = f"{answer['call']} -> {answer['status']} {answer['body'].get('status', '')}"
            lines[answer["job_id"]].add((answer["at"], "client", f"{words} {_spec(answer['body'])}".rstrip()))
    for event in entries(folder / "events.jsonl"):
        if "job_id" in event:
            at = datetime.fromisoformat(event["at"]).timestamp()
            lines[event["job_id"]].add((at, "event", f"{event['type']} {_shown(event['data'])}".rstrip()))
    runs: dict[str, str] = {}
    for bill in entries(folder / "bills.jsonl"):
        if bill["event"] == "post" and bill["attempt_id"]:
            job_id, _, n = bill["attempt_id"].rpartition(".")
            runs[bill["request_id"]] = job_id
            verdict = f"accepted as {bill['request_id']}" if bill["accepted"] else "not accepted"
            what = f"attempt {n} POSTed to {bill['provider']} {bill['endpoint']}: {verdict}, HTTP {bill['status']}"
            lines[job_id].add((bill["at"], "bill", what))
        elif bill["event"] != "post" and bill["request_id"] in runs:
            what = f"{bill['request_id']} {bill['event']}: {bill['outcome']}, {bill['billed_usd']} USD"
            lines[runs[bill["request_id"]]].add((bill["at"], "bill", what))
    return {job_id: sorted(found) for job_id, found in lines.items()}, jobs


def _spec(body: Mapping[str, Any]) -> str:
    spec = body.get("spec")
    return "" if spec is None else f"{json.dumps(spec['fields'])} {' '.join(f'<{one}>' for one in spec['faults'])}"


def _shown(data: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={data[name]}" for name in SHOWN if data.get(name) is not None)


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", help="tokens, as in s7-0042, or job ids")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="so many others")
    parser.add_argument("--audit", type=Path, default=Path("chaos-audit"), help="the folder (chaos-audit)")
    options = parser.parse_args()
    timelines, jobs = read_timelines(options.audit)
    tokens = {job_id: token for token, job_id in jobs.items()}
    picked = random.sample(sorted(jobs), min(options.random, len(jobs)))
    for name in [*options.which, *picked]:
        job_id = jobs.get(name, name)
        print(f"\n{tokens.get(job_id, '?')}  {job_id}")
        for at, side, what in timelines.get(job_id, []):
            print(f"  {datetime.fromtimestamp(at, UTC):%H:%M:%S.%f}  {side:6}  {what}")


if __name__ == "__main__":
    main()
