"""Asks for tracks through the Service of a running node until stdin closes, and then checks what became of each.

`node_proof.py` starts it where names are resolved as in a pod. It prints a JSON line when it begins, and one with what
was counted and with every violation of a promise, as `make chaos` finds them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from chaos.checks.checker import check
from chaos.cluster.system import Logged
from chaos.evidence.by_job import group_by_job
from chaos.evidence.gather import Gatherer, evidence_of_load
from chaos.evidence.model import Evidence, Window
from chaos.load.clients import Load
from chaos.load.requests import RequestSpec
from contracts.failures import FailureKind
from segue_cli.local.process import until_told

SETTINGS: Final = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "DATABASE_URL": "postgresql://segue:not-a-secret@postgres:5432/segue",
}
GATEWAY: Final = "http://gateway:8080"
DRAIN_S: Final = 240.0
EXPLAINED: Final = frozenset({FailureKind.INSUFFICIENT_BALANCE, FailureKind.UNAVAILABLE})
"""How attempts fail at an account without credit: the first is refused, and then the breaker is open."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The demo as a client outside of it sees it."""

    api: httpx.AsyncClient
    bills_file: Path
    env: Mapping[str, str]
    logged: Sequence[Logged] = ()


def attributed(evidence: Evidence) -> Evidence:
    """The evidence with the attempt of each bill: the demo has no address for callbacks, which would name it.

    A bill whose run no attempt knows stays without one, and is a violation.
    """
    known = {row["provider_ref"]: row["attempt_id"] for row in evidence.tables.ledger if row["provider_ref"]}
    bills = [
        {**bill, "attempt_id": bill.get("attempt_id") or known.get(bill.get("request_id"))} for bill in evidence.bills
    ]
    return replace(evidence, bills=bills)


async def run(name: str, folder: Path, bills: Path, rate: float, least: int) -> dict[str, Any]:
    """Send `rate` requests a second, at least `least` of them, and count what became of them."""
    began = time.time()
    limits = httpx.Limits(max_connections=50, keepalive_expiry=5)
    async with httpx.AsyncClient(base_url=GATEWAY, trust_env=False, timeout=30, limits=limits) as api:
        system = Outside(api, bills, SETTINGS)
        gatherer = Gatherer(system, folder)
        async with Load(system, name, random.Random(name), folder) as load:
            print(json.dumps({"sending": name}), flush=True)
            async with load.running(rate, spec=RequestSpec("a warm pad")):
                await until_told()
                await load.wait_for_requests(least)
            sent_s = time.time() - began
            left = await load.drain(DRAIN_S)
            await load.verify()
            unfinished = await gatherer.wait_until_idle()
        refuses = Window("no-credit", began, time.time(), EXPLAINED, "fal")
        everything = await gatherer.read_all(load.answers, [refuses])
        evidence = attributed(evidence_of_load(everything, name, load.answers))
    posts = [answer for answer in load.answers if answer.call == "post"]
    attempts = [one for job in group_by_job(evidence).jobs.values() for one in job.attempts.values()]
    return {
        "jobs": len(load.requests),
        "answered_202": sum(one.job_id is not None for one in load.requests),
        "succeeded": sum(one.ended == "succeeded" for one in load.requests),
        "open": len(left),
        "attempts": len(attempts),
        "attempts_paid": sum(len(one.bills) == 1 for one in attempts),
        "attempts_paid_twice": sum(len(one.bills) > 1 for one in attempts),
        "requests_repeated": sum(answer.status != 202 for answer in posts),
        "sent_within_s": round(sent_s, 1),
        "unfinished": unfinished,
        "violations": [f"{one.kind} {one.subject}: {one.evidence}" for one in check(evidence)],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the beginning of every token")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the evidence")
    parser.add_argument("--bills", type=Path, required=True, help="the sandbox's bills")
    parser.add_argument("--rate", type=float, default=2.0, help="requests a second (2)")
    parser.add_argument("--least", type=int, default=200, help="the least number of requests (200)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    found = asyncio.run(run(options.name, options.folder, options.bills, options.rate, options.least))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
