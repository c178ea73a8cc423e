"""A collection that is given up leaves a thread behind, and no file: what the thread makes then, it closes."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import changed, queued_attempt
from tests.patience import patient

from adapter_kit.artifacts import collector as collecting
from adapter_kit.artifacts import download as downloading
from adapter_kit.artifacts import spool as spooling
from adapter_kit.artifacts import unwrapping
from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.spool import HELD_BYTES, Spool
from adapter_kit.artifacts.unwrapping import unwrap
from adapter_kit.port.outcomes import Output
from chassis.artifacts import ArtifactStore
from contracts.ids import job_id_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOUND = b"RIFF" + bytes(2 * HELD_BYTES)
DATA_URL = "data:audio/wav;base64," + base64.b64encode(SOUND).decode()


def files(folder: Path) -> list[str]:
    """The files in a folder, and those without a name that are open there."""
    found = [path.name for path in folder.iterdir()]
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if (to := each.readlink()).is_relative_to(folder):
                found.append(to.name)
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("module", "name", "url"),
    [
        (downloading, "_write_data_url", DATA_URL),
        (spooling, "TemporaryFile", "https://files.example/a.wav"),
        (collecting, "_examine", "https://files.example/a.wav"),
    ],
)
async def test_a_thread_that_outlives_its_collection_leaves_nothing_and_logs_nothing(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, url: str
) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()
    original: Callable[..., Any] = getattr(module, name)
    unretrieved = list[dict[str, Any]]()

    def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        go_on.wait(patient(60))
        try:
            return original(*args, **kwargs)
        finally:
            over.set()

    monkeypatch.setattr(module, name, slow)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
    queued = queued_attempt(job_id_for("tenant", "key"), NOW)
    attempt = changed(queued, state="collecting", outputs=(Output(url, "audio/wav"),))
    store = ArtifactStore.open((tmp_path / "store").as_uri())
    answers = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(SOUND)))
    async with httpx.AsyncClient(transport=answers) as client:
        collection = asyncio.create_task(Collector(client, store, work_dir=work).collect(attempt, NOW))
        assert await asyncio.to_thread(begun.wait, patient(60))
        collection.cancel()
        await asyncio.wait([collection])
    assert files(work) == []
    go_on.set()
    assert await asyncio.to_thread(over.wait, patient(60))
    # The threads of the executor end with all that they do.
    await asyncio.get_running_loop().shutdown_default_executor()
    gc.collect()
    assert (files(work), unretrieved) == ([], [])


def test_a_closed_spool_takes_no_file(work: Path) -> None:
    with Spool(work) as spool:
        assert spool.hold(SOUND)
    with pytest.raises(ValueError, match="closed"):
        spool.write()
    assert files(work) == []


@pytest.mark.parametrize("size", [100, 2 * HELD_BYTES])
def test_an_output_that_is_given_up_while_it_is_decoded_leaves_no_file(
    work: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    decode = unwrapping._decode
    coded = Spool(work)

    def given_up_meanwhile(*args: Any) -> None:
        decode(*args)
        coded.__exit__()

    monkeypatch.setattr(unwrapping, "_decode", given_up_meanwhile)
    coded.append(gzip.compress(os.urandom(size), compresslevel=0))
    with suppress(ValueError):
        unwrap(coded, [], 1_000_000)
    assert files(work) == []
