"""Quill's API, whose runs are finished at once, and its adapter."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from adapter_kit.breaker.policy import Limits
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Callback,
    CancelOutcome,
    CheckOutcome,
    FindOutcome,
    KeyAccepted,
    NoAnswer,
    NotFound,
    Output,
    ProbeOutcome,
    Produced,
    ProviderRef,
    SubmitOutcome,
    Unclear,
)
from adapter_kit.port.provider import ListedRun, LostSubmission, Run, Stage, Submission
from adapter_kit.service import adapter
from adapter_kit.settings import AdapterSettings
from chassis.runtime.runtime import Runtime
from contracts.ids import AttemptId

SAMPLES = Path(__file__).parents[1] / "adapter-kit" / "media" / "samples"
MADE = {"quill/song": ("audio/wav", "a.wav"), "quill/sketch": ("image/png", "a.png")}
"""The media type and the sample file of each endpoint's output."""


@dataclass
class QuillApi:
    """Accepts runs; each is finished by its first poll."""

    runs: list[dict[str, object]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/runs", self._create, methods=["POST"]), Route("/runs/{n:int}", self._show, methods=["GET"])]
        )

    async def _create(self, request: Request) -> JSONResponse:
        self.runs.append(await request.json())
        return JSONResponse({"id": str(len(self.runs) - 1)})

    async def _show(self, request: Request) -> JSONResponse:
        media_type, name = MADE[str(self.runs[request.path_params["n"]]["endpoint"])]
        data = base64.b64encode((SAMPLES / name).read_bytes()).decode()
        return JSONResponse({"output": f"data:{media_type};base64,{data}"})


class QuillProvider:
    """The port of the adapter kit for Quill."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @property
    def name(self) -> str:
        return "quill"

    async def submit(self, submission: Submission) -> SubmitOutcome:
        try:
            run = {"endpoint": submission.endpoint, "input": dict(submission.arguments)}
            response = await self._client.post("/runs", json=run)
        except httpx.HTTPError as error:
            return Unclear(repr(error))
        return Accepted(ProviderRef(response.json()["id"], {}))

    async def check(self, run: Run) -> CheckOutcome:
        try:
            response = await self._client.get(f"/runs/{run.ref.request_id}")
        except httpx.HTTPError as error:
            return NoAnswer(repr(error))
        return Produced((Output(response.json()["output"]),))

    async def cancel(self, run: Run) -> CancelOutcome:
        return AlreadyOver()

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        return {each.attempt_id: NotFound(conclusive=False) for each in lost}

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        return {}

    def read_callback(self, body: str) -> Callback | None:
        return None

    def read_result(self, body: str, run: Run) -> Produced | None:
        return None

    async def probe(self, endpoint: str) -> ProbeOutcome:
        return KeyAccepted()


@asynccontextmanager
async def quill_provider(url: str) -> AsyncIterator[QuillProvider]:
    async with httpx.AsyncClient(base_url=url) as client:
        yield QuillProvider(client)


@asynccontextmanager
async def app(settings: AdapterSettings, runtime: Runtime, url: str) -> AsyncIterator[None]:
    async with adapter(
        settings,
        runtime,
        "quill",
        quill_provider(url),
        sdk="none",
        probe_endpoint="quill/song",
        limits=Limits(None, None),
        results_kept_s=3_600,
    ):
        yield
