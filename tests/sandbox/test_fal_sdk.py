"""The unmodified fal-client against the sandbox."""

from typing import Any

HEAD = "import fal_client, json, time\nfrom fal_client.client import FalClientHTTPError\n"


def test_submit_status_and_result(box: Any) -> None:
    box.settings(queue_s=3600, run_s=3600)
    seen = box.sdk(
        HEAD
        + """
import httpx, os
began = time.time()
handle = fal_client.submit("fal-ai/stable-audio-25/text-to-audio", {"prompt": "Warm ambient pad", "seconds_total": 20})
kinds = []
while "Completed" not in kinds:
    status = handle.status(with_logs=True)
    if (kind := type(status).__name__) not in kinds:
        kinds.append(kind)
        if kind == "InProgress":
            time.sleep(0.25)  # the run
        httpx.post(os.environ["CONTROL_URL"] + "/jobs/step", timeout=None).raise_for_status()
took = time.time() - began
again = fal_client.SyncClient().get_handle("fal-ai/stable-audio-25/text-to-audio", handle.request_id)
print(json.dumps({"kinds": kinds, "result": handle.get(), "again": again.get(), "inference": status.metrics,
    "at_most": took}))
"""
    )
    assert seen["kinds"] == ["Queued", "InProgress", "Completed"]
    assert seen["result"] == seen["again"]
    audio = seen["result"]["audio"]
    assert audio["content_type"] == "audio/wav"
    assert audio["file_size"] == len(box.fal.get(audio["url"]).content)
    assert 0.25 < seen["inference"]["inference_time"] < seen["at_most"]
    assert box.totals("fal") == {"posts": 1, "accepted": 1, "refused": 0, "open": 0, "billed_usd": 0.2}


def test_async_subscribe_direct_run_and_event_stream(box: Any) -> None:
    seen = box.sdk(
        HEAD
        + """
import asyncio
async def main():
    client = fal_client.AsyncClient()
    subscribed = await client.subscribe("fal-ai/lyria2", {"prompt": "Rain"}, interval=0.05)
    ran = await client.run("fal-ai/lyria2", {"prompt": "Rain"})
    print(json.dumps([subscribed, ran]))
asyncio.run(main())
"""
    )
    assert seen[0] == seen[1]
    assert seen[0]["audio"]["url"].startswith("https://localhost:")
    box.settings(queue_s=3600)
    submitted = box.fal_submit().json()
    states = []
    with box.fal.stream("GET", submitted["status_url"] + "/stream") as stream:
        for line in filter(None, stream.iter_lines()):
            states.append(line.split('"status": "')[1].split('"')[0])
            if len(states) == 1:
                box.step()
    assert states[0] == "IN_QUEUE"
    assert states[-1] == "COMPLETED"


def test_cancel_in_each_state(box: Any) -> None:
    box.fault("fal", times=1, stuck_queue=True)
    box.fault("fal", times=1, queue_s=0, never_finish=True)
    seen = box.sdk(
        HEAD
        + """
def outcome(call):
    try:
        return call()
    except FalClientHTTPError as error:
        return [error.status_code, error.error_type]
def reach(handle, kind):
    while not isinstance(handle.status(), kind):
        time.sleep(0.02)
submit = lambda: fal_client.submit("fal-ai/lyria2", {"prompt": "Rain"})
queued, running, done = submit(), submit(), submit()
reach(running, fal_client.InProgress)
reach(done, fal_client.Completed)
result = lambda h: lambda: h.client.get(h.response_url).status_code
print(json.dumps({
    "queued": outcome(queued.cancel), "then": outcome(queued.status),
    "running": outcome(running.cancel), "result": outcome(running.get), "done": outcome(done.cancel),
}))
"""
    )
    assert seen == {
        "queued": None,
        "then": [404, None],
        "running": None,
        "result": [499, "client_cancelled"],
        "done": [400, None],
    }
    endings = [(e["event"], e["billed_usd"]) for e in box.bills()["entries"] if e["event"] != "post"]
    assert sorted(endings) == [("cancelled", 0.0), ("cancelled", 0.0), ("finished", 0.1)]


def test_the_sdk_pays_twice_when_the_answer_is_lost(box: Any) -> None:
    box.fault("fal", times=1, prompt="drop", accept_then="drop")
    box.fault("fal", times=1, prompt="proxy", accept_then="502")
    box.fault("fal", times=1, prompt="refused", refuse="nginx_502")
    box.fault("fal", times=1, prompt="limited", refuse="rate_limited")
    prompts = ["drop", "proxy", "refused", "limited", "plain"]
    box.sdk(HEAD + f'for p in {prompts}:\n    fal_client.submit("fal-ai/lyria2", {{"prompt": p}})\nprint("null")')
    posts = [entry for entry in box.bills()["entries"] if entry["event"] == "post"]
    accepted = {p: [e["accepted"] for e in posts if e["input"]["prompt"] == p] for p in prompts}
    assert accepted == {
        "drop": [True, True],
        "proxy": [True, True],
        "refused": [False, True],
        "limited": [False, True],
        "plain": [True],
    }


def test_refusals_and_failures_reach_the_sdk(box: Any) -> None:
    for preset in ("balance", "unauthorized", "internal_500", "html_5xx"):
        box.fault("fal", times=1, refuse=preset)
    box.fault("fal", times=1, fail="internal_500")
    box.fault("fal", times=1, fail={"status": 422, "body": {"detail": [{"type": "no_media_generated"}]}})
    seen = box.sdk(
        HEAD
        + """
seen = []
for _ in range(7):
    try:
        seen.append(fal_client.submit("fal-ai/lyria2", {"prompt": "Rain"}).get())
    except FalClientHTTPError as error:
        named = "x-fal-request-id" in error.response_headers
        seen.append([error.status_code, str(error.message)[:30], error.error_type, named])
print(json.dumps(seen))
"""
    )
    assert seen[0] == [403, "User is locked. Reason: Exhaus", None, True]
    assert seen[1][0] == 401
    assert seen[2] == [500, "Internal Server Error", "internal_error", True]
    assert seen[3][0] == 520
    assert seen[3][3] is False
    assert seen[4] == [500, "Internal Server Error", "internal_error", True]
    assert seen[5][:2] == [422, "[{'type': 'no_media_generated'"]
    assert "audio" in seen[6]
    assert box.totals("fal") == {"posts": 7, "accepted": 3, "refused": 4, "open": 0, "billed_usd": 0.1}


def test_start_deadline_is_a_free_504(box: Any) -> None:
    box.fault("fal", times=1, stuck_queue=True)
    seen = box.sdk(
        HEAD
        + """
handle = fal_client.submit("fal-ai/lyria2", {"prompt": "Rain"}, start_timeout=1.1)
try:
    handle.get()
except FalClientHTTPError as error:
    print(json.dumps([error.status_code, error.error_type, error.response_headers["x-fal-request-timeout-type"]]))
"""
    )
    assert seen == [504, "request_timeout", "user"]
    assert box.totals("fal")["billed_usd"] == 0
