"""Each fault as HTTP clients see it, and its bills."""

from base64 import b64encode
from typing import Any

import httpx
import pytest
from tests.patience import patient


def test_rules_match_once_by_provider_endpoint_and_prompt(box: Any) -> None:
    rule = {"provider": "fal", "endpoint": "fal-ai/lyria2", "prompt_contains": "rain", "times": 1}
    rules = [rule | {"action": {"refuse": {"status": 418, "body": {"detail": "no"}, "headers": {"x-why": "tea"}}}}]
    box.control.put("/faults", json=rules).raise_for_status()
    assert box.fal_submit().status_code == 200
    assert box.fal_submit("fal-ai/stable-audio-25/text-to-audio", prompt="soft rain").status_code == 200
    refused = box.fal_submit(prompt="soft rain")
    assert (refused.status_code, refused.json(), refused.headers["x-why"]) == (418, {"detail": "no"}, "tea")
    assert box.fal_submit(prompt="soft rain").status_code == 200
    assert box.control.get("/faults").json() == []


def test_a_rule_with_an_unknown_name_is_refused(box: Any) -> None:
    rules = [
        [{"provider": "fal", "action": {"refuse": "no_such"}}],
        [{"provider": "fal", "action": {"refuses": "balance"}}],
        [{"provider": "replicate", "action": {"fail": "drop"}}],
    ]
    assert [box.control.put("/faults", json=each).status_code for each in rules] == [422, 422, 422]


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_a_submit_is_accepted_and_its_answer_is_lost(box: Any, provider: str) -> None:
    submit = box.fal_submit if provider == "fal" else box.predict
    box.fault(provider, times=1, accept_then="drop")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        submit()
    box.fault(provider, times=1, accept_then="502")
    answer = submit()
    assert answer.status_code == 502
    assert "x-fal-request-id" not in answer.headers
    box.fault(provider, times=1, accept_then="malformed_json")
    with pytest.raises(ValueError, match="Unterminated"):
        submit().json()
    box.until(lambda: box.totals(provider)["open"] == 0)
    totals = box.totals(provider)
    assert (totals["posts"], totals["accepted"]) == (3, 3)
    assert totals["billed_usd"] > 0


@pytest.mark.parametrize(
    ("fault", "accepted"), [({"accept_then": "hang"}, 1), ({"refuse": "hang"}, 0), ({"delay_s": 5}, 1)]
)
def test_a_submit_is_not_answered_in_time(box: Any, fault: dict[str, Any], accepted: int) -> None:
    box.fault("replicate", times=1, **fault)
    asked = {"input": {"prompt": "Rain"}}
    with pytest.raises(httpx.ReadTimeout):
        box.replicate.post("/v1/models/google/lyria-2/predictions", json=asked, timeout=patient(0.2))
    box.until(lambda: box.totals("replicate")["posts"])
    totals = box.totals("replicate")
    assert (totals["posts"], totals["accepted"]) == (1, accepted)


def test_a_submit_is_refused_without_an_answer(box: Any) -> None:
    box.fault("fal", times=1, refuse="drop")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        box.fal_submit()
    assert [(e["accepted"], e["status"]) for e in box.bills()["entries"]] == [(False, None)]


def test_faults_of_reads_end_after_their_number_of_times(box: Any) -> None:
    submitted = box.fal_submit()
    box.fault("fal", on="status", times=2, refuse="internal_500")
    codes = [box.fal.get(submitted.json()["status_url"]).status_code for _ in range(3)]
    assert codes[:2] == [500, 500]
    assert codes[2] in (200, 202)
    created = box.predict()
    box.fault("replicate", on="status", times=1, refuse="malformed_json")
    with pytest.raises(ValueError, match="Unterminated"):
        box.replicate.get(created.json()["urls"]["get"]).json()
    box.fault("fal", on="probe", times=1, refuse="unauthorized")
    assert [box.fal.get("/v1/models/pricing").status_code for _ in range(2)] == [401, 200]
    box.fault("replicate", on="list", times=1, refuse="html_5xx")
    assert [box.replicate.get("/v1/predictions").status_code for _ in range(2)] == [520, 200]


def test_queue_position_and_unknown_status(box: Any) -> None:
    box.fault("fal", times=1, stuck_queue=True, queue_position=17)
    stuck = box.fal_submit().json()
    assert box.fal.get(stuck["status_url"]).json()["queue_position"] == 17
    box.fault("fal", times=1, unknown_status="PAUSED")
    assert box.fal.get(box.fal_submit().json()["status_url"]).json()["status"] == "PAUSED"
    box.fault("replicate", times=1, unknown_status="paused")
    assert box.predict().json()["status"] == "paused"


def test_a_result_is_gone_or_expired(box: Any) -> None:
    box.fault("fal", times=1, result_404=True)
    box.fault("replicate", times=1, result_404=True)
    submitted, created = box.fal_submit(), box.predict()
    box.fal_complete(submitted)
    assert box.fal.get(submitted.json()["response_url"]).status_code == 404
    ended = box.prediction_ended(created)
    assert (ended["status"], ended["output"], ended["data_removed"]) == ("succeeded", None, True)
    box.settings(queue_s=3600)
    kept = box.fal_submit()
    assert box.fal.get(kept.json()["response_url"]).status_code == 400
    box.step()
    box.fal_complete(kept)
    assert box.fal.get(kept.json()["response_url"]).status_code == 200
    box.settings(fal_retention_s=0)
    assert box.fal.get(kept.json()["response_url"]).json() == {"status": "NOT_FOUND"}


