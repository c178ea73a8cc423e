"""Files while the artifact store is slow, or fails: the rest of the API goes on, and its errors' texts stay secret."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import obstore
import pytest
import pytest_asyncio
from obstore.exceptions import GenericError
from structlog.testing import capture_logs
from tests.patience import patient

from chassis.artifact_keys import artifact_key
from chassis.artifacts import ArtifactStore
from chassis.http.server import serve_http
from chassis.settings.http_limits import HttpLimits
from contracts.ids import job_id_for
from gateway.app import api
from gateway.context import TENANT
from gateway.places import SHARE, Places

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODY = b"0123456789"
SECRET = "AWS4-HMAC-SHA256 AKIASECRET"
CONNECTIONS = 8


@pytest_asyncio.fixture(loop_scope="session")
async def url(world: Any, story_of: Any) -> str:
    """The address of a file that is stored."""
    story = story_of(job_id_for(TENANT, "a file to download"))

    async def chunks() -> AsyncIterator[bytes]:
        yield BODY

    await world.store(story.accepted(), *story.attempts(), story.succeeded())
    key = artifact_key(story.attempt(2), "track.mp3")
    await world.parts.store.put_file(chunks(), key, content_type="audio/mpeg")
    return f"/api/jobs/{story.job_id}/artifacts/track.mp3"


@pytest.fixture
def served(world: Any) -> Callable[..., Any]:
    """A server of the gateway's API with a store of these time limits, and few connections."""

    def serve(**limits: float) -> Any:
        store = ArtifactStore(world.parts.store._store, **limits)
        parts = replace(world.parts, store=store, downloads=Places(CONNECTIONS // SHARE))
        return parts, serve_http(api(parts), "127.0.0.1", 0, limits=HttpLimits(connections=CONNECTIONS))

    return serve


def client_of(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=patient(20))


async def never(*_: object, **__: object) -> Any:
    await asyncio.Event().wait()


async def test_a_store_that_does_not_answer_is_a_503_within_the_limit(
    world: Any, url: str, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstore, "get_async", never)
    monkeypatch.setattr(obstore, "head_async", never)
    parts, server = served(read_limit_s=0.05)
    async with server as port, client_of(port) as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:artifact-store-away")
        assert (await client.head(url)).status_code == 503
    assert parts.store.dependency.seen.reason == "the last use failed: TimeoutError"
    assert parts.downloads.now == 0


async def test_downloads_that_are_stuck_leave_connections_to_the_rest(
    world: Any, url: str, served: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def held(*_: object, **__: object) -> Any:
        await over.wait()
        raise GenericError(SECRET)

    monkeypatch.setattr(obstore, "get_async", held)
    parts, server = served(read_limit_s=patient(60))
    async with server as port, client_of(port) as client:
        asked = [asyncio.create_task(client.get(url)) for _ in range(CONNECTIONS - 1)]

        async def others_are_told() -> bool:
            return bool(sum(each.done() for each in asked) == len(asked) - parts.downloads.most)

        await until(others_are_told)
        accepted = await client.post("/api/tracks", json={"prompt": "Warm ambient pad"})
        assert accepted.status_code == 202
        over.set()
        told = [(answer.status_code, answer.json()["type"]) for answer in await asyncio.gather(*asked)]
        stuck = (503, "urn:segue:problem:artifact-store-away")
        assert told.count(stuck) == parts.downloads.most
        assert set(told) == {stuck, (503, "urn:segue:problem:too-many-downloads")}
        monkeypatch.undo()
        assert (await client.get(url)).content == BODY


class Broken:
    """A file whose second chunk the store does not give."""

    def stream(self, **_: object) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield BODY[:5]
        raise GenericError(SECRET)


async def refuse(*_: object, **__: object) -> Any:
    raise GenericError(SECRET)


async def begin(*_: object, **__: object) -> Broken:
    return Broken()


async def stall(*_: object, **__: object) -> Any:
    class Stalled(Broken):
        async def _chunks(self) -> AsyncIterator[bytes]:
            yield BODY[:5]
            await never()

    return Stalled()


@pytest.mark.parametrize(("get", "error"), [(refuse, "GenericError"), (begin, "GenericError"), (stall, "TimeoutError")])
async def test_the_text_of_the_stores_errors_is_not_recorded(
    world: Any, url: str, served: Any, monkeypatch: pytest.MonkeyPatch, get: Any, error: str
) -> None:
    monkeypatch.setattr(obstore, "get_async", get)
    world.spans.clear()
    parts, server = served(chunk_limit_s=0.05)
    with capture_logs() as logged:
        async with server as port, client_of(port) as client:
            if get is refuse:
                answer = await client.get(url)
                assert (answer.status_code, SECRET in answer.text) == (503, False)
            else:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(url)
    [line] = [line for line in logged if line["event"].code == "artifact_store_unavailable"]
    assert line["error"] == error
    [span] = world.spans.get_finished_spans()
    assert not span.status.is_ok
    assert SECRET not in span.to_json()
    assert SECRET not in "".join(map(rendered, logged))
    assert "request_failed" not in {line["event"].code for line in logged}
    assert parts.downloads.now == 0


def rendered(line: Any) -> str:
    error = line.get("exc_info")
    return repr(line) + ("".join(traceback.format_exception(error)) if isinstance(error, BaseException) else "")
