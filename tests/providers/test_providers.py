"""The behaviour of every provider's adapter, with its unmodified SDK, at the sandbox; a third is one more subclass."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from tests.patience import patient

from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CancelPending,
    Found,
    KeyAccepted,
    KeyRefused,
    Missing,
    NoAnswer,
    NotFound,
    NotSent,
    Produced,
    Refused,
    Running,
    Stopped,
    Throttled,
    Unclear,
    Waiting,
)
from adapter_kit.port.provider import ListedRun, LostSubmission, Run
from contracts.failures import FailureKind
from contracts.ids import AttemptId

ENDED = (Produced, Broken, Stopped, Missing)


def run_of(kind: Any, accepted: Any, modality: Any = "music") -> Run:
    assert isinstance(accepted, Accepted), accepted
    return Run(AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1"), kind.endpoint, modality, accepted.ref)


def lost_of(kind: Any, **changes: Any) -> LostSubmission:
    asked = kind.submission()
    lost = LostSubmission(asked.attempt_id, asked.endpoint, asked.arguments, datetime.now(UTC))
    return replace(lost, **changes)


def listed(run: Run) -> ListedRun:
    return ListedRun(run.ref.request_id, datetime.now(UTC))


class ProviderSuite:
    """The behaviour that the attempt machine relies on. A subclass contains the differences of its provider."""

    pictures: ClassVar[tuple[str, dict[str, Any]]]
    failure: ClassVar[dict[str, Any]]
    """How an accepted run fails by its model's fault."""

    lists_runs: ClassVar[bool]
    """The listing shows runs that have not ended."""

    async def test_the_listing_says_how_runs_stand(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        box.settings(queue_s=600, run_s=600)
        async with at_sandbox(kind) as provider:
            first = run_of(kind, await provider.submit(kind.submission()))
            box.step()
            second = run_of(kind, await provider.submit(kind.submission()))
            runs = [listed(first), listed(second), ListedRun("unknown", datetime.now(UTC))]
            ids = first.ref.request_id, second.ref.request_id
            expected = dict(zip(ids, ("running", "queued"), strict=True)) if self.lists_runs else {}
            assert await provider.stages(runs) == expected
            box.step()
            await until(lambda: provider.check(first), Produced)
            ended = dict(zip(ids, ("ended", "running"), strict=True)) if self.lists_runs else {}
            assert await provider.stages(runs) == ended

    async def test_a_listing_that_fails_says_nothing(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, on="list", refuse="internal_500")
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            assert await provider.stages([listed(run)]) == {}

    async def test_a_run_waits_runs_and_produces(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        box.settings(queue_s=600, run_s=600)
        async with at_sandbox(kind) as provider:
            assert provider.name == kind.name
            run = run_of(kind, await provider.submit(kind.submission()))
            assert isinstance(await provider.check(run), Waiting)
            box.step()
            assert isinstance(await until(lambda: provider.check(run), (Running, *ENDED)), Running)
            box.step()
            produced = await until(lambda: provider.check(run), ENDED)
        assert isinstance(produced, Produced)
        assert len(produced.outputs) == 1
        assert produced.outputs[0].url.startswith("https://localhost:")
        assert [post["attempt_id"] for post in box.accepted(kind)] == self.attempt_ids_sent()

    def attempt_ids_sent(self) -> list[str | None]:
        """The attempt ids that the provider receives without a webhook."""
        return [None]

    async def test_images_are_outputs_in_order(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        endpoint, arguments = self.pictures
        async with at_sandbox(kind) as provider:
            accepted = await provider.submit(kind.submission(endpoint=endpoint, arguments=arguments))
            run = replace(run_of(kind, accepted, "image"), endpoint=endpoint)
            produced = await until(lambda: provider.check(run), ENDED)
        assert isinstance(produced, Produced)
        assert len({output.url for output in produced.outputs}) == len(produced.outputs) == 2

    async def test_a_failed_run_has_a_reason(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        box.fault(kind, fail=self.failure)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            broken = await until(lambda: provider.check(run), ENDED)
        assert isinstance(broken, Broken)
        assert broken.failure.kind is FailureKind.MODEL_ERROR
        assert "it fell over" in broken.failure.message

    async def test_a_content_policy_violation_is_shown_on_the_run(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, fail="content_policy")
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            broken = await until(lambda: provider.check(run), ENDED)
        assert isinstance(broken, Broken)
        assert broken.failure.kind is FailureKind.CONTENT_POLICY

    @pytest.mark.parametrize(
        ("refusal", "expected"),
        [
            ("unauthorized", FailureKind.UNAUTHORIZED),
            ("forbidden", FailureKind.FORBIDDEN),
            ("balance", FailureKind.INSUFFICIENT_BALANCE),
            ("not_found", FailureKind.MODEL_NOT_FOUND),
            ("validation", FailureKind.INVALID_INPUT),
            ("content_policy", FailureKind.CONTENT_POLICY),
        ],
    )
    async def test_a_refusal_is_final_and_free(
        self, kind: Any, box: Any, at_sandbox: Any, refusal: str, expected: FailureKind
    ) -> None:
        box.fault(kind, refuse=refusal)
        async with at_sandbox(kind) as provider:
            outcome = await provider.submit(kind.submission())
        assert isinstance(outcome, Refused)
        assert outcome.failure.kind is expected
        assert [post["accepted"] for post in box.posts(kind)] == [False]

    async def test_throttling_delays(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, times=1, refuse="rate_limited")
        async with at_sandbox(kind) as provider:
            throttled = await provider.submit(kind.submission())
            assert isinstance(throttled, Throttled)
            assert throttled.retry_after_s == 2
            assert isinstance(await provider.submit(kind.submission()), Accepted)
        assert [post["accepted"] for post in box.posts(kind)] == [False, True]

    @pytest.mark.parametrize("then", ["drop", "502", "malformed_json"])
    async def test_a_lost_answer_is_unclear_and_billed_once(
        self, kind: Any, box: Any, at_sandbox: Any, then: str
    ) -> None:
        box.fault(kind, accept_then=then)
        async with at_sandbox(kind) as provider:
            assert isinstance(await provider.submit(kind.submission()), Unclear)
        assert len(box.accepted(kind)) == len(box.posts(kind)) == 1

    async def test_a_submit_without_an_answer_is_unclear_in_time(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, accept_then="hang")
        async with at_sandbox(kind, submit_timeout_s=patient(0.5)) as provider:
            assert isinstance(await provider.submit(kind.submission()), Unclear)
        assert len(box.accepted(kind)) == len(box.posts(kind)) == 1

    async def test_a_lost_submit_is_found_in_the_listing(
        self, kind: Any, box: Any, at_sandbox: Any, find: Any, until: Any
    ) -> None:
        box.fault(kind, accept_then="drop", times=1)
        lost = lost_of(kind)
        async with at_sandbox(kind) as provider:
            assert isinstance(await provider.submit(kind.submission()), Unclear)
            found = await until(lambda: find(provider, lost), Found)
            [accepted] = box.accepted(kind)
            assert found.ref.request_id == accepted["request_id"]
            run = run_of(kind, Accepted(found.ref))
            assert isinstance(await until(lambda: provider.check(run), ENDED), Produced)
            other = replace(lost, arguments={"prompt": "Something else"})
            later = replace(lost, submitted_at=datetime.now(UTC) + timedelta(minutes=20))
            absent = NotFound(conclusive=self.listing_is_complete())
            for missed in (other, later):
                assert await find(provider, missed) == absent
            assert await find(provider, lost, frozenset({found.ref.request_id})) == absent

    def listing_is_complete(self) -> bool:
        """Whether absence from the listing proves that a submit was never accepted."""
        return False

    async def test_equal_submits_are_found_one_after_the_other(
        self, kind: Any, box: Any, at_sandbox: Any, find: Any, until: Any
    ) -> None:
        lost = lost_of(kind)
        async with at_sandbox(kind) as provider:
            first, second = [run_of(kind, await provider.submit(kind.submission())) for _ in range(2)]
            for run in (first, second):
                await until(lambda run=run: provider.check(run), ENDED)
            assert (await find(provider, lost)).ref.request_id == first.ref.request_id
            rest = await find(provider, lost, frozenset({first.ref.request_id}))
            assert rest.ref.request_id == second.ref.request_id
            missed = [lost, *(replace(lost, attempt_id=AttemptId(f"{one}.1")) for one in "ab")]
            outcomes = list((await provider.find(missed, frozenset(), datetime.now(UTC))).values())
            assert [outcome.ref.request_id for outcome in outcomes[:2]] == [first.ref.request_id, second.ref.request_id]
            assert outcomes[2] == NotFound(conclusive=self.listing_is_complete())

    async def test_a_waiting_run_is_cancelled_free_of_charge(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, stuck_queue=True)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            assert await provider.cancel(run) == Stopped(may_have_cost=False)
            assert isinstance(await provider.check(run), (Stopped, Missing))

    async def test_a_started_run_that_is_cancelled_may_cost(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, queue_s=0, never_finish=True)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            await until(lambda: provider.check(run), Running)
            assert isinstance(await provider.cancel(run), (CancelPending, Stopped))
            assert await until(lambda: provider.check(run), ENDED) == Stopped(may_have_cost=True)

    async def test_a_cancel_that_is_not_honoured_is_pending(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, cancel="ignored", queue_s=0, run_s=600)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            assert isinstance(await provider.cancel(run), CancelPending)
            box.step()
            assert isinstance(await until(lambda: provider.check(run), ENDED), Produced)

    async def test_a_cancel_may_be_too_late(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            await until(lambda: provider.check(run), Produced)
            assert isinstance(await provider.cancel(run), AlreadyOver)

    async def test_a_run_continues_with_a_new_client(self, kind: Any, box: Any, at_sandbox: Any, until: Any) -> None:
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
        async with at_sandbox(kind) as provider:
            assert isinstance(await until(lambda: provider.check(run), ENDED), Produced)
        assert len(box.posts(kind)) == 1

    async def test_an_unknown_run_is_missing(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            gone = replace(run, ref=replace(run.ref, request_id="0123abcd", urls={}))
            assert isinstance(await provider.check(gone), Missing)
            assert isinstance(await provider.cancel(gone), Missing)

    async def test_a_run_whose_output_is_gone_has_not_produced(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, result_404=True)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            gone = await until(lambda: provider.check(run), ENDED)
        assert isinstance(gone, Missing) or gone.failure.kind is FailureKind.OUTPUT_LOST

    async def test_an_unknown_status_is_no_answer(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, unknown_status="REVIEWING")
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            answer = await provider.check(run)
        assert isinstance(answer, NoAnswer)
        assert "REVIEWING" in answer.reason

    async def test_a_good_key_is_accepted_and_costs_nothing(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        async with at_sandbox(kind) as provider:
            assert await provider.probe(kind.endpoint) == KeyAccepted()
        assert box.posts(kind) == []

    async def test_a_bad_key_is_refused(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.settings(bad_keys=[kind.key])
        async with at_sandbox(kind) as provider:
            refused = await provider.probe(kind.endpoint)
        assert isinstance(refused, KeyRefused)
        assert refused.failure.kind is FailureKind.UNAUTHORIZED

    async def test_a_probe_of_a_failing_provider_is_no_answer(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, on="probe", refuse="html_5xx")
        async with at_sandbox(kind) as provider:
            assert isinstance(await provider.probe(kind.endpoint), NoAnswer)

    async def test_a_closed_provider_sends_nothing(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        async with at_sandbox(kind) as provider:
            pass
        assert isinstance(await provider.submit(kind.submission()), (NotSent, Unclear))
        assert box.posts(kind) == []


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
class TestFal(ProviderSuite):
    lists_runs = False
    pictures = ("fal-ai/flux/schnell", {"prompt": "A heron", "num_images": 2})
    failure: ClassVar[dict[str, Any]] = {
        "status": 500,
        "body": {"detail": [{"loc": ["body"], "msg": "it fell over", "type": "internal_server_error"}]},
    }

    def attempt_ids_sent(self) -> list[str | None]:
        """The attempt id is a tag of the request."""
        return ["6f1c4a3e-0000-4000-8000-000000000001.1"]

    async def test_a_start_deadline_ends_a_stuck_run_free_of_charge(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, stuck_queue=True)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission(start_within_s=0.5)))
            broken = await until(lambda: provider.check(run), ENDED)
        assert isinstance(broken, Broken)
        assert broken.failure.kind is FailureKind.START_TIMEOUT
        assert not broken.may_have_cost

    async def test_the_queue_position_is_reported(self, kind: Any, box: Any, at_sandbox: Any) -> None:
        box.fault(kind, stuck_queue=True, queue_position=7)
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            assert await provider.check(run) == Waiting(7)


@pytest.mark.parametrize("kind", ["replicate"], indirect=True)
class TestReplicate(ProviderSuite):
    lists_runs = True
    pictures = ("black-forest-labs/flux-schnell", {"prompt": "A heron", "num_outputs": 2})
    failure: ClassVar[dict[str, Any]] = {"error": "it fell over"}

    def listing_is_complete(self) -> bool:
        """Replicate lists a prediction as soon as it exists."""
        return True

    async def test_an_aborted_run_is_stopped_and_free_of_charge(
        self, kind: Any, box: Any, at_sandbox: Any, until: Any
    ) -> None:
        box.fault(kind, end_as="aborted")
        async with at_sandbox(kind) as provider:
            run = run_of(kind, await provider.submit(kind.submission()))
            assert await until(lambda: provider.check(run), ENDED) == Stopped(may_have_cost=False)

    async def test_a_long_listing_is_read_to_its_end(self, kind: Any, box: Any, at_sandbox: Any, find: Any) -> None:
        lost = lost_of(kind, arguments={"prompt": "The first of many"})
        async with at_sandbox(kind) as provider:
            first = run_of(kind, await provider.submit(kind.submission(arguments=lost.arguments)))
            for _ in range(101):
                await provider.submit(kind.submission())
            assert (await find(provider, lost)).ref.request_id == first.ref.request_id

    async def test_a_community_model_runs_by_its_version(
        self, kind: Any, box: Any, at_sandbox: Any, find: Any, until: Any
    ) -> None:
        endpoint = "meta/musicgen:671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
        async with at_sandbox(kind) as provider:
            accepted = await provider.submit(kind.submission(endpoint=endpoint))
            produced = await until(lambda: provider.check(run_of(kind, accepted)), ENDED)
            found = await find(provider, replace(lost_of(kind), endpoint=endpoint))
        assert isinstance(produced, Produced)
        assert found == Found(accepted.ref, conclusive=self.listing_is_complete())
