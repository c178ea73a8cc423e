"""What clients do with answers that are not as they should be."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.patience import eventually

from chaos.evidence.model import ClientAnswer
from chaos.load import clients
from chaos.load.clients import Load
from chaos.load.requests import RequestSpec

Answer = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True)
class Gateway:
    """A gateway that answers as a test says, instead of a whole system."""

    api: httpx.AsyncClient
    bills_file: Path = Path("none")
    env: dict[str, str] = field(default_factory=dict)
    logged: tuple[()] = ()


@asynccontextmanager
async def load_at(answer: Answer, folder: Path) -> AsyncIterator[Load]:
    transport = httpx.MockTransport(answer)
    async with (
        httpx.AsyncClient(base_url="http://gateway", transport=transport) as api,
        Load(Gateway(api), "t", random.Random(1), folder) as load,
    ):
        yield load


async def test_a_202_without_a_job_is_recorded_and_is_an_error_of_the_run(tmp_path: Path) -> None:
    async with load_at(lambda _: httpx.Response(202, json={"status": "queued"}), tmp_path) as load:
        async with load.running(1000, 1, spec=RequestSpec("a warm pad")):
            await load.wait_for_requests(1)

        async def ended() -> list[str]:
            return load.errors

        await eventually(ended)
        assert [(one.call, one.status, one.job_id) for one in load.answers] == [("post", 202, None)]
        assert "KeyError" in load.errors[0]


async def test_requests_are_open_if_none_was_accepted(tmp_path: Path) -> None:
    async with load_at(lambda _: httpx.Response(422, json={}), tmp_path) as load:
        async with load.running(1000, 2, spec=RequestSpec("a warm pad")):
            await load.wait_for_requests(2)
        assert [one.token for one in await load.drain(5)] == ["t-0001", "t-0002"]
        assert load.errors == []


async def test_a_list_of_jobs_that_is_not_answered_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, text="no") if request.method == "GET" else httpx.Response(202, json={"job_id": "j"})

    monkeypatch.setattr(clients, "POLL_EVERY_S", 0.01)
    async with load_at(answer, tmp_path) as load:

        async def asked() -> list[ClientAnswer]:
            return [one for one in load.answers if one.call == "page"]

        await load.submit()
        page = (await eventually(asked))[0]
    assert (page.status, page.token, page.job_id) == (500, "", None)
