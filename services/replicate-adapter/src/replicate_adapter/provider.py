"""The Replicate implementation of the provider port."""

from __future__ import annotations

import asyncio
import math
import re
from collections import ChainMap
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final, Literal

from replicate.prediction import Predictions

from adapter_kit.http.error_rules import strings_in
from adapter_kit.http.responses import probe_outcome, submit_outcome
from adapter_kit.http.transport import checked_key, exchange, is_sendable
from adapter_kit.port.listing import Page, Slice, StagePage, of_about_the_same_time, walk, walk_stages
from adapter_kit.port.outcomes import (
    Callback,
    CancelOutcome,
    CheckOutcome,
    Failure,
    FindOutcome,
    NoAnswer,
    ProbeOutcome,
    Produced,
    Refused,
    SubmitOutcome,
)
from adapter_kit.port.provider import ListedRun, LostSubmission, Run, Stage, Submission
from contracts.failures import FailureKind
from contracts.ids import AttemptId
from replicate_adapter.errors import api_failure
from replicate_adapter.listing import first_page, first_stages, name_in_list, read_page, read_stages
from replicate_adapter.reading import cancel_outcome, check_outcome, read_callback, read_result, ref_of
from replicate_adapter.transport import ReplicateClient, replicate_client

REPLICATE_URL: Final = "https://api.replicate.com"
ASK_TIMEOUT_S: Final = 15.0
SHORTEST_DEADLINE_S: Final = 5
LONGEST_DEADLINE_S: Final = 24 * 3600

_ENDPOINT: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[0-9a-f]{64})?", re.ASCII)


class ReplicateProvider:
    """The provider port for Replicate's predictions; created by `replicate_provider`."""

    def __init__(self, client: ReplicateClient, submit_timeout_s: float) -> None:
        self._client, self._submit_timeout_s = client, submit_timeout_s

    @property
    def name(self) -> Literal["replicate"]:
        """The name of the provider."""
        return "replicate"

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one POST, with a deadline after which Replicate itself stops the run.

        Replicate has no separate start deadline, so this one is the sum of the start deadline and the run deadline.
        """
        if (wrong := _unsendable(submission)) is not None:
            return Refused(wrong)
        allowed_s = math.ceil(submission.start_within_s + submission.run_within_s)
        # The SDK has no parameter for this header.
        headers = {"Cancel-After": f"{min(max(allowed_s, SHORTEST_DEADLINE_S), LONGEST_DEADLINE_S)}s"}
        done = await exchange(self._create(submission), self._submit_timeout_s, headers)
        echoed = strings_in(dict(submission.arguments))
        return submit_outcome(
            done, ref_of, lambda answer: api_failure(answer, echoed), path=_create_path(submission.endpoint)
        )

    async def check(self, run: Run) -> CheckOutcome:
        """Send one GET for the prediction."""
        call = self._client.predictions.async_get(run.ref.request_id)
        return check_outcome(await exchange(call, ASK_TIMEOUT_S), run.modality, dict(run.arguments))

    async def cancel(self, run: Run) -> CancelOutcome:
        """Send one POST, which starts nothing."""
        call = self._client.predictions.async_cancel(run.ref.request_id)
        return cancel_outcome(await exchange(call, self._submit_timeout_s))

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        """Search the list of predictions. It shows each one as soon as it exists, so a missing one does not exist."""
        walks = [
            walk(group, taken, partial(self._page, first_page(group)), asked_at, conclusive=True, called=name_in_list)
            for group in of_about_the_same_time(lost)
        ]
        return dict(ChainMap(*await asyncio.gather(*walks)))

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        """Read the list of predictions, newest first."""
        return await walk_stages(runs, self._stages)

    def read_callback(self, body: str) -> Callback | None:
        """The run that a callback's body is about; sends no request."""
        return read_callback(body)

    def read_result(self, body: str, run: Run) -> Produced | None:
        """The outputs of a prediction that has succeeded; sends no request."""
        return read_result(body, run.modality, dict(run.arguments))

    async def probe(self, endpoint: str) -> ProbeOutcome:
        """Request the account of the token; the endpoint is not queried."""
        call = self._client.accounts.async_current()
        return probe_outcome(await exchange(call, ASK_TIMEOUT_S), api_failure)

    def _create(self, submission: Submission) -> Awaitable[object]:
        arguments, model = dict(submission.arguments), submission.endpoint
        callback: Predictions.CreatePredictionParams = {}
        if submission.webhook_url is not None:
            callback = {"webhook": submission.webhook_url, "webhook_events_filter": ["start", "completed"]}
        if ":" in model:
            return self._client.predictions.async_create(version=model.partition(":")[2], input=arguments, **callback)
        return self._client.models.predictions.async_create(model=model, input=arguments, **callback)

    async def _stages(self, part: Slice, path: str | None) -> StagePage | NoAnswer:
        call = self._client.predictions.async_list(path or first_stages(part))
        return read_stages(await exchange(call, ASK_TIMEOUT_S))

    async def _page(self, first: str, path: str | None) -> Page | NoAnswer:
        return read_page(await exchange(self._client.predictions.async_list(path or first), ASK_TIMEOUT_S))


@asynccontextmanager
async def replicate_provider(
    token: str, *, base_url: str = REPLICATE_URL, submit_timeout_s: float = 30.0
) -> AsyncIterator[ReplicateProvider]:
    """The provider port for Replicate, for one event loop; its connections are closed at the end of the block.

    `base_url` is without `/v1`. Raises ValueError if the token is malformed.
    """
    async with replicate_client(checked_key(token), base_url, submit_timeout_s, ASK_TIMEOUT_S) as client:
        yield ReplicateProvider(client, submit_timeout_s)


def _create_path(model: str) -> str:
    return "/v1/predictions" if ":" in model else f"/v1/models/{model}/predictions"


def _unsendable(submission: Submission) -> Failure | None:
    if not is_sendable(submission.arguments):
        return Failure(FailureKind.INVALID_INPUT, "the arguments contain a value that JSON does not support")
    if not _ENDPOINT.fullmatch(submission.endpoint):
        return Failure(FailureKind.MODEL_NOT_FOUND, f"not a model of Replicate: {submission.endpoint[:200]!r}")
    return None
