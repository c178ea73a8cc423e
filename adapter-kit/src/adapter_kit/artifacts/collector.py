"""The collector: each output is fetched, inspected, measured, and put into Segue's own store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from adapter_kit.artifacts.download import Lost, Unconnected, Unreachable, download
from adapter_kit.artifacts.egress_advice import RefusalLog
from adapter_kit.artifacts.unwrapping import TooLarge
from adapter_kit.attempt.inputs import Collected, CollectFailed
from adapter_kit.attempt.model import Attempt
from adapter_kit.http.causes import first_cause
from adapter_kit.log_events import OutputEvent
from adapter_kit.media.inspect import Unusable, inspect
from adapter_kit.media.raw_sound import asks_for_raw, is_named_raw, is_raw_type
from adapter_kit.port.outcomes import Failure
from chassis.artifacts import STORE_ERRORS, ArtifactStore, StoredFile, artifact_key
from chassis.http.egress import EgressRefused
from chassis.observability.logs import get_logger
from contracts.failures import FAILURES, FailureKind
from contracts.messages.attempts import Artifact
from contracts.modalities.registry import MODALITIES

MAX_BYTES: Final = 200 * 1024 * 1024
CONCURRENCY: Final = 4
TIME_S: Final = 150.0
"""For one collection, however slowly the bytes trickle in; the next try starts over."""
STORE_S: Final = 60.0
_log = get_logger("adapter_kit.artifacts.collector")


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
        """Store every output of `attempt`, or say why that cannot be, and what is stored all the same.

        Trying again is in vain only where Segue's own settings refuse an output: all else may be better later, be it
        a file that is not there yet, a page in its place, or a store that is away.
        """
        if not attempt.files.outputs:
            return CollectFailed(Failure(FailureKind.OUTPUT_UNUSABLE, "the provider returned no outputs"), final=False)
        run = _Collection(attempt)
        tasks: dict[int, asyncio.Task[Artifact | _Miss]] = {}
        try:
            async with asyncio.timeout(self._time_s), asyncio.TaskGroup() as group:
                tasks = {n: group.create_task(self._one(run, n)) for n in range(1, len(attempt.files.outputs) + 1)}
        except TimeoutError:
            pass
        results = {n: self._too_slow(run, n) if task.cancelled() else task.result() for n, task in tasks.items()}
        stored = {n: result for n, result in results.items() if isinstance(result, Artifact)}
        missed = {n: result for n, result in results.items() if isinstance(result, _Miss)}
        if not missed:
            return Collected(tuple(stored.values()))
        worst = min(missed.values(), key=_Miss.rank)
        missing = {n: miss.failure.message for n, miss in missed.items()}
        return CollectFailed(worst.failure, worst.final, frozenset(run.reached), stored, missing)

    async def _one(self, run: _Collection, n: int) -> Artifact | _Miss:
        try:
            async with run.gate:
                with TemporaryDirectory(prefix="segue-", dir=self._work_dir, ignore_cleanup_errors=True) as folder:
                    return await self._store_one(run, n, Path(folder) / "output")
        except Exception as error:  # noqa: BLE001 - whatever a provider's URL or file may trip, the money is spent
            return self._failed(first_cause(error), f"output {n}: ", reached_before=n in run.attempt.files.reached)

    def _too_slow(self, run: _Collection, n: int) -> _Miss:
        kind = FailureKind.STORE_FAILED if run.storing else FailureKind.OUTPUT_LOST
        why = "the artifact store took too long" if run.storing else "it took too long to fetch"
        return _Miss(Failure(kind, f"output {n}: not stored within {self._time_s:g} s: {why}"))

    def _failed(self, error: BaseException, which: str, *, reached_before: bool = False) -> _Miss:
        match error:
            case EgressRefused():
                self._refusals.tell(error)
                # Until an operator has changed a setting, the next try ends like this one.
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}"), final=True)
            case TooLarge():
                _log.error(OutputEvent.OUTPUT_TOO_LARGE, max_bytes=self._max_bytes)
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}"), final=True)
            case Unconnected() if not reached_before:
                # A host that was never there for us says nothing about the output: our own network is at fault first.
                self._refusals.tell_unconnected(error.host, error.why)
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}, now or before"))
            case Unusable():
                return _Miss(Failure(FailureKind.OUTPUT_UNUSABLE, f"{which}{error}"))
            case Lost() | Unreachable():
                return _Miss(Failure(FailureKind.OUTPUT_LOST, f"{which}{error}", http_status=error.status))
            case _ if isinstance(error, STORE_ERRORS):
                # Its text may quote the store's credentials.
                message = f"{which}the artifact store did not take it ({type(error).__name__})"
                return _Miss(Failure(FailureKind.STORE_FAILED, message))
            case _:
                _log.error(OutputEvent.OUTPUT_HANDLING_FAILED, exc_info=error)
                return _Miss(
                    Failure(FailureKind.STORE_FAILED, f"{which}a fault of Segue's own ({type(error).__name__})")
                )

    async def _store_one(self, run: _Collection, n: int, path: Path) -> Artifact:
        attempt, output = run.attempt, run.attempt.files.outputs[n - 1]
        fetched = await download(self._client, output.url, path, self._max_bytes, lambda: run.reached.add(n))
        raw = is_raw_type(output.content_type) or is_raw_type(fetched.content_type) or is_named_raw(output.url)
        raw = raw or asks_for_raw(attempt.arguments)
        media = await asyncio.to_thread(inspect, path, attempt.modality, raw_asked=raw)
        name = f"{MODALITIES[attempt.modality].named(n)}.{media.extension}"
        run.storing.add(n)
        stored = await self._put(path, artifact_key(attempt.job_id, attempt.attempt_id, name), media.content_type)
        run.storing.discard(n)
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

    async def _put(self, path: Path, key: str, content_type: str) -> StoredFile:
        try:
            async with asyncio.timeout(STORE_S):
                return await self._store.put_file(path, key, content_type=content_type)
        except TimeoutError as error:
            raise OSError(f"it did not answer within {STORE_S:.0f} s") from error


class _Collection:
    """One collection of an attempt's outputs, which are named by their numbers from 1 on."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.gate = asyncio.Semaphore(CONCURRENCY)
        self.reached: set[int] = set()
        """Outputs whose hosts were connected to."""
        self.storing: set[int] = set()
        """Outputs that the store has been given and has not taken."""


@dataclass(frozen=True, slots=True)
class _Miss:
    """Why one output is not in the store."""

    failure: Failure
    final: bool = False

    def rank(self) -> tuple[bool, bool]:
        """The lower, the more it says about all: what is ours to mend comes before what the provider lost."""
        return not self.final, FAILURES[self.failure.kind].moves_on
