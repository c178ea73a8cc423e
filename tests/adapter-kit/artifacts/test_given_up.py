"""A collection that is given up leaves a thread behind, and no file: the thread makes none anew."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import changed, queued_attempt
from tests.patience import patient

from adapter_kit.artifacts import download as downloading
from adapter_kit.artifacts import unwrapping
from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.download import download
from adapter_kit.artifacts.unwrapping import unwrap
from adapter_kit.port.outcomes import Output
from adapter_kit.results.data_urls import data_in
from chassis.artifacts import ArtifactStore
from contracts.ids import job_id_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOUND = b"RIFF" + bytes(100_000)
DATA_URL = "data:audio/wav;base64," + base64.b64encode(SOUND).decode()


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


async def test_a_thread_that_outlives_its_collection_leaves_nothing_and_logs_nothing(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()
    write = downloading._write_data_url
    raised, unretrieved = list[BaseException](), list[dict[str, Any]]()

    def slow(url: str) -> bytes:
        begun.set()
        go_on.wait(patient(60))
        return data_in(url)

    def watched(url: str, path: Path, max_bytes: int) -> str:
        try:
            return write(url, path, max_bytes)
        except OSError as error:
            raised.append(error)
            raise
        finally:
            over.set()

    monkeypatch.setattr(downloading, "data_in", slow)
    monkeypatch.setattr(downloading, "_write_data_url", watched)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
    queued = queued_attempt(job_id_for("tenant", "key"), NOW)
    attempt = changed(queued, state="collecting", outputs=(Output(DATA_URL, "audio/wav"),))
    store = ArtifactStore.open((tmp_path / "store").as_uri())
    async with httpx.AsyncClient() as client:
        collection = asyncio.create_task(Collector(client, store, work_dir=work).collect(attempt, NOW))
        assert await asyncio.to_thread(begun.wait, patient(60))
        collection.cancel()
        await asyncio.wait([collection])
    assert files(work) == []
    go_on.set()
    assert await asyncio.to_thread(over.wait, patient(60))
    await asyncio.to_thread(gc.collect)
    assert [type(error) for error in raised] == [FileNotFoundError]
    assert (files(work), unretrieved) == ([], [])


@pytest.mark.parametrize("url", [DATA_URL, "https://files.example/a.wav"])
async def test_a_file_that_is_gone_is_not_made_anew(work: Path, url: str) -> None:
    answers = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(SOUND)))
    async with httpx.AsyncClient(transport=answers) as client:
        with pytest.raises(FileNotFoundError):
            await download(client, url, work / "gone", 1_000_000, lambda: None)
    assert files(work) == []


def test_a_file_that_goes_while_it_is_decoded_is_not_made_anew(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = unwrapping._decode

    def given_up_meanwhile(path: Path, *rest: Any) -> None:
        decode(path, *rest)
        path.unlink()

    monkeypatch.setattr(unwrapping, "_decode", given_up_meanwhile)
    (work / "coded").write_bytes(gzip.compress(SOUND))
    with pytest.raises(FileNotFoundError):
        unwrap(work / "coded", [], 1_000_000)
    assert files(work) == []
