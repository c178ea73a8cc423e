"""Replicate's HTTP API, in the form that the replicate package expects: predictions, account and webhook secret."""

import asyncio
import base64
import math
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.http.responses import PRESETS, Answer, Reply, replicate_problem, throttled
from sandbox.http.serving import conduct, render
from sandbox.http.signing import Keys
from sandbox.replicate.documents import prediction
from sandbox.replicate.intake import (
    cancel_after,
    read_arrival,
    read_body,
    refuses_body,
    refuses_model,
    refuses_token,
    wanted_events,
)
from sandbox.runs.faults import Action, Moment
from sandbox.runs.intake import Arrival, Desk, Limits
from sandbox.runs.job import Job
from sandbox.runs.outputs import emptied
from sandbox.runs.progress import wait_for_move
from sandbox.times import parse_time

_WAIT = re.compile(r"wait(?:=(\d+))?")
_PAGE = 100


async def replicate_http_error(request: Request, error: Exception) -> Response:
    """404 and 405 for paths that Replicate does not have."""
    assert isinstance(error, HTTPException)
    return render(Reply(error.status_code, {"detail": error.detail, "status": error.status_code}))


class Replicate:
    """The API; `base` is its public address without `/v1`."""

    def __init__(self, desk: Desk, keys: Keys, base: str) -> None:
        self._desk, self._jobs, self._keys, self._base = desk, desk.jobs, keys, base
        self._free_at = 0.0

    def routes(self) -> list[Route]:
        """The routes of `api.replicate.com`."""
        return [
            Route("/v1/models/{owner}/{name}/predictions", self.create, methods=["POST"]),
            Route("/v1/deployments/{owner}/{name}/predictions", self.create, methods=["POST"]),
            Route("/v1/predictions", self.create, methods=["POST"]),
            Route("/v1/predictions", self.browse),
            Route("/v1/predictions/{id}", self.get),
            Route("/v1/predictions/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/account", self.account),
            Route("/v1/webhooks/default/secret", self.secret),
        ]

    async def create(self, request: Request) -> Response:
        """Starts a prediction; with `Prefer: wait` the answer is sent once it has ended."""
        body = await read_body(request)
        arrival = read_arrival(request, body)
        action = self._desk.action_for(arrival)
        refusal = self._refusal(request, arrival, action, body)
        if refusal is not None:
            self._desk.refuse(arrival, refusal)
            return await conduct(request, refusal, action.delay_s)
        settings = self._desk.settings
        deadline_s = cancel_after(request.headers.get("cancel-after"), settings.replicate_cancel_after_min_s)
        limits = Limits(events=wanted_events(body), end_within_s=deadline_s)
        job = self._desk.accept(arrival, _new_id(), action, limits, 201)
        if action.accept_then is None:
            await self._hold(job, request.headers.get("prefer", ""))
        document = prediction(job, self._base, self._desk.settings)
        reply = Reply(201, document, {"location": document["urls"]["get"]})
        return await conduct(request, self._desk.answer_to("replicate", action, reply), action.delay_s)

    async def get(self, request: Request) -> Response:
        """The current state of one prediction."""
        job = await self._find(request, "status")
        if isinstance(job, Response):
            return job
        if job.is_still_unknown():
            return await conduct(request, PRESETS["replicate"]["not_found"])
        if job.is_still_empty():
            document = prediction(job, self._base, self._desk.settings)
            return render(Reply(200, document | {"output": emptied(document["output"])}))
        return self._shown(job)

    async def cancel(self, request: Request) -> Response:
        """Stops a prediction that has not ended; answers with its new state."""
        job = await self._find(request, "cancel")
        if isinstance(job, Response):
            return job
        if job.action.cancel == "refused":
            return render(replicate_problem(409, "Conflict", "The prediction cannot be canceled."))
        if job.action.cancel == "honoured":
            self._jobs.cancel(job)
        return self._shown(job)

    async def browse(self, request: Request) -> Response:
        """Predictions, newest first, a hundred on each page."""
        spoiled = await self._spoiled(request, "list")
        if spoiled:
            return spoiled
        query = dict(request.query_params)
        try:
            after, before = parse_time(query.get("created_after")), parse_time(query.get("created_before"))
            offset = int(base64.urlsafe_b64decode(query.pop("cursor", "")) or b"0")
        except ValueError:
            return render(replicate_problem(422, "Invalid parameter", "A parameter is not valid."))
        found = [
            job
            for job in self._jobs.newest_first("replicate")
            if (after is None or job.created_at >= after) and (before is None or job.created_at < before)
        ]
        page = found[offset : offset + _PAGE]
        document = {
            "next": self._page(query, offset + _PAGE) if offset + _PAGE < len(found) else None,
            "previous": self._page(query, max(offset - _PAGE, 0)) if offset else None,
            "results": [prediction(job, self._base, self._desk.settings, with_webhook=False) for job in page],
        }
        return render(Reply(200, document))

    async def account(self, request: Request) -> Response:
        """The account of the token."""
        spoiled = await self._spoiled(request, "probe")
        name = {"type": "organization", "username": "sandbox", "name": "Sandbox", "github_url": None}
        return spoiled or render(Reply(200, name))

    async def secret(self, request: Request) -> Response:
        """The secret that signs webhooks."""
        spoiled = await self._spoiled(request, "keys")
        return spoiled or render(Reply(200, {"key": self._keys.replicate_secret()}))

    async def _spoiled(self, request: Request, on: Moment, job: Job | None = None) -> Response | None:
        refusal = refuses_token(request.headers, self._desk.settings)
        if refusal is not None:
            return await conduct(request, refusal)
        return await self._desk.interfere(request, "replicate", on, {}, job)

    async def _find(self, request: Request, on: Moment) -> Job | Response:
        job = self._jobs.get("replicate", request.path_params["id"])
        spoiled = await self._spoiled(request, on, job)
        if spoiled is not None:
            return spoiled
        return job or await conduct(request, PRESETS["replicate"]["not_found"])

    def _shown(self, job: Job) -> Response:
        return render(Reply(200, prediction(job, self._base, self._desk.settings)))

    def _refusal(self, request: Request, arrival: Arrival, action: Action, body: Mapping[str, Any]) -> Answer | None:
        return (
            refuses_token(request.headers, self._desk.settings)
            or action.refusal("replicate")
            or self._throttle()
            or refuses_model(request, arrival, body)
            or refuses_body(body)
            or arrival.problem
        )

    def _throttle(self) -> Answer | None:
        allowed = self._desk.settings.replicate_per_minute
        now = time.monotonic()
        if allowed is None:
            return None
        if now < self._free_at:
            return throttled(math.ceil(self._free_at - now))
        self._free_at = now + 60 / allowed
        return None

    async def _hold(self, job: Job, prefer: str) -> None:
        found = _WAIT.search(prefer)
        if not found:
            return
        until = asyncio.get_running_loop().time() + min(int(found[1] or 60), 60)
        while job.outcome is None and (left := until - asyncio.get_running_loop().time()) > 0:
            await wait_for_move(job, left)

    def _page(self, query: Mapping[str, str], offset: int) -> str:
        cursor = base64.urlsafe_b64encode(str(offset).encode()).decode()
        return f"{self._base}/v1/predictions?{urlencode({**query, 'cursor': cursor})}"


def _new_id() -> str:
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
