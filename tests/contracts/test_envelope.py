"""Records that came from Kafka: what is read, what is passed over, what goes to the dead letters, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.builders import attempt_event, job_requested

from contracts.envelope import Envelope, Skipped, Undecodable, UnknownMajor, decode, encode
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import AttemptFailed, AttemptSucceeded
from contracts.messages.base import Message
from contracts.messages.jobs import JobCancelled, JobFailed, JobSucceeded
from contracts.messages.requests import JobRequested
from contracts.topics import MAX_MESSAGE_BYTES, MESSAGE_TYPES

JOB = job_id_for("default", "key-1")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AT = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
FAILED = attempt_event(
    AttemptFailed,
    JOB,
    1,
    2,
    AT,
    kind=FailureKind.INSUFFICIENT_BALANCE,
    message="User is locked.",
    http_status=403,
    accepted=False,
)
RECORD = encode(FAILED, source="fal-adapter", traceparent=TRACEPARENT)
BODY: dict[str, Any] = json.loads(RECORD.value)

Headers = list[tuple[str, bytes | None]]


def headers(**changes: bytes | None) -> Headers:
    return list({**dict(RECORD.headers), **changes}.items())


def without(name: str) -> Headers:
    return [(key, value) for key, value in RECORD.headers if key != name]


def body(**changes: object) -> bytes:
    return json.dumps({**BODY, **changes}).encode()


def test_an_encoded_message_is_decoded_unchanged() -> None:
    assert decode(RECORD.headers, RECORD.value) == Envelope(
        FAILED, str(FAILED.event_id), "/segue/fal-adapter", TRACEPARENT
    )


def test_a_record_is_a_cloudevent_in_binary_mode() -> None:
    assert RECORD.topic == "segue.attempts"
    assert RECORD.key == JOB.encode()
    assert dict(RECORD.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": str(FAILED.event_id).encode(),
        "ce_type": b"segue.attempt.failed.v1",
        "ce_source": b"/segue/fal-adapter",
        "ce_time": b"2026-11-22T20:15:00+00:00",
        "ce_subject": attempt_id_for(JOB, 1).encode(),
        "content-type": b"application/json",
        "traceparent": TRACEPARENT.encode(),
    }


def test_without_a_traceparent_there_is_no_header() -> None:
    record = encode(FAILED, source="fal-adapter", traceparent=None)
    assert "traceparent" not in dict(record.headers)
    decoded = decode(record.headers, record.value)
    assert isinstance(decoded, Envelope)
    assert decoded.traceparent is None


def attempts_of(kind: type[Message]) -> set[str]:
    return {name for name in kind.model_fields if name.endswith("attempt_id")}


def test_a_message_about_an_attempt_of_another_job_is_refused(example_messages: list[Message]) -> None:
    about = [message for message in example_messages if attempts_of(type(message))]
    assert {type(message) for message in about} == {kind for kind in MESSAGE_TYPES.values() if attempts_of(kind)}
    others = attempt_id_for(job_id_for("default", "other"), 1)
    for message in about:
        body = message.model_dump(mode="json")
        assert type(message).model_validate(body) == message
        for name in attempts_of(type(message)):
            with pytest.raises(ValidationError, match=f"{name} is not one of job_id's"):
                type(message).model_validate(body | {name: others})


def test_an_end_with_an_attempt_of_another_job_is_refused(example_messages: list[Message]) -> None:
    about = [message for message in example_messages if isinstance(message, JobFailed | JobCancelled)]
    with_attempts = [message for message in about if message.attempts]
    assert {type(message) for message in with_attempts} == {JobFailed, JobCancelled}
    others = attempt_id_for(job_id_for("default", "other"), 1)
    for message in with_attempts:
        body = message.model_dump(mode="json")
        assert type(message).model_validate(body) == message
        body["attempts"][-1]["attempt_id"] = others
        with pytest.raises(ValidationError, match="attempt_id is not one of job_id's"):
            type(message).model_validate(body)


@pytest.mark.parametrize(
    ("given_headers", "source", "traceparent"),
    [
        (without("ce_source"), "", TRACEPARENT),
        (headers(ce_source=None), "", TRACEPARENT),
        (headers(traceparent=None), "/segue/fal-adapter", None),
        (headers(traceparent=b"\xff\xfe"), "/segue/fal-adapter", "\ufffd\ufffd"),
        (headers(ce_source=b"a\x00b"), "a\ufffdb", TRACEPARENT),
        (headers(**{"x-other": b"\xc3\x28"}), "/segue/fal-adapter", TRACEPARENT),
        (headers(**{"x-other": None}), "/segue/fal-adapter", TRACEPARENT),
    ],
)
def test_malformed_optional_headers_are_tolerated(given_headers: Headers, source: str, traceparent: str | None) -> None:
    decoded = decode(given_headers, RECORD.value)
    assert isinstance(decoded, Envelope)
    assert (decoded.message, decoded.source, decoded.traceparent) == (FAILED, source, traceparent)


def test_headers_are_truncated_to_a_length_that_can_be_stored() -> None:
    decoded = decode(headers(ce_id=b"i" * 10_000, ce_source=b"s" * 100_000), RECORD.value)
    assert isinstance(decoded, Envelope)
    assert len(decoded.event_id) == 100
    assert len(decoded.source) == 1000


@pytest.mark.parametrize(
    ("given_headers", "value", "why"),
    [
        pytest.param(without("ce_type"), RECORD.value, "no ce_type header", id="no type"),
        pytest.param(headers(ce_type=None), RECORD.value, "no ce_type header", id="null type"),
        pytest.param(headers(ce_type=b""), RECORD.value, "no ce_type header", id="empty type"),
        pytest.param([], b"garbage", "no ce_type header", id="nothing at all"),
        pytest.param(headers(ce_type=b"\xff\xfe"), RECORD.value, "not one of Segue's", id="type not UTF-8"),
        pytest.param(headers(ce_type=b"com.example.thing"), RECORD.value, "not one of Segue's", id="foreign type"),
        pytest.param(headers(ce_type=b"segue.x.v1\n"), RECORD.value, "not one of Segue's", id="type and more"),
        pytest.param(without("ce_id"), RECORD.value, "no ce_id header", id="no id"),
        pytest.param(headers(ce_id=None), RECORD.value, "no ce_id header", id="null id"),
        pytest.param(headers(), None, "no body", id="tombstone"),
        pytest.param(headers(), b"", "Invalid JSON", id="empty body"),
        pytest.param(headers(), b"{", "Invalid JSON", id="half a body"),
        pytest.param(headers(), b"\xff\xfe\x00", "Invalid JSON", id="body not UTF-8"),
        pytest.param(headers(), b"[]", "body: ", id="a list"),
        pytest.param(headers(), b"null", "body: ", id="null"),
        pytest.param(headers(), b"[" * 20_000, "recursion limit", id="20k nesting"),
        pytest.param(headers(), b'{"message":' * 20_000, "recursion limit", id="20k nesting of objects"),
        pytest.param(headers(), b'{"message": "\\ud800"}', "Invalid JSON", id="lone surrogate"),
        pytest.param(headers(), body(message=None), "message: ", id="null for text"),
        pytest.param(headers(), body(message="x" * 2001), "message: ", id="text too long"),
        pytest.param(headers(), body(http_status="many"), "http_status: ", id="text for a number"),
        pytest.param(headers(), body(n=10_000), "n: ", id="number too big"),
        pytest.param(headers(), body(version=10**400), "version: ", id="huge whole number"),
        pytest.param(headers(), body(cost_usd=float("inf")), "cost_usd: ", id="infinity"),
        pytest.param(headers(), RECORD.value.replace(b'"n":1', b'"n":1' + b"0" * 9000), "Invalid JSON", id="endless"),
        pytest.param(headers(), RECORD.value.replace(b'"cost_usd":null', b'"cost_usd":1e999'), "cost_usd", id="1e999"),
        pytest.param(headers(), body(occurred_at="2026-11-22T20:15:00"), "occurred_at: ", id="time without a zone"),
        pytest.param(headers(), body(occurred_at=1e300), "occurred_at: ", id="time out of range"),
        pytest.param(headers(), body(occurred_at="0001-01-01T00:00:00+14:00"), "occurred_at: ", id="before all time"),
        pytest.param(headers(), body(occurred_at="9999-12-31T23:59:59Z"), "occurred_at: ", id="the end of time"),
        pytest.param(headers(), body(message="a\0b"), "contains NUL", id="NUL in a text"),
        pytest.param(headers(), body(message="x" * MAX_MESSAGE_BYTES), "at most 2097152", id="too large"),
        pytest.param(headers(), body(job_id=JOB.upper()), "job_id: ", id="job id in capitals"),
        pytest.param(headers(), body(job_id=f"{JOB}\n"), "job_id: ", id="job id and more"),
        pytest.param(headers(), body(attempt_id=f"{JOB}.0"), "attempt_id: ", id="attempt 0"),
        pytest.param(headers(), body(provider="elsewhere"), "provider: ", id="unknown provider"),
    ],
)
def test_an_undecodable_record_is_refused_with_the_reason(
    given_headers: Headers, value: bytes | None, why: str
) -> None:
    with pytest.raises(Undecodable, match=why):
        decode(given_headers, value)


@pytest.mark.parametrize("field", ["tenant", "input", "metadata"])
def test_nul_is_refused_wherever_clients_write(field: str) -> None:
    nul = {"tenant": "a\0", "input": {"modality": "music", "prompt": "a\0"}, "metadata": {"a\0": "b"}}
    request = job_requested(JOB, AT).model_dump(mode="json")
    given_headers = headers(ce_type=JobRequested.TYPE.encode())
    assert isinstance(decode(given_headers, json.dumps(request).encode()), Envelope)
    with pytest.raises(Undecodable, match=field) as caught:
        decode(given_headers, json.dumps({**request, field: nul[field]}).encode())
    assert "\0" not in str(caught.value)


def test_the_reason_does_not_repeat_a_huge_body() -> None:
    request = json.dumps({"input": {"modality": "x" * 100_000}}).encode()
    with pytest.raises(Undecodable) as caught:
        decode(headers(ce_type=JobRequested.TYPE.encode()), request)
    assert len(str(caught.value)) <= 1000


def test_the_reason_does_not_repeat_the_value_of_a_field() -> None:
    with pytest.raises(Undecodable) as caught:
        decode(headers(), body(http_status="s3cret"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("later", [{"deep": [1, 2]}, "a\0b", {"\0": 1}])
def test_unknown_fields_are_ignored(later: Any) -> None:
    decoded = decode(headers(), body(added_later=later))
    assert isinstance(decoded, Envelope)
    assert decoded.message == FAILED


def test_an_escaped_backslash_before_u0000_is_not_nul() -> None:
    decoded = decode(headers(), body(message="C:\\u0000", added_later="\0"))
    assert isinstance(decoded, Envelope)
    assert decoded.message == FAILED.model_copy(update={"message": "C:\\u0000"})


@pytest.mark.parametrize("kind", sorted(MESSAGE_TYPES))
def test_only_the_first_of_many_errors_in_a_body_are_reported(kind: str) -> None:
    """Reporting each of a million invalid entries would take minutes and gigabytes."""
    given_headers = headers(ce_type=kind.encode())
    for name, field in MESSAGE_TYPES[kind].model_fields.items():
        annotation = str(field.annotation)
        several: Any = [{}] * 2000 if "tuple" in annotation else {str(n): {} for n in range(2000)}
        if "tuple" in annotation or "dict" in annotation:
            with pytest.raises(Undecodable) as caught:
                decode(given_headers, json.dumps({name: several}).encode())
            cause = caught.value.__context__
            assert isinstance(cause, ValidationError)
            assert cause.error_count() < 50 or "errors" in str(caught.value)
            assert f"{name}.1" not in str(caught.value)


@pytest.mark.parametrize("name", ["segue.attempt.paused.v1", "segue.playlist.made.v12"])
def test_unknown_types_are_skipped_whatever_their_body(name: str) -> None:
    assert decode(headers(ce_type=name.encode()), None) == Skipped(name)


@pytest.mark.parametrize("major", [0, 2, 17])
@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_another_major_version_is_reported_as_such(name: str, major: int) -> None:
    other = f"{name.rpartition('.v')[0]}.v{major}".encode()
    with pytest.raises(UnknownMajor, match=f"major version {major}"):
        decode(headers(ce_type=other), b"{}")


@pytest.mark.parametrize("kind", [AttemptSucceeded, JobSucceeded])
def test_a_success_without_a_file_is_refused(kind: type[AttemptSucceeded | JobSucceeded]) -> None:
    with pytest.raises(Undecodable, match="artifacts: "):
        decode(headers(ce_type=kind.TYPE.encode()), body(artifacts=[]))


def read(given_headers: Headers, value: bytes | None) -> Envelope | Skipped | str:
    """The result of decoding a record; the reason if it is undecodable."""
    try:
        return decode(given_headers, value)
    except Undecodable as reason:
        return str(reason)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
a_type = st.sampled_from(sorted(MESSAGE_TYPES)).map(str.encode)
any_headers = st.lists(
    st.tuples(st.sampled_from(["ce_type", "ce_id", "ce_source", "traceparent"]) | st.text(), st.binary() | st.none())
)


@settings(max_examples=150, deadline=None)
@given(any_headers, a_type | st.binary(), st.binary() | st.none())
def test_any_bytes_are_decoded_or_undecodable(extra: Headers, kind: bytes, value: bytes | None) -> None:
    assert read([*extra, ("ce_type", kind), ("ce_id", b"1")], value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(BODY)), json_values)
def test_any_value_of_a_field_is_decoded_or_undecodable(field: str, value: object) -> None:
    decoded = read(list(RECORD.headers), json.dumps({**BODY, field: value}).encode())
    if isinstance(decoded, Envelope):
        again = encode(decoded.message, source="fal-adapter", traceparent=None)
        assert decode(again.headers, again.value) == Envelope(
            decoded.message, str(decoded.message.event_id), "/segue/fal-adapter", None
        )
    else:
        assert isinstance(decoded, str)
        assert field in decoded or "Invalid JSON" in decoded
