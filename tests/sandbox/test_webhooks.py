"""Webhooks carry valid signatures, by the algorithms that the providers document, unless a fault changes them."""

import base64
import hashlib
import json
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret


def submit(box: Any, receiver: Any) -> str:
    address = quote(f"{receiver.url}/api/callbacks/fal/j.1/mac", safe="")
    accepted = box.fal.post(f"/fal-ai/lyria2?fal_webhook={address}", json={"prompt": "Rain"}).json()
    return str(accepted["request_id"])


def create(box: Any, receiver: Any, **body: Any) -> str:
    return str(box.predict(webhook=f"{receiver.url}/api/callbacks/replicate/j.2/mac", **body).json()["id"])


def verify_fal(box: Any, delivery: Any) -> None:
    headers = delivery.headers
    names = ("request-id", "user-id", "timestamp", "signature")
    request_id, user_id, timestamp, signature = (headers[f"x-fal-webhook-{name}"] for name in names)
    assert abs(time.time() - int(timestamp)) < 300
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(delivery.body).hexdigest()]).encode()
    error = InvalidSignature()
    for key in box.fal.get("/.well-known/jwks.json").json()["keys"]:
        x = key["x"]
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
        try:
            return public.verify(bytes.fromhex(signature), message)
        except InvalidSignature as caught:
            error = caught
    raise error


def verify_replicate(box: Any, delivery: Any) -> None:
    secret = WebhookSigningSecret(key=box.replicate.get("/v1/webhooks/default/secret").json()["key"])
    Webhooks.validate(headers=delivery.headers, body=delivery.body.decode(), secret=secret, tolerance=300)


def test_fal_signs_what_it_sends(box: Any, receiver: Any) -> None:
    request_id = submit(box, receiver)
    delivery = receiver.next()
    verify_fal(box, delivery)
    document = json.loads(delivery.body)
    assert (document["request_id"], document["status"], delivery.path) == (
        request_id,
        "OK",
        "/api/callbacks/fal/j.1/mac",
    )
    assert document["payload"] == box.fal.get(f"/fal-ai/lyria2/requests/{request_id}").json()
    assert box.bills()["entries"][0]["attempt_id"] == "j.1"
    box.control.post("/keys/rotate").raise_for_status()
    submit(box, receiver)
    verify_fal(box, receiver.next())


def test_fal_reports_failure_and_null(box: Any, receiver: Any) -> None:
    box.fault("fal", times=1, fail="content_policy")
    box.fault("fal", times=1, webhook=["null"])
    submit(box, receiver)
    failed = json.loads(receiver.next().body)
    assert (failed["status"], failed["error"]) == ("ERROR", "Invalid status code: 422")
    assert failed["payload"]["detail"][0]["type"] == "content_policy_violation"
    submit(box, receiver)
    empty = json.loads(receiver.next().body)
    assert (empty["status"], empty["payload"]) == ("OK", None)
    assert empty["payload_error"]


def test_replicate_signs_each_event_and_filters(box: Any, receiver: Any) -> None:
    create(box, receiver)
    every = [receiver.next() for _ in range(4)]
    for delivery in every:
        verify_replicate(box, delivery)
    statuses = [json.loads(delivery.body)["status"] for delivery in every]
    assert statuses[0] == "processing"
    assert statuses[3] == "succeeded"
    made = create(box, receiver, webhook_events_filter=["completed"])
    only = receiver.next()
    box.until(lambda: box.totals("replicate")["open"] == 0)
    assert json.loads(only.body)["id"] == made
    assert receiver.got.empty()


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_a_failed_delivery_is_repeated_with_the_same_id(box: Any, receiver: Any, provider: str) -> None:
    receiver.answers = [500]
    header = "x-fal-webhook-request-id" if provider == "fal" else "webhook-id"
    if provider == "fal":
        submit(box, receiver)
    else:
        create(box, receiver, webhook_events_filter=["completed"])
    first, second = receiver.next(), receiver.next()
    assert first.headers[header] == second.headers[header]
    assert first.body == second.body


def test_a_reset_ends_repeats_and_nothing_else(box: Any, receiver: Any) -> None:
    receiver.answers = [500]
    submit(box, receiver)
    receiver.next()
    box.control.delete("/jobs").raise_for_status()
    kept = submit(box, receiver)
    assert json.loads(receiver.next().body)["request_id"] == kept


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_wrong_webhooks(box: Any, receiver: Any, provider: str) -> None:
    send = submit if provider == "fal" else lambda b, r: create(b, r, webhook_events_filter=["completed"])
    verify = verify_fal if provider == "fal" else verify_replicate
    box.fault(provider, times=1, webhook=["duplicate"])
    send(box, receiver)
    assert receiver.next().body == receiver.next().body
    box.fault(provider, times=1, webhook=["forged"])
    send(box, receiver)
    with pytest.raises((InvalidSignature, InvalidSignatureError)):
        verify(box, receiver.next())
    box.fault(provider, times=1, webhook=["stale"])
    send(box, receiver)
    with pytest.raises((AssertionError, ValueError)):
        verify(box, receiver.next())
    box.fault(provider, times=1, webhook=["oversize"])
    send(box, receiver)
    large = receiver.next()
    verify(box, large)
    assert len(large.body) > 3_000_000


def test_late_and_never(box: Any, receiver: Any) -> None:
    box.fault("fal", times=1, webhook=["late"])
    box.fault("fal", times=1, webhook=["never"])
    late, never = submit(box, receiver), submit(box, receiver)
    delivery = receiver.next()
    assert json.loads(delivery.body)["request_id"] == late != never
    [ended] = [job["ended_at"] for job in box.control.get("/jobs").json() if job["id"] == late]
    assert delivery.at - datetime.fromisoformat(ended).timestamp() >= 0.29
    box.until(lambda: box.totals("fal")["open"] == 0)
    # A webhook without the fault would have arrived before the late one.
    assert receiver.got.empty()
