"""fal's queue and direct APIs, in the form that fal-client expects: submit, status, result and cancel."""

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sandbox.fal.documents import expired, queue_urls, status_document
from sandbox.http.responses import PRESETS, Answer, Reply
from sandbox.http.serving import conduct, render
from sandbox.models.endpoints import find_endpoint
from sandbox.models.validation import check_input
from sandbox.runs.faults import Action
from sandbox.runs.intake import Arrival, Desk, Limits
from sandbox.runs.job import Job, Outcome
from sandbox.runs.outputs import emptied
from sandbox.runs.progress import wait_for_move
from sandbox.settings import Settings

_KEY = re.compile(r"Key ([^\s:]+:[^\s:]+)")
_NOT_FOUND = Reply(404, {"status": "NOT_FOUND"})


def fal_refuses_key(headers: Mapping[str, str], settings: Settings) -> Answer | None:
    """The 401 for a key that is missing, malformed or set as invalid."""
    found = _KEY.fullmatch(headers.get("authorization", ""))
    return None if found and found[1] not in settings.bad_keys else PRESETS["fal"]["unauthorized"]


def fal_id(request_id: str | None = None) -> dict[str, str]:
    """The header that every answer of fal itself has."""
    return {"x-fal-request-id": request_id or str(uuid.uuid4())}


async def fal_http_error(request: Request, error: Exception) -> Response:
    """404 and 405 for paths that fal does not have."""
    assert isinstance(error, HTTPException)
    return render(Reply(error.status_code, {"detail": error.detail}), fal_id())


