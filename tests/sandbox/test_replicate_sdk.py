"""The unmodified replicate package against the sandbox."""

from typing import Any

from tests.patience import patient

HEAD = """
import json, time, replicate
from replicate.client import Client
from replicate.exceptions import ReplicateError
client = Client()
def create(client=client, model="google/lyria-2", **more):
    return client.models.predictions.create(model, {"prompt": "Rain", "seed": 7}, **more)
def reach(prediction, status):
    while prediction.status != status:
        time.sleep(0.02)
        prediction.reload()
"""


def test_create_get_and_list(box: Any) -> None:
    seen = box.sdk(
        HEAD
        + """
stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
made = create()
first = made.status
reach(made, "succeeded")
images = client.models.predictions.create(
    "black-forest-labs/flux-schnell", {"prompt": "Sea", "num_outputs": 2}, wait=10)
newest = client.predictions.list(f"/v1/predictions?created_after={stamp}").results
ahead = client.predictions.list("/v1/predictions?created_after=2100-01-01T00:00:00Z").results
print(json.dumps({"first": first, "made": made.dict(), "again": client.predictions.get(made.id).dict(),
    "images": [images.status, images.output], "newest": [(p.id == made.id, p.input) for p in newest][:2],
    "ahead": ahead, "account": client.accounts.current().username,
    "ran": str(replicate.run("google/lyria-2", {"prompt": "Rain", "seed": 7}))}))
"""
    )
    assert seen["first"] == "starting"
    assert seen["made"] == seen["again"]
    assert seen["made"]["output"] == seen["ran"]
    assert seen["ran"].startswith("https://localhost:")
    assert seen["images"][0] == "succeeded"
    assert len(set(seen["images"][1])) == 2
    assert seen["newest"][1] == [True, {"prompt": "Rain", "seed": 7}]
    assert seen["ahead"] == []
    assert seen["account"] == "sandbox"
    assert box.totals("replicate") == {"posts": 3, "accepted": 3, "refused": 0, "open": 0, "billed_usd": 0.126}


def test_cancel_before_and_after_the_start(box: Any) -> None:
    box.fault("replicate", times=1, queue_s=0, run_s=patient(10))
    box.fault("replicate", times=2, stuck_queue=True)
    box.settings(replicate_cancel_after_min_s=0)
    seen = box.sdk(
        HEAD
        + """
import pydantic.v1
running = create()
reach(running, "processing")
running.cancel()
queued = create()
try:
    queued.cancel()
except pydantic.v1.ValidationError as error:
    aborted = "aborted" if "unexpected value" in str(error) else str(error)
expiring = create(Client(headers={"Cancel-After": "1s"}))
status = "starting"
while status == "starting":
    document = client._request("GET", f"/v1/predictions/{expiring.id}").json()
    status = document["status"]
print(json.dumps([running.status, aborted, status, document["deadline"] > document["created_at"]]))
"""
    )
    assert seen == ["canceled", "aborted", "aborted", True]
    endings = [e for e in box.bills()["entries"] if e["event"] != "post"]
    assert [e["event"] for e in endings] == ["cancelled", "aborted", "aborted"]
    assert 0 < endings[0]["billed_usd"] < 0.03
    assert endings[1]["billed_usd"] == endings[2]["billed_usd"] == 0


def test_refusals_and_failures_reach_the_sdk(box: Any) -> None:
    for preset in ("credit", "unauthorized", "rate_limited", "html_5xx"):
        box.fault("replicate", times=1, refuse=preset)
    for fail in ("content_policy", {"error": "Error starting. (E9243)", "billed": True}):
        box.fault("replicate", times=1, fail=fail)
    seen = box.sdk(
        HEAD
        + """
seen = []
for _ in range(6):
    try:
        made = create()
        reach(made, "failed")
        seen.append(made.error)
    except ReplicateError as error:
        seen.append([error.status, error.title])
print(json.dumps(seen))
"""
    )
    assert seen[:3] == [[402, "Insufficient credit"], [401, "Unauthenticated"], [429, None]]
    assert seen[3] == [520, None]
    assert "(E005)" in seen[4]
    assert "E9243" in seen[5]
    assert box.totals("replicate") == {"posts": 6, "accepted": 2, "refused": 4, "open": 0, "billed_usd": 0.06}
