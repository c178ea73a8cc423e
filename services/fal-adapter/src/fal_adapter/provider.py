"""The fal.ai implementation of the provider port."""

from __future__ import annotations

import asyncio
import re
from collections import ChainMap
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final, Literal

from fal_client import AsyncRequestHandle

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import strings_in
from adapter_kit.http.responses import probe_outcome, submit_outcome
from adapter_kit.http.transport import checked_key, exchange, is_sendable
from adapter_kit.port.listing import Page, of_about_the_same_time, walk
from adapter_kit.port.outcomes import (
    Accepted,
    Callback,
    CancelOutcome,
    CheckOutcome,
    Failure,
    FindOutcome,
    NoAnswer,
    ProbeOutcome,
    Produced,
    ProviderRef,
    Refused,
    Running,
    SubmitOutcome,
    Waiting,
)
from adapter_kit.port.provider import ListedRun, LostSubmission, Run, Stage, Submission
from contracts.failures import FailureKind
from contracts.ids import AttemptId
from fal_adapter.errors import ended_without_a_run, fal_failure, is_own_word
from fal_adapter.listing import listing_query, read_page
from fal_adapter.reading import (
    URL_NAMES,
    cancel_outcome,
    is_request_id,
    read_callback,
    read_result,
    ref_of,
    result_outcome,
    status_outcome,
)
from fal_adapter.transport import FalClient, fal_client, origin, queue_origins

FAL_API_URL: Final = "https://api.fal.ai"
ASK_TIMEOUT_S: Final = 15.0
LOOK_TIMEOUT_S: Final = 4.0
"""Time limit of the one status request after a submit, in seconds; below the time a submit may exceed its limit by."""
MIN_START_S: Final = 1.5
"""In seconds. The SDK refuses a start deadline of a second or less."""

_ENDPOINT: Final = re.compile(
    r"(?:(?:workflows|comfy)/)?(?!workflows/|comfy/)[\w-][\w.-]*(?:/[\w-][\w.-]*){1,9}", re.ASCII
)