class Fal:
    """The queue and direct APIs; `base` is the queue's own public address."""

    def __init__(self, desk: Desk, base: str) -> None:
        self._desk, self._jobs, self._base = desk, desk.jobs, base

    def queue_routes(self) -> list[Route]:
        """The routes of `queue.fal.run`."""
        job = "/{owner}/{app}/requests/{request_id}"
        return [
            Route(f"{job}/status/stream", self.stream),
            Route(f"{job}/status", self.status),
            Route(f"{job}/response", self.result),
            Route(f"{job}/cancel", self.cancel, methods=["PUT"]),
            Route(job, self.result),
            Route("/{endpoint:path}", self.submit, methods=["POST"]),
        ]

    def direct_routes(self) -> list[Route]:
        """The routes of `fal.run`."""
        return [Route("/{endpoint:path}", self.run, methods=["POST"])]

    async def submit(self, request: Request) -> Response:
        """Queues a job."""
        arrival = await _arrival(request)
        action = self._desk.action_for(arrival)
        refusal = self._refusal(request, arrival, action) or self._queue_full(request)
        if refusal is not None:
            self._desk.refuse(arrival, refusal)
            return await conduct(request, refusal, action.delay_s, fal_id())
        job = self._accept(request, arrival, action)
        document = {"status": "IN_QUEUE", "request_id": job.id} | queue_urls(self._base, job)
        reply = Reply(200, document | {"queue_position": self._jobs.position(job)})
        return await conduct(request, self._desk.answer_to("fal", action, reply), action.delay_s, fal_id(job.id))

    async def run(self, request: Request) -> Response:
        """Runs a job at once and answers with its output; refused if it exceeds the account's concurrency."""
        arrival = await _arrival(request)
        action = self._desk.action_for(arrival)
        busy = PRESETS["fal"]["rate_limited"] if self._jobs.full("fal") else None
        refusal = self._refusal(request, arrival, action) or busy
        if refusal is not None:
            self._desk.refuse(arrival, refusal)
            return await conduct(request, refusal, action.delay_s, fal_id())
        job = self._accept(request, arrival, action.model_copy(update={"queue_s": 0.0}))
        while job.outcome is None:
            await wait_for_move(job, 60)
        answer = self._desk.answer_to("fal", action, _result(job.outcome))
        return await conduct(request, answer, action.delay_s, fal_id(job.id))

    async def status(self, request: Request) -> Response:
        """The status of a job: 202 until it is complete."""
        job = await self._find(request, "status")
        if isinstance(job, Response):
            return job
        if job.is_still_unknown():
            return render(_NOT_FOUND, fal_id(job.id))
        with_logs = request.query_params.get("logs") in ("1", "true")
        status, document = status_document(job, self._base, self._jobs.position(job), with_logs=with_logs)
        return render(Reply(status, document), fal_id(job.id))

    async def stream(self, request: Request) -> Response:
        """The status as server-sent events, one at each change and every two seconds."""
        job = await self._find(request, "status")
        if isinstance(job, Response):
            return job
        return StreamingResponse(self._events(job), headers=fal_id(job.id), media_type="text/event-stream")

    async def result(self, request: Request) -> Response:
        """The model's answer, once there is one."""
        job = await self._find(request, "result")
        if isinstance(job, Response):
            return job
        if job.outcome is None:
            return render(Reply(400, {"detail": "Request is still in progress"}), fal_id(job.id))
        if job.action.result_404 or expired(job, self._desk.settings, time.time()):
            return render(_NOT_FOUND, fal_id(job.id))
        if job.is_still_empty():
            return render(Reply(200, emptied(job.outcome.output)), fal_id(job.id))
        return render(_result(job.outcome), fal_id(job.id))

    async def cancel(self, request: Request) -> Response:
        """Removes a job from the queue, or asks a running one to stop."""
        job = await self._find(request, "cancel")
        if isinstance(job, Response):
            return job
        if job.outcome is not None:
            return render(Reply(400, {"status": "ALREADY_COMPLETED"}), fal_id(job.id))
        if job.action.cancel == "refused":
            return render(Reply(405, {"detail": "Method Not Allowed"}), fal_id(job.id))
        removed = job.started_at is None and job.action.cancel == "honoured"
        if job.action.cancel == "honoured":
            self._jobs.cancel(job)
        reply = Reply(200, {"status": "OK"}) if removed else Reply(202, {"status": "CANCELLATION_REQUESTED"})
        return render(reply, fal_id(job.id))

    async def _events(self, job: Job) -> AsyncIterator[str]:
        done = False
        while not done:
            done = job.outcome is not None
            _, document = status_document(job, self._base, self._jobs.position(job), with_logs=True)
            yield f"data: {json.dumps(document)}\n\n"
            if not done:
                await wait_for_move(job, 2.0)

    async def _find(self, request: Request, on: Literal["status", "result", "cancel"]) -> Job | Response:
        refusal = fal_refuses_key(request.headers, self._desk.settings)
        if refusal is not None:
            return await conduct(request, refusal, own=fal_id())
        job = self._jobs.get("fal", request.path_params["request_id"])
        spoiled = await self._desk.interfere(request, "fal", on, fal_id(), job)
        if spoiled is not None:
            return spoiled
        # A request removed from the queue never gets a status of its own.
        if job is None or (job.status == "canceled" and job.started_at is None):
            return render(_NOT_FOUND, fal_id())
        return job

    def _refusal(self, request: Request, arrival: Arrival, action: Action) -> Answer | None:
        refusal = fal_refuses_key(request.headers, self._desk.settings)
        if refusal is not None:
            return refusal
        if arrival.endpoint is None:
            alias = [*arrival.name.split("/"), ""][1]
            return Reply(404, {"detail": f'Application "{alias}" not found'})
        chosen = action.refusal("fal")
        if chosen is None and arrival.problem and self._desk.settings.fal_validates_at == "submit":
            return arrival.problem
        return chosen

    def _queue_full(self, request: Request) -> Answer | None:
        longest = request.query_params.get("fal_max_queue_length", "")
        full = longest.isdecimal() and self._jobs.queued("fal") >= int(longest)
        return PRESETS["fal"]["rate_limited"] if full else None

    def _accept(self, request: Request, arrival: Arrival, action: Action) -> Job:
        return self._desk.accept(arrival, str(uuid.uuid4()), action, _limits(request.headers), 200)


async def _arrival(request: Request) -> Arrival:
    name = request.path_params["endpoint"]
    endpoint = find_endpoint("fal", name)
    try:
        given = json.loads(await request.body())
    except ValueError:
        given = None
    checked = check_input(endpoint, given) if endpoint else None
    problem = checked if isinstance(checked, Reply) else None
    accepted = None if isinstance(checked, Reply) else checked
    webhook, tags = request.query_params.get("fal_webhook"), request.headers.get("x-fal-tags")
    return Arrival("fal", name, given, webhook, tags, endpoint, accepted, problem)


def _limits(headers: Mapping[str, str]) -> Limits:
    text = headers.get("x-fal-request-timeout") or headers.get("x-fal-request-start-timeout")
    try:
        return Limits(start_within_s=float(text) if text else None)
    except ValueError:
        return Limits()


def _result(outcome: Outcome) -> Reply:
    if outcome.reply is not None:
        return outcome.reply
    return Reply(200, outcome.output, {"x-fal-billable-units": "1"})
