"""Outputs outlive the provider: each is fetched, looked into, measured, and kept in Segue's own store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from adapter_kit.causes import first_cause
from adapter_kit.download import Lost, Unreachable, download
from adapter_kit.happenings import Collected, CollectFailed
from adapter_kit.media import Unusable, inspect
from adapter_kit.outcomes import Failure
from adapter_kit.raw_sound import asks_for_raw, is_named_raw, is_raw_type
from adapter_kit.record import Attempt
from adapter_kit.refusals import RefusalLog
from adapter_kit.unwrapping import TooLarge
from chassis.artifacts import STORE_ERRORS, ArtifactStore, artifact_key
from chassis.egress import EgressRefused
from chassis.logs import get_logger
from contracts.attempts import Artifact
from contracts.failures import FailureKind
from contracts.generation import Modality

MAX_BYTES: Final = 200 * 1024 * 1024
CONCURRENCY: Final = 4
TIME_S: Final = 150.0
"""For one collection, however slowly the bytes trickle in; the next try starts over."""
STORE_S: Final = 60.0
_log = get_logger("adapter_kit.collect")


class Collector:
    """Brings an attempt's outputs into the artifact store. Doing it again overwrites them with the same."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: ArtifactStore,
        *,
        max_bytes: int = MAX_BYTES,
        work_dir: Path | None = None,
        time_s: float = TIME_S,
    ) -> None:
        """`max_bytes` bounds each output; files lie in `work_dir` (the system's, if None) while they are looked at."""
        self._client = client
        self._store = store
        self._max_bytes = max_bytes
        self._work_dir = work_dir
        self._time_s = time_s
        self._refusals = RefusalLog()

    async def collect(self, attempt: Attempt) -> Collected | CollectFailed:
        """Store every output of `attempt`, or say why that cannot be.

        Trying again is in vain only where Segue's own settings refuse an output: all else may be better later, be it
        a file that is not there yet, a page in its place, or a store that is away.
        """
        if not attempt.outputs:
            return _unusable("the provider returned no outputs")
        gate = asyncio.Semaphore(CONCURRENCY)
        try:
            async with asyncio.timeout(self._time_s), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(attempt, n, gate)) for n in range(1, len(attempt.outputs) + 1)]
        except TimeoutError:
            return _lost(f"the outputs could not be stored within {self._time_s:g} s")
        results = [task.result() for task in tasks]
        failures = [result for result in results if isinstance(result, CollectFailed)]
        if failures:
            return next((failure for failure in failures if failure.final), failures[0])
        return Collected(tuple(result for result in results if isinstance(result, Artifact)))

    async def _one(self, attempt: Attempt, n: int, gate: asyncio.Semaphore) -> Artifact | CollectFailed:
        try:
            async with gate:
                with TemporaryDirectory(prefix="segue-", dir=self._work_dir, ignore_cleanup_errors=True) as folder:
                    return await self._store_one(attempt, n, Path(folder) / "output")
        except Exception as error:  # noqa: BLE001 - whatever a provider's URL or file may trip, the money is spent
            return self._failed(first_cause(error), f"output {n}: ")

    def _failed(self, error: BaseException, which: str) -> CollectFailed:
        match error:
            case EgressRefused():
                self._refusals.tell(error)
                return _refused(f"{which}{error}")
            case TooLarge():
                _log.error("an output is larger than SEGUE_MAX_OUTPUT_MB allows", max_bytes=self._max_bytes)
                return _refused(f"{which}{error}")
            case Unusable():
                return _unusable(f"{which}{error}")
            case Lost() | Unreachable():
                return _lost(f"{which}{error}", error.status)
            case _ if isinstance(error, STORE_ERRORS):
                # Its text may quote the store's credentials.
                message = f"{which}the artifact store did not take it ({type(error).__name__})"
                return CollectFailed(Failure(FailureKind.STORE_FAILED, message), final=False)
            case _:
                _log.error("an output cannot be collected", exc_info=error)
                return _lost(f"{which}{type(error).__name__}")

    async def _store_one(self, attempt: Attempt, n: int, path: Path) -> Artifact:
        output = attempt.outputs[n - 1]
        fetched = await download(self._client, output.url, path, self._max_bytes)
        raw = is_raw_type(output.content_type) or is_raw_type(fetched.content_type) or is_named_raw(output.url)
        raw = raw or asks_for_raw(attempt.arguments)
        media = await asyncio.to_thread(inspect, path, attempt.modality, raw_asked=raw)
        name = f"{_stem(attempt.modality, n)}.{media.extension}"
        key = artifact_key(attempt.job_id, attempt.attempt_id, name)
        try:
            async with asyncio.timeout(STORE_S):
                stored = await self._store.put_file(path, key, content_type=media.content_type)
        except TimeoutError as error:
            raise OSError(f"it did not answer within {STORE_S:.0f} s") from error
        if stored.sha256 != fetched.sha256:
            raise OSError("what was stored is not what was fetched")
        return Artifact(
            name=name,
            content_type=media.content_type,
            size_bytes=stored.size_bytes,
            sha256=fetched.sha256,
            duration_s=media.duration_s,
            width=media.width,
            height=media.height,
        )


def _stem(modality: Modality, n: int) -> str:
    if modality == "image":
        return f"image-{n}"
    return "audio" if n == 1 else f"audio-{n}"


def _unusable(message: str) -> CollectFailed:
    return CollectFailed(Failure(FailureKind.OUTPUT_UNUSABLE, message), final=False)


def _lost(message: str, http_status: int | None = None) -> CollectFailed:
    return CollectFailed(Failure(FailureKind.OUTPUT_LOST, message, http_status=http_status), final=False)


def _refused(message: str) -> CollectFailed:
    # Until an operator has changed a setting, the next try ends like this one.
    return CollectFailed(Failure(FailureKind.OUTPUT_REFUSED, message), final=True)
