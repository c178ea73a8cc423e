"""Well-behaved clients: they retry with the same key, poll their jobs, and record every answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from chaos.cluster.system import System
from chaos.evidence.model import CallKind, ClientAnswer
from chaos.load.requests import Request, RequestSpec, draw_request

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
ACCEPTED_WITHIN_S: Final = 150.0
ANSWER_WITHIN_S: Final = 8.0
POLL_EVERY_S: Final = 2.0
PAGE: Final = 100
MOST_PAGES: Final = 8
VERIFIERS: Final = 8
DOWNLOADS: Final = 3
"""How often a file is asked for whose request was not answered, as a client would."""
MOST_OPEN: Final = 150


class Load:
    """Clients that send requests, each with its own token in the prompt: `[{name}-0001]`.

    `faulty` is the share of requests with a fault word in the prompt, which makes a provider misbehave.
    """

    def __init__(self, system: System, name: str, rng: random.Random, folder: Path, *, faulty: float = 0.0) -> None:
        self.name, self.requests, self.answers = name, list[Request](), list[ClientAnswer]()
        self._system, self._rng, self._faulty = system, rng, faulty
        self._file = (folder / "client.jsonl").open("a", encoding="utf-8", buffering=1 << 16)
        self._tasks: set[asyncio.Task[object]] = set()
        self._poller: asyncio.Task[None] | None = None
        self.errors: list[str] = []
        """Errors of the clients themselves, which end the one that has them; none is expected."""

    async def __aenter__(self) -> Self:
        self._poller = asyncio.create_task(self._poll_jobs())
        self._poller.add_done_callback(self._note_error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *([self._poller] if self._poller else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._file.close()

    # Sending requests.

    @asynccontextmanager
    async def running(
        self, rate: float, most: int | None = None, open_at_most: int = MOST_OPEN, spec: RequestSpec | None = None
    ) -> AsyncIterator[None]:
        """Send requests at `rate` per second, at random times, at most `most` of them, for the length of the block.

        While `open_at_most` jobs are open, none is sent, so that a slow machine is not overloaded. All requests are
        `spec`; without one each is drawn.
        """
        sending = asyncio.create_task(self._send_requests(rate, most, open_at_most, spec))
        sending.add_done_callback(self._note_error)
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests were sent. Raises RuntimeError if a client has ended with an error."""
        while len(self.requests) < count:
            if self.errors:
                raise RuntimeError(self.errors[0])
            await asyncio.sleep(0.1)

    async def submit(self, words: str = "a warm pad", *, faults: tuple[str, ...] = (), **fields: Any) -> Request:
        """Send one request with this prompt until it is accepted; `fields` are added to the body.

        `faults` are names of request faults, which are added to the prompt. Raises TimeoutError after
        `ACCEPTED_WITHIN_S`.
        """
        request = self._new(RequestSpec(words, fields, faults))
        await self._accepted(request)
        if request.job_id is None:
            raise TimeoutError(f"{request.token} was not accepted within {ACCEPTED_WITHIN_S:.0f} s")
        return request

    async def ended(self, request: Request, within_s: float = 120) -> dict[str, Any]:
        """The job of a request, once it has ended. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            await request.over.wait()
            while True:
                if job := await self.job(request):
                    return job
                await asyncio.sleep(0.2)

    async def job(self, request: Request) -> dict[str, Any]:
        """The job as the API returns it now; empty if it does not."""
        answer = await self._call(request, "job", "GET", f"/api/jobs/{request.job_id}")
        return {} if answer is None or answer.status_code != 200 else dict(answer.json())

    # Waiting for results.

    @property
    def accepted(self) -> int:
        """The number of requests that were answered 202."""
        return sum(one.job_id is not None for one in self.requests)

    @property
    def over(self) -> int:
        """The number of requests whose job has ended."""
        return sum(one.ended is not None for one in self.requests)

    @property
    def open(self) -> list[Request]:
        """The requests that have not ended, including those not accepted yet."""
        return [one for one in self.requests if one.ended is None]

    async def drain(self, deadline_s: float) -> list[Request]:
        """Wait until all requests are answered and all jobs have ended; returns those open at the deadline.

        If none was accepted, these are all of them. A client that gave up among others is not open.
        """
        deadline = time.monotonic() + deadline_s
        while (self._tasks or self._unended()) and time.monotonic() < deadline:  # noqa: ASYNC110 - of many
            await asyncio.sleep(0.2)
        return self._unended() if self.accepted else self.open

    async def verify(self) -> None:
        """Read each job once more, and download its artifacts."""
        waiting = [one for one in self.requests if one.job_id is not None]

        async def work() -> None:
            while waiting:
                await self._look_up(waiting.pop())

        await asyncio.gather(*(work() for _ in range(VERIFIERS)))
        self._file.flush()

    # Internals.

    def _unended(self) -> list[Request]:
        return [one for one in self.requests if one.job_id is not None and one.ended is None]

    def _new(self, what: RequestSpec) -> Request:
        request = Request(f"{self.name}-{len(self.requests) + 1:04d}", what)
        self.requests.append(request)
        return request

    async def _send_requests(self, rate: float, most: int | None, open_at_most: int, spec: RequestSpec | None) -> None:
        while most is None or len(self.requests) < most:
            while len(self.open) >= open_at_most:  # noqa: ASYNC110 - it waits for a count
                await asyncio.sleep(0.1)
            # All random draws are made here, in a fixed order, so that a seed always gives the same requests.
            what = spec or draw_request(self._rng, self._faulty)
            self._spawn(self._run_client(self._new(what), random.Random(self._rng.random())))
            await asyncio.sleep(self._rng.expovariate(rate))

    async def _run_client(self, request: Request, rng: random.Random) -> None:
        """One client: submits until accepted, then repeats, contradicts or cancels its request if the spec says so."""
        await self._accepted(request)
        if request.job_id is None:
            return
        await asyncio.sleep(rng.uniform(0, 1.5))
        if request.spec.repeated:
            await self._post(request, "repeat", request.spec.body(request.token))
        if request.spec.contradicted:
            await self._post(request, "conflict", request.spec.body(request.token) | {"style_strength": 0.9})
        if request.spec.cancelled:
            await self._call(
                request, "cancel", "POST", f"/api/jobs/{request.job_id}/cancel", headers={"Prefer": "wait=1"}
            )

    async def _accepted(self, request: Request) -> None:
        deadline, pause = time.monotonic() + ACCEPTED_WITHIN_S, 0.4
        body = request.spec.body(request.token)
        while request.job_id is None and time.monotonic() < deadline:
            answer = await self._post(request, "post", body)
            if answer is not None and answer.status_code < 500 and answer.status_code != 202:
                return
            if request.job_id is None:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 3)

    async def _post(self, request: Request, call: CallKind, body: Mapping[str, Any]) -> httpx.Response | None:
        headers = {"Idempotency-Key": request.token}
        answer = await self._call(request, call, "POST", "/api/tracks", json=body, headers=headers)
        if answer is not None and answer.status_code == 202 and request.job_id is None:
            request.job_id = str(answer.json()["job_id"])
        return answer

    async def _call(
        self, request: Request, call: CallKind, method: str, path: str, **options: Any
    ) -> httpx.Response | None:
        try:
            answer = await self._system.api.request(method, path, timeout=ANSWER_WITHIN_S, **options)
        except httpx.TransportError as error:
            unanswered = {"error": repr(error)}
            self._note(request, call, None, unanswered | ({"spec": asdict(request.spec)} if call == "post" else {}))
            return None
        try:
            said: Mapping[str, Any] = answer.json() if call != "artifact" else {}
        except ValueError:
            said = {"text": answer.text[:500]}
        if call == "post":
            said = {"spec": asdict(request.spec), "answer": said}
        if call == "artifact":
            said = {"sha256": hashlib.sha256(answer.content).hexdigest(), "size_bytes": len(answer.content)}
            said |= {"name": path.rpartition("/")[2]}
        self._note(request, call, answer.status_code, said)
        return answer

    def _note(self, request: Request, call: CallKind, status: int | None, body: Mapping[str, Any]) -> None:
        job_id = request.job_id
        if call in ("post", "repeat", "conflict") and status == 202:
            named = (body["answer"] if call == "post" else body).get("job_id")
            job_id = None if named is None else str(named)
        self._record(ClientAnswer(time.time(), request.token, call, status, job_id, body))

    def _record(self, answer: ClientAnswer) -> None:
        self.answers.append(answer)
        self._file.write(json.dumps(asdict(answer)) + "\n")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._note_error)

    def _note_error(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(f"a client ended with {type(error).__name__}: {error}")

    async def _poll_jobs(self) -> None:
        """Read the list of jobs, newest first, until all open jobs are found."""
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            unended = {str(one.job_id): one for one in self._unended()}
            cursor: str | None = None
            for _ in range(MOST_PAGES if unended else 0):
                page = await self._page(cursor)
                for job in page.get("jobs", []):
                    self._note_status(unended.pop(job["id"], None), job, "page")
                cursor = page.get("next_cursor")
                if not unended or cursor is None:
                    break
            else:
                # Older jobs are read by id.
                for request in unended.values():
                    self._note_status(request, await self.job(request), None)

    def _note_status(self, request: Request | None, job: Mapping[str, Any], call: CallKind | None) -> None:
        if request is None or job.get("status") not in FINAL:
            return
        request.ended = str(job["status"])
        request.over.set()
        if call is not None:
            self._note(request, call, 200, job)

    async def _page(self, cursor: str | None) -> dict[str, Any]:
        query = {"limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
        try:
            answer = await self._system.api.get("/api/jobs", params=query, timeout=ANSWER_WITHIN_S)
        except httpx.TransportError as error:
            self._record(ClientAnswer(time.time(), "", "page", None, None, {"error": repr(error)}))
            return {}
        if answer.is_success:
            return dict(answer.json())
        self._record(ClientAnswer(time.time(), "", "page", answer.status_code, None, {"text": answer.text[:500]}))
        return {}

    async def _look_up(self, request: Request) -> None:
        job = await self.job(request)
        for artifact in job.get("artifacts", ()):
            path = f"/api/jobs/{request.job_id}/artifacts/{artifact['name']}"
            for _ in range(DOWNLOADS):
                if await self._call(request, "artifact", "GET", path) is not None:
                    break
