"""The collector: fetches, inspects and measures each output, and writes it to the artifact store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import httpx

from adapter_kit.artifacts.download import Fetched, Lost, Unconnected, Unreachable, download
from adapter_kit.artifacts.egress_advice import RefusalLog
from adapter_kit.artifacts.spool import Spool
from adapter_kit.artifacts.unwrapping import TooLarge, unwrap
from adapter_kit.attempt.inputs import Collected, CollectFailed
from adapter_kit.attempt.model import Attempt
from adapter_kit.http.causes import first_cause
from adapter_kit.log_events import OutputEvent
from adapter_kit.media.inspect import Media, Unusable, inspect
from adapter_kit.media.raw_sound import asks_for_raw, is_named_raw, is_raw_type
from adapter_kit.port.outcomes import ErrorWord, Failure
from chassis.artifact_keys import artifact_key
from chassis.artifacts import STORE_ERRORS, ArtifactStore
from chassis.http.egress import EGRESS_CONNECTIONS, EgressRefused
from chassis.observability.logs import get_logger
from contracts.failures import FAILURES, FailureKind
from contracts.generation import Modality
from contracts.messages.attempts import Artifact
from contracts.modalities.registry import MODALITIES

MAX_BYTES: Final = 200 * 1024 * 1024
CONCURRENCY: Final = 4
"""Outputs of one collection that are fetched at a time."""
COLLECTIONS_AT_ONCE: Final = EGRESS_CONNECTIONS // CONCURRENCY
TIME_S: Final = 150.0
"""Time limit of one collection, in seconds, without the wait for its turn; a retry starts over."""
_log = get_logger("adapter_kit.artifacts.collector")


class Collector:
    """Stores the outputs of attempts. It is idempotent: a repeated collection overwrites the same files."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: ArtifactStore,
        *,
        max_bytes: int = MAX_BYTES,
        work_dir: Path | None = None,
        time_s: float = TIME_S,
        at_once: int = COLLECTIONS_AT_ONCE,
    ) -> None:
        """`max_bytes` limits each output, `time_s` each collection; `at_once` collections are made at a time.

        Large outputs are kept in `work_dir` until they are stored; None: the system's.
        """
        self._client = client
        self._store = store
        self._max_bytes = max_bytes
        self._work_dir = work_dir
        self._time_s = time_s
        # Outside of the time limit: a wait of our own must not count as an output that the provider has lost.
        self._turns = asyncio.Semaphore(at_once)
        self._refusals = RefusalLog()

    async def collect(self, attempt: Attempt, asked_at: datetime) -> Collected | CollectFailed:
        """Store every output of `attempt`; on failure, return why, and which outputs are stored nevertheless.

        `asked_at` is the time of the request, which a failure carries back.

        A failure is final only if the settings of Segue refuse an output. Others may be temporary: a file that is not
        available yet, an HTML page in its place, or an unavailable store.
        """
        if not attempt.files.outputs:
            none = Failure(FailureKind.OUTPUT_UNUSABLE, "the provider returned no outputs")
            return CollectFailed(none, final=False, asked_at=asked_at)
        async with self._turns:
            return await self._collect(_Collection(attempt), asked_at)

    async def _collect(self, run: _Collection, asked_at: datetime) -> Collected | CollectFailed:
        tasks: dict[int, asyncio.Task[Artifact | _Miss]] = {}
        try:
            async with asyncio.timeout(self._time_s), asyncio.TaskGroup() as group:
                tasks = {n: group.create_task(self._one(run, n)) for n in range(1, len(run.attempt.files.outputs) + 1)}
        except TimeoutError:
            pass
        results = {n: self._too_slow(run, n) if task.cancelled() else task.result() for n, task in tasks.items()}
        stored = {n: result for n, result in results.items() if isinstance(result, Artifact)}
        missed = {n: result for n, result in results.items() if isinstance(result, _Miss)}
        if not missed:
            return Collected(tuple(stored.values()))
        worst = min(missed.values(), key=_Miss.rank)
        missing = {n: miss.failure.message for n, miss in missed.items()}
        reached = frozenset(run.reached)
        return CollectFailed(
            worst.failure, worst.final, asked_at, reached, stored, missing, word=worst.word, host=worst.host
        )

    async def _one(self, run: _Collection, n: int) -> Artifact | _Miss:
        try:
            async with run.gate:
                with Spool(self._work_dir) as spool:
                    return await self._store_one(run, n, spool)
        except Exception as error:  # noqa: BLE001 - the run is paid for, so that any error has to be reported and retried
            miss = self._failed(first_cause(error), f"output {n}: ", reached_before=n in run.attempt.files.reached)
            return replace(miss, host=run.host(n))

    def _too_slow(self, run: _Collection, n: int) -> _Miss:
        kind = FailureKind.STORE_FAILED if run.storing else FailureKind.OUTPUT_LOST
        why = "the artifact store took too long" if run.storing else "it took too long to fetch"
        failure = Failure(kind, f"output {n}: not stored within {self._time_s:g} s: {why}")
        return _Miss(failure, word="timeout", host=run.host(n))

    def _failed(self, error: BaseException, which: str, *, reached_before: bool = False) -> _Miss:
        match error:
            case EgressRefused():
                self._refusals.tell(error)
                # A retry fails in the same way until an operator changes a setting.
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}"), final=True)
            case TooLarge():
                _log.error(OutputEvent.OUTPUT_TOO_LARGE, max_bytes=self._max_bytes)
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}"), final=True)
            case Unconnected() if not reached_before:
                # No connection was ever made to this host, so the cause is probably our network, and not the output.
                self._refusals.tell_unconnected(error.host, error.why)
                return _Miss(Failure(FailureKind.OUTPUT_REFUSED, f"{which}{error}, now or before"), word=error.word)
            case Unusable():
                return _Miss(Failure(FailureKind.OUTPUT_UNUSABLE, f"{which}{error}"))
            case Lost() | Unreachable():
                lost = Failure(FailureKind.OUTPUT_LOST, f"{which}{error}", http_status=error.status)
                return _Miss(lost, word=error.word)
            case _ if isinstance(error, STORE_ERRORS):
                # The text of the error may contain the store's credentials.
                message = f"{which}the artifact store did not take it ({type(error).__name__})"
                return _Miss(Failure(FailureKind.STORE_FAILED, message))
            case _:
                _log.error(OutputEvent.OUTPUT_HANDLING_FAILED, exc_info=error)
                return _Miss(
                    Failure(FailureKind.STORE_FAILED, f"{which}a fault of Segue's own ({type(error).__name__})")
                )

    async def _store_one(self, run: _Collection, n: int, spool: Spool) -> Artifact:
        attempt, output = run.attempt, run.attempt.files.outputs[n - 1]
        fetched = await download(self._client, output.url, spool, self._max_bytes, lambda: run.reached.add(n))
        raw = is_raw_type(output.content_type) or is_raw_type(fetched.content_type) or is_named_raw(output.url)
        raw = raw or asks_for_raw(attempt.arguments)
        # One call for everything: to pass a small output to a thread costs more than what is done with it there.
        media, content, sha256 = await asyncio.to_thread(
            _examine, spool, fetched, self._max_bytes, attempt.modality, raw_asked=raw
        )
        name = f"{MODALITIES[attempt.modality].named(n)}.{media.extension}"
        run.storing.add(n)
        await self._put(artifact_key(attempt.attempt_id, name), media, content, sha256)
        run.storing.discard(n)
        return Artifact(
            name=name,
            content_type=media.content_type,
            size_bytes=spool.size,
            sha256=sha256,
            duration_s=media.duration_s,
            width=media.width,
            height=media.height,
        )

    async def _put(self, key: str, media: Media, content: bytes | BinaryIO, sha256: str) -> None:
        if isinstance(content, bytes):
            # Nothing lies between the bytes that were hashed and those that the store takes.
            await self._store.put_bytes(content, key, content_type=media.content_type)
            return
        stored = await self._store.put_file(content, key, content_type=media.content_type)
        if stored.sha256 != sha256:
            raise OSError("what was stored is not what was fetched")


def _examine(
    spool: Spool, fetched: Fetched, max_bytes: int, modality: Modality, *, raw_asked: bool
) -> tuple[Media, bytes | BinaryIO, str]:
    """Decode and inspect an output; returns what it is, its content and its hash. Blocks."""
    unwrap(spool, fetched.codings, max_bytes)
    media = inspect(spool.file(), modality, raw_asked=raw_asked)
    return media, spool.content(), spool.sha256()


class _Collection:
    """One collection of an attempt's outputs, which are numbered from 1."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.gate = asyncio.Semaphore(CONCURRENCY)
        self.reached: set[int] = set()
        """Outputs to whose hosts a connection was made."""
        self.storing: set[int] = set()
        """Outputs that are being written to the store."""

    def host(self, n: int) -> str | None:
        """The host of an output; None for a data URL, or one that cannot be read."""
        try:
            return urlsplit(self.attempt.files.outputs[n - 1].url).hostname
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class _Miss:
    """Why one output is not in the store."""

    failure: Failure
    final: bool = False
    word: ErrorWord | None = None
    host: str | None = None

    def rank(self) -> tuple[bool, bool]:
        """Sort key: final failures first, then those on our side, then those of the provider."""
        return not self.final, FAILURES[self.failure.kind].moves_on