def test_cancellation_that_is_ignored_still_costs(box: Any) -> None:
    box.fault("fal", times=1, cancel="ignored")
    submitted = box.fal_submit().json()
    answer = box.fal.put(submitted["cancel_url"])
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    box.until(lambda: box.totals("fal")["billed_usd"] == 0.1)


@pytest.mark.parametrize("status", ["aborted", "canceled"])
def test_ended_by_replicate_itself(box: Any, status: str) -> None:
    box.fault("replicate", times=1, end_as=status)
    ended = box.prediction_ended(box.predict())
    assert ended["status"] == status
    assert (ended["started_at"] is None) == (status == "aborted")


def test_broken_files(box: Any) -> None:
    for fault in ("gone", "html", "broken"):
        box.fault("replicate", times=1, files=fault)
    gone, page, broken = (box.prediction_ended(box.predict())["output"] for _ in range(3))
    assert box.fal.get(gone).status_code == 404
    assert box.fal.get(page).headers["content-type"].startswith("text/html")
    with pytest.raises(httpx.RemoteProtocolError):
        box.fal.get(broken)
    rest = box.fal.get(broken.replace("/broken/", "/ok/"), headers={"Range": "bytes=1000-"})
    assert rest.status_code == 206


def test_the_concurrency_limit_queues_runs_and_the_direct_api_refuses(box: Any) -> None:
    box.settings(fal_concurrency=1, queue_s=0, run_s=3600)
    jobs = [box.fal_submit() for _ in range(3)]
    waiting = box.fal.get(jobs[2].json()["status_url"]).json()
    assert (waiting["status"], waiting["queue_position"]) == ("IN_QUEUE", 1)
    direct = box.fal.post(f"https://{box.addresses['fal_run_host']}/fal-ai/lyria2", json={"prompt": "Rain"})
    assert (direct.status_code, direct.headers["x-fal-needs-retry"]) == (429, "1")
    limited = box.fal.post("/fal-ai/lyria2?fal_max_queue_length=1", json={"prompt": "Rain"})
    assert limited.status_code == 429
    box.settings(fal_concurrency=None)
    box.until(lambda: {job["status"] for job in box.control.get("/jobs").json()} == {"running"})
    box.step()
    for job in jobs:
        box.fal_complete(job)


def test_low_credit_throttles_replicate(box: Any) -> None:
    box.settings(replicate_per_minute=6)
    first, second = box.predict(), box.predict()
    assert (first.status_code, second.status_code) == (201, 429)
    assert 1 <= int(second.headers["retry-after"]) <= 10
    assert f"resets in ~{second.headers['retry-after']}s." in second.json()["detail"]


def test_a_run_is_unknown_at_first_and_its_output_is_empty_at_first(box: Any) -> None:
    box.fault("fal", unknown_first=2, empty_first=1)
    queued = box.fal_submit().json()
    assert [box.fal.get(queued["status_url"]).status_code for _ in range(2)] == [404, 404]
    box.until(lambda: box.fal.get(queued["status_url"]).json()["status"] == "COMPLETED")
    assert box.fal.get(queued["response_url"]).json()["audio"] is None
    assert box.fal.get(queued["response_url"]).json()["audio"]["url"]
    box.fault("replicate", unknown_first=1, empty_first=1)
    url = box.predict().json()["urls"]["get"]
    assert box.replicate.get(url).status_code == 404
    done = box.until(lambda: (d := box.replicate.get(url).json())["completed_at"] and d)
    assert (done["status"], done["output"], done["data_removed"]) == ("succeeded", None, False)
    assert box.replicate.get(url).json()["output"]


def test_a_rule_sets_the_result_and_the_length_of_the_logs(box: Any) -> None:
    box.fault("replicate", result={"song": ["{url}", 1]}, logs_bytes=100_000)
    done = box.prediction_ended(box.predict())
    assert done["output"]["song"][0].startswith("https://")
    assert len(done["logs"]) > 100_000


def test_a_file_is_available_later_and_in_the_given_coding(box: Any) -> None:
    content = b64encode(b"RIFF....WAVE").decode()
    file = {"not_yet": 1, "status": 202, "coding": "aws-chunked", "content": content, "headers": {"x-why": "s3"}}
    box.fault("replicate", files=file)
    url = box.prediction_ended(box.predict())["output"]
    assert box.fal.get(url).status_code == 202
    answer = box.fal.get(url)
    assert (answer.status_code, answer.headers["x-why"]) == (200, "s3")
    assert answer.content == b"c\r\nRIFF....WAVE\r\n0\r\n\r\n"


def test_a_refused_cancel_does_not_change_the_run(box: Any) -> None:
    box.fault("fal", cancel="refused", run_s=0.3)
    queued = box.fal_submit().json()
    assert box.fal.put(queued["cancel_url"]).status_code == 405
    box.fault("replicate", cancel="refused", run_s=0.3)
    created = box.predict()
    assert box.replicate.post(created.json()["urls"]["cancel"]).status_code == 409
    assert box.prediction_ended(created)["status"] == "succeeded"
