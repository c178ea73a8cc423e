"""The control API: sets faults, settings and keys, and shows what has happened so far."""

import html
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox.fal.documents import status_code
from sandbox.http.responses import Reply
from sandbox.http.serving import render
from sandbox.http.signing import Keys
from sandbox.runs.bills import Bills
from sandbox.runs.faults import Faults, Rule
from sandbox.runs.job import Job
from sandbox.runs.progress import Jobs
from sandbox.settings import Settings
from sandbox.times import iso

_RULES = TypeAdapter(list[Rule])


class Control:
    """The application of the control API."""

    def __init__(self, settings: Settings, faults: Faults, bills: Bills, jobs: Jobs, keys: Keys) -> None:
        self._settings, self._faults, self._bills, self._jobs, self._keys = settings, faults, bills, jobs, keys

    def app(self) -> Starlette:
        """The routes below the control address."""
        routes = [
            Route("/", self.page),
            Route("/healthz", self.health),
            Route("/bills", self.bills, methods=["GET", "DELETE"]),
            Route("/faults", self.faults, methods=["GET", "PUT", "POST", "DELETE"]),
            Route("/settings", self.settings, methods=["GET", "PATCH", "PUT"]),
            Route("/jobs", self.jobs, methods=["GET", "DELETE"]),
            Route("/jobs/step", self.step, methods=["POST"]),
            Route("/keys/rotate", self.rotate, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={ValidationError: _invalid})

    async def health(self, request: Request) -> Response:
        """Says that the process answers."""
        return render(Reply(200, {"status": "ok"}))

    async def bills(self, request: Request) -> Response:
        """Returns the bills with their totals; DELETE removes them."""
        if request.method == "DELETE":
            self._bills.reset()
        return render(Reply(200, self._bills.as_json()))

    async def faults(self, request: Request) -> Response:
        """The rules in force: PUT replaces, POST adds, DELETE clears."""
        if request.method in ("PUT", "POST"):
            rules = _RULES.validate_json(await request.body())
            self._faults.put(rules) if request.method == "PUT" else self._faults.add(rules)
        elif request.method == "DELETE":
            self._faults.put([])
        return render(Reply(200, self._faults.as_json()))

    async def settings(self, request: Request) -> Response:
        """The settings; PATCH (or PUT) changes those it names."""
        if request.method != "GET":
            self._settings.change(TypeAdapter(dict[str, object]).validate_json(await request.body()))
            self._jobs.recheck()
        return render(Reply(200, self._settings.model_dump()))

    async def jobs(self, request: Request) -> Response:
        """Returns all jobs of both providers, newest first; DELETE stops and removes them."""
        if request.method == "DELETE":
            self._jobs.forget()
        return render(Reply(200, [_described(job) for job in self._all_jobs()]))

    async def step(self, request: Request) -> Response:
        """Ends the current wait of every job at once, however long it would have lasted."""
        self._jobs.step()
        return render(Reply(200, [_described(job) for job in self._all_jobs()]))

    async def rotate(self, request: Request) -> Response:
        """Signs webhooks with new keys from now on."""
        self._keys.rotate()
        return render(Reply(200, self._keys.jwks()))

    async def page(self, request: Request) -> Response:
        """An HTML page of jobs and bills."""
        totals = self._bills.as_json()["totals"]
        bills = _table([{"provider": name} | total for name, total in totals.items()])
        jobs = _table([_described(job) for job in self._all_jobs()[:200]])
        style = "<style>body{font:14px system-ui;margin:2em}td,th{padding:.2em .8em;text-align:left}</style>"
        return HTMLResponse(
            f"<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>Sandbox</title>{style}"
            f"<h1>Bills</h1>{bills}<h1>Jobs</h1>{jobs}"
        )

    def _all_jobs(self) -> list[Job]:
        both = self._jobs.newest_first("fal") + self._jobs.newest_first("replicate")
        return sorted(both, key=lambda job: job.created_at, reverse=True)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return render(Reply(422, {"detail": error.errors(include_url=False, include_context=False)}))


def _described(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "provider": job.provider,
        "endpoint": job.endpoint.name,
        "status": job.status,
        "result_status": status_code(job),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at) if job.started_at else None,
        "ended_at": iso(job.ended_at) if job.ended_at else None,
        "price_usd": job.price_usd,
        "billed_usd": job.outcome.billed_usd if job.outcome else None,
        "webhook": job.webhook,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f"<th>{html.escape(name)}" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}" for v in row.values()) for row in rows)
    return f"<table><tr>{head}{body}</table>"
