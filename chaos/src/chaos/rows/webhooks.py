"""Row 27: webhooks arrive twice, late, never, forged, old, empty, oversized, or before the answer to the POST."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import httpx

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import RATE, Row
from chaos.rows.probes import PROVIDERS, BillLog, MetricDeltas, finished_job, kinds
from chaos.rows.providers import BOTH
from contracts.callback_urls import callback_url
from contracts.ids import AttemptId

WEBHOOKS: Final = tuple(
    f"webhook-{how}" for how in ("never", "late", "duplicate", "forged", "stale", "null", "oversize")
)
EARLY: Final = "accept-slowly"
"""The callback arrives while the answer to the POST is still awaited, and that times out."""
HUGE: Final = b'{"x": "' + b"y" * 3_000_000 + b'"}'


async def _webhooks(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, counts = BillLog(fleet), await MetricDeltas.of(fleet, "gateway", "fal-adapter", "replicate-adapter")
    async with load.running(RATE / 2):
        wanted = [(fault, list(order)) for fault in (*WEBHOOKS, EARLY) for order in BOTH]
        call = [load.submit("called back", faults=(fault,), providers=order) for fault, order in wanted]
        requests = await asyncio.gather(*call)
        ours = await _posted_by_a_stranger(fleet, f"{requests[0].job_id}.1")
        jobs = await asyncio.gather(*(finished_job(load, one) for one in requests))
    bad = [(fault, job["status"], kinds(job)) for (fault, _), job in zip(wanted, jobs, strict=True)]
    bad = [each for each in bad if each[1:] != ("succeeded", [None])]
    assert not bad, bad
    outcomes = await counts.by("segue_callbacks_total", "outcome")
    for outcome in ("taken", "bad-signature", "body-too-large", "wrong-address"):
        assert outcomes.get(outcome), f"no callback was {outcome}: {outcomes}"
    posts, taken = await all_bound(fleet, bill_log)
    verdicts = await counts.by("segue_callbacks_heard_total", "verdict")
    suspected = int(await counts.since("segue_duplicates_suspected_total"))
    assert not suspected, f"{suspected} duplicates suspected"
    return [
        f"{len(jobs)} jobs with {', '.join(WEBHOOKS)}, or called back before the submit's answer: all succeeded",
        f"a stranger's own: {ours}; the gateway counted {outcomes}, the adapters {verdicts}",
        f"{taken} runs of {posts} attempts POSTed, each bound, none twice",
    ]


async def _posted_by_a_stranger(fleet: Fleet, attempt_id: str) -> dict[str, int]:
    gateway, secret = fleet.replica("gateway-1").address, fleet.env["SEGUE_CALLBACK_SECRET"]
    statuses: dict[str, int] = {}
    for provider in PROVIDERS:
        right = callback_url(gateway, secret, provider, AttemptId(attempt_id))
        wrong = callback_url(gateway, secret[::-1], provider, AttemptId(attempt_id))
        old = {"webhook-id": "x", "webhook-timestamp": "1700000000", "webhook-signature": "v1,AAAA"}
        cases: dict[str, tuple[str, bytes, dict[str, str]]] = {
            "wrong address": (wrong, b"{}", {}),
            "unsigned": (right, b"{}", {}),
            "signed by nobody, long ago": (right, b"{}", old),
            "3 MB": (right, HUGE, {}),
        }
        for name, (url, body, headers) in cases.items():
            statuses[f"{provider} {name}"] = await _status(fleet, url, body, headers)
    expected = {"wrong address": 404, "unsigned": 401, "signed by nobody, long ago": 401, "3 MB": 413}
    assert statuses == {f"{provider} {name}": code for provider in PROVIDERS for name, code in expected.items()}, (
        statuses
    )
    return expected


async def _status(fleet: Fleet, url: str, body: bytes, headers: dict[str, str]) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as stranger:
        return (await stranger.post(url, content=body, headers=headers)).status_code


ROWS = {
    row.number: row
    for row in (Row(27, "Webhooks wrong in every way", "compare and set; 401; polling makes up for it", _webhooks),)
}
