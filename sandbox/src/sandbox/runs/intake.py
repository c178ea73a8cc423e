"""Where each submit is accepted or refused, and recorded before it is answered; the same for both providers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from sandbox.http.responses import PRESETS, Answer, Provider, Reply
from sandbox.http.serving import conduct
from sandbox.models.endpoints import Endpoint
from sandbox.runs.bills import Bills, Post, attempt_of
from sandbox.runs.faults import Action, Faults, Moment, OddFile
from sandbox.runs.files import files_for
from sandbox.runs.job import Job, Outcome, planned, refused_by_model
from sandbox.runs.outputs import odd_output, output_of
from sandbox.runs.progress import Jobs
from sandbox.settings import Settings


@dataclass(frozen=True)
class Arrival:
    """One received submit; `problem` is the model's answer to invalid input."""

    provider: Provider
    name: str
    given: Any
    webhook: str | None
    tags: str | None
    endpoint: Endpoint | None
    accepted: BaseModel | None
    problem: Reply | None = None

    @property
    def prompt(self) -> str:
        """The text that rules are matched against."""
        prompt = self.given.get("prompt") if isinstance(self.given, dict) else None
        return prompt if isinstance(prompt, str) else ""


@dataclass(frozen=True)
class Limits:
    """The caller's limits besides the model's input, in seconds."""

    events: frozenset[str] | None = None
    start_within_s: float | None = None
    end_within_s: float | None = None


class Desk:
    """Handles submits: refuses or accepts them, records the decision, and starts the job."""

    def __init__(self, settings: Settings, faults: Faults, bills: Bills, jobs: Jobs, files_base: str) -> None:
        self.settings, self.jobs = settings, jobs
        self._faults, self._bills, self._files_base = faults, bills, files_base

    def action_for(self, arrival: Arrival) -> Action:
        """The action of the rules for this submit."""
        name = arrival.endpoint.name if arrival.endpoint else arrival.name
        return self._faults.take(arrival.provider, "submit", name, arrival.prompt) or Action()

    def refuse(self, arrival: Arrival, answer: Answer) -> None:
        """Records a refusal."""
        self._book(arrival, None, answer.status if isinstance(answer, Reply) else None, 0.0)

    def accept(self, arrival: Arrival, job_id: str, action: Action, limits: Limits, status: int) -> Job:
        """Records an acceptance and starts the job."""
        job = self._job(arrival, job_id, action, limits)
        self._book(arrival, job_id, None if action.accept_then in ("drop", "hang") else status, job.price_usd)
        self.jobs.start(job)
        return job

    def answer_to(self, provider: Provider, action: Action, reply: Reply) -> Answer:
        """The answer that the caller of an accepted submit receives."""
        match action.accept_then:
            case None:
                return reply
            case "502":
                return PRESETS[provider]["nginx_502"]
            case "malformed_json":
                return PRESETS[provider]["malformed_json"]
            case silence:
                return silence

    async def interfere(
        self, request: Request, provider: Provider, on: Moment, own: Mapping[str, str], job: Job | None = None
    ) -> Response | None:
        """The answer that a fault defines for a request other than a submit; None if no rule matches."""
        prompt = job.input.get("prompt", "") if job and isinstance(job.input, dict) else ""
        action = self._faults.take(provider, on, job.endpoint.name if job else None, str(prompt))
        if action is None:
            return None
        answer = action.refusal(provider)
        # Without a refusal only the delay applies; the regular answer follows it.
        response = await conduct(request, answer or Reply(200), action.delay_s, own)
        return response if answer is not None else None

    def _job(self, arrival: Arrival, job_id: str, action: Action, limits: Limits) -> Job:
        endpoint = arrival.endpoint
        assert endpoint is not None
        ending, price = self._ending(arrival, endpoint, action, job_id)
        settings = self.settings
        queue_s = settings.queue_s if action.queue_s is None else action.queue_s
        run_s = settings.run_s if action.run_s is None else action.run_s
        return Job(
            endpoint=endpoint,
            id=job_id,
            input=arrival.given,
            action=action,
            ending=ending,
            queue_s=None if action.stuck_queue else queue_s,
            run_s=None if action.never_finish else 0.0 if arrival.problem else run_s,
            price_usd=price,
            webhook=arrival.webhook,
            events=limits.events,
            start_within_s=limits.start_within_s,
            end_within_s=limits.end_within_s,
        )

    def _ending(self, arrival: Arrival, endpoint: Endpoint, action: Action, job_id: str) -> tuple[Outcome, float]:
        if arrival.accepted is None:
            assert arrival.problem is not None
            return refused_by_model(arrival.problem), 0.0
        made = endpoint.makes(arrival.accepted)
        price = round(endpoint.price(made), 6)
        fault = f"odd-{job_id}" if isinstance(action.files, OddFile) else action.files
        files = files_for(endpoint, made, arrival.prompt or str(arrival.given), self._files_base, fault)
        usual = action.result is None
        output = output_of(endpoint, made, files, arrival.given) if usual else odd_output(action.result, files)
        return planned(endpoint.provider, action, output, price), price

    def _book(self, arrival: Arrival, job_id: str | None, status: int | None, price: float) -> None:
        self._bills.post(
            Post(
                at=time.time(),
                provider=arrival.provider,
                endpoint=arrival.endpoint.name if arrival.endpoint else arrival.name,
                accepted=job_id is not None,
                status=status,
                request_id=job_id,
                webhook=arrival.webhook,
                attempt_id=attempt_of(arrival.webhook, arrival.tags),
                input=arrival.given,
                price_usd=price,
            )
        )