class FalProvider:
    """The provider port for fal's queue; created by `fal_provider`."""

    def __init__(self, client: FalClient, api_url: str, submit_timeout_s: float) -> None:
        self._client, self._api_url = client, api_url.rstrip("/")
        self._submit_timeout_s = submit_timeout_s
        self._origins = queue_origins()

    @property
    def name(self) -> Literal["fal"]:
        """The name of the provider."""
        return "fal"

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one POST to the queue, with the start deadline and the attempt's id as a tag."""
        if (wrong := _unsendable(submission)) is not None:
            return Refused(wrong)
        call = self._client.submit(
            submission.endpoint,
            dict(submission.arguments),
            webhook_url=submission.webhook_url,
            start_timeout=max(submission.start_within_s, MIN_START_S),
            headers={
                "X-Fal-Tags": f"segue-attempt={submission.attempt_id}",
                # Segue reports which model made an output, so fal must not substitute another one.
                "x-app-fal-disable-fallback": "true",
            },
        )
        done = await exchange(call, self._submit_timeout_s)
        outcome = submit_outcome(
            done,
            lambda answer: self._accepted(submission.endpoint, answer),
            lambda answer: fal_failure(answer, echoed=strings_in(dict(submission.arguments))),
            path=submission.endpoint,
            is_final=ended_without_a_run,
            is_own=is_own_word,
        )
        known = await self._known_all_the_same(submission.endpoint, done.answer)
        return outcome if known is None else Accepted(known)

    async def check(self, run: Run) -> CheckOutcome:
        """Send one GET for the status and, once it is complete, one for the result."""
        handle = self._handle(run.endpoint, run.ref)
        outcome = status_outcome(await exchange(handle.status(), ASK_TIMEOUT_S))
        if not isinstance(outcome, Answer):
            return outcome
        # The handle's own get() would first poll the status again, without a limit.
        done = await exchange(self._client.http.get(handle.response_url), ASK_TIMEOUT_S)
        return result_outcome(outcome, done, run.modality, dict(run.arguments))

    async def cancel(self, run: Run) -> CancelOutcome:
        """Send one PUT. A run that has started may finish all the same."""
        handle = self._handle(run.endpoint, run.ref)
        return cancel_outcome(await exchange(handle.cancel(), ASK_TIMEOUT_S))

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        """Search each endpoint's list of past requests. A missing run proves nothing by itself.

        fal does not document that it lists runs which have not ended.
        """
        url = f"{self._api_url}/v1/models/requests/by-endpoint"
        walks = [
            walk(group, taken, partial(self._page, url, endpoint, group), asked_at, conclusive=False)
            for endpoint in {one.endpoint for one in lost}
            for group in of_about_the_same_time([one for one in lost if one.endpoint == endpoint])
        ]
        return dict(ChainMap(*await asyncio.gather(*walks)))

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        """Nothing: fal's list is by the end of a request, and not documented to show one that has not ended."""
        return {}

    def read_callback(self, body: str) -> Callback | None:
        """The run that a callback's body is about; sends no request."""
        return read_callback(body)

    def read_result(self, body: str, run: Run) -> Produced | None:
        """The outputs of a run that has succeeded; sends no request."""
        return read_result(body, run.modality, dict(run.arguments))

    async def probe(self, endpoint: str) -> ProbeOutcome:
        """Request the price of the endpoint.

        The queue answers some requests without a key, so only the price proves that the key is valid.
        """
        call = self._client.http.get(f"{self._api_url}/v1/models/pricing", params={"endpoint_id": endpoint})
        return probe_outcome(await exchange(call, ASK_TIMEOUT_S), fal_failure)

    async def _page(
        self, url: str, endpoint: str, lost: Sequence[LostSubmission], cursor: str | None
    ) -> Page | NoAnswer:
        call = self._client.http.get(url, params=listing_query(endpoint, lost, cursor))
        return read_page(await exchange(call, ASK_TIMEOUT_S), endpoint)

    async def _known_all_the_same(self, endpoint: str, answer: Answer | None) -> ProviderRef | None:
        """The run that fal knows by the id in a 5xx answer to its submit; None if there is none.

        Every answer of fal has such an id. An id that fal does not know proves nothing by itself.
        """
        if answer is None or answer.status < 500:
            return None
        ref = self._named(endpoint, answer.headers.get("x-fal-request-id"))
        if ref is None:
            return None
        status = status_outcome(await exchange(self._handle(endpoint, ref).status(), LOOK_TIMEOUT_S))
        return ref if isinstance(status, Answer | Waiting | Running) else None

    def _named(self, endpoint: str, request_id: str | None) -> ProviderRef | None:
        if not is_request_id(request_id):
            return None
        handle = self._handle(endpoint, ProviderRef(request_id, {}))
        return ProviderRef(request_id, {name: getattr(handle, name) for name in URL_NAMES})

    def _accepted(self, endpoint: str, answer: Answer) -> ProviderRef | None:
        ref = ref_of(answer)
        if ref is None:
            return None
        handle = self._handle(endpoint, ref)
        return ProviderRef(ref.request_id, {name: getattr(handle, name) for name in URL_NAMES})

    def _handle(self, endpoint: str, ref: ProviderRef) -> AsyncRequestHandle:
        """The SDK's handle for a run, with the URLs that fal returned; a URL of another host is replaced."""
        built = AsyncRequestHandle.from_request_id(self._client.http, endpoint, ref.request_id)
        urls = {name: ref.urls.get(name, "") for name in URL_NAMES}
        trusted = {name: url for name, url in urls.items() if origin(url) in self._origins}
        return AsyncRequestHandle(
            request_id=ref.request_id,
            response_url=trusted.get("response_url", built.response_url),
            status_url=trusted.get("status_url", built.status_url),
            cancel_url=trusted.get("cancel_url", built.cancel_url),
            client=self._client.http,
        )


@asynccontextmanager
async def fal_provider(
    key: str, *, api_url: str = FAL_API_URL, submit_timeout_s: float = 30.0
) -> AsyncIterator[FalProvider]:
    """The provider port for fal, for one event loop; its connections are closed at the end of the block.

    `api_url` is the base of fal's platform API, which returns prices and past requests. Raises ValueError if the key is
    malformed.
    """
    async with fal_client(checked_key(key), submit_timeout_s, ASK_TIMEOUT_S) as client:
        yield FalProvider(client, api_url, submit_timeout_s)


def _unsendable(submission: Submission) -> Failure | None:
    if not is_sendable(submission.arguments):
        return Failure(FailureKind.INVALID_INPUT, "the arguments contain a value that JSON does not support")
    if not _ENDPOINT.fullmatch(submission.endpoint):
        return Failure(FailureKind.MODEL_NOT_FOUND, f"not an endpoint of fal: {submission.endpoint[:200]!r}")
    return None
