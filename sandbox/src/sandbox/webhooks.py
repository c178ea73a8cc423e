"""The webhooks of both providers: signed, retried on each provider's schedule, and faulty if a rule says so."""

import asyncio
import json
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sandbox.fal.documents import webhook_document
from sandbox.http.signing import Keys, fal_headers, replicate_headers
from sandbox.runs.faults import WebhookFault
from sandbox.runs.job import Job
from sandbox.settings import Settings

_LOG = logging.getLogger(__name__)
_STALE_S = 3_600
_OVERSIZE = 3_000_000

Predict = Callable[[Job], dict[str, Any]]


class Webhooks:
    """Sends the webhooks of jobs, each in a task of its own."""

    def __init__(
        self, settings: Settings, keys: Keys, predict: Predict, client: httpx.AsyncClient, tasks: asyncio.TaskGroup
    ) -> None:
        self._settings, self._keys, self._predict = settings, keys, predict
        self._client, self._tasks = client, tasks
        self._sending: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, keys: Keys, predict: Predict, ca_file: Path) -> AsyncIterator["Webhooks"]:
        """Delivers for the length of the block; retries that are pending at its end are dropped."""
        trust = ssl.create_default_context()
        trust.load_verify_locations(ca_file)
        limits = httpx.Limits(max_connections=100)
        client = httpx.AsyncClient(verify=trust, trust_env=False, limits=limits)
        async with client, asyncio.TaskGroup() as tasks:
            webhooks = cls(settings, keys, predict, client, tasks)
            yield webhooks
            for task in webhooks._sending:
                task.cancel()

    def announce(self, job: Job, moment: Literal["start", "completed"]) -> None:
        """Sends the provider's webhook for the start or the end of a job."""
        if not job.webhook or "never" in job.action.webhook:
            return
        if job.provider == "fal":
            # A request removed from the queue never ran, and no webhook is sent for it.
            if moment == "completed" and not (job.status == "canceled" and job.started_at is None):
                self._send(job, webhook_document(job), job.id, self._settings.fal_webhook_retries_s)
            return
        events = ("start",) if moment == "start" else ("logs", "output", "completed")
        for event in events:
            wanted = job.events is None or event in job.events
            if wanted and (event != "output" or job.status == "succeeded"):
                retries = self._settings.replicate_webhook_retries_s if event == "completed" else []
                self._send(job, self._predict(job), f"msg_{secrets.token_hex(12)}", retries)

    def _send(self, job: Job, document: dict[str, Any], webhook_id: str, retries: Sequence[float]) -> None:
        faults = job.action.webhook
        body = json.dumps(_spoiled(job, document, faults)).encode()
        copies = 2 if "duplicate" in faults else 1
        for _ in range(copies):
            task = self._tasks.create_task(self._deliver(job, webhook_id, body, retries))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, job: Job, webhook_id: str, body: bytes, retries: Sequence[float]) -> None:
        if "late" in job.action.webhook:
            await asyncio.sleep(self._settings.webhook_late_s)
        for pause in (*retries, None):
            if job.webhook is None or await self._post(job, job.webhook, webhook_id, body) or pause is None:
                return
            await asyncio.sleep(pause)

    async def _post(self, job: Job, url: str, webhook_id: str, body: bytes) -> bool:
        headers = {"content-type": "application/json"} | self._signature(job, webhook_id, body)
        try:
            answer = await self._client.post(
                url, content=body, headers=headers, timeout=self._settings.webhook_timeout_s
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            _LOG.info("webhook of %s not delivered: %r", job.id, error)
            return False
        return answer.is_success

    def _signature(self, job: Job, webhook_id: str, body: bytes) -> dict[str, str]:
        forged = "forged" in job.action.webhook
        timestamp = int(time.time()) - (_STALE_S if "stale" in job.action.webhook else 0)
        if job.provider == "fal":
            key = Ed25519PrivateKey.generate() if forged else self._keys.fal[-1]
            return fal_headers(key, webhook_id, timestamp, body)
        secret = secrets.token_bytes(24) if forged else self._keys.replicate
        return replicate_headers(secret, webhook_id, timestamp, body)


def _spoiled(job: Job, document: dict[str, Any], faults: Sequence[WebhookFault]) -> dict[str, Any]:
    if "null" in faults:
        empty = {"payload": None, "payload_error": "Response payload is not JSON serializable."}
        document = document | (empty if job.provider == "fal" else {"output": None})
    return document | ({"padding": "x" * _OVERSIZE} if "oversize" in faults else {})
