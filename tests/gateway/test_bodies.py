"""Bodies, headers and numbers as clients send them: accepted where valid, else refused with the reason."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from typing import Any

import pytest

from contracts.ids import job_id_for
from gateway.api.error_answers import problem_of
from gateway.context import TENANT
from gateway.http.json_body import parse_json
from gateway.http.problem_document import Problem
from gateway.intake.errors import InvalidIdempotencyKey
from gateway.intake.idempotency import key_of
from gateway.intake.track_request import TrackRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODY = json.dumps({"prompt": "Warm ambient pad"}).encode()
TEXT = BODY.decode()
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (codecs.BOM_UTF8 + BODY, "byte order mark of UTF-8"),
        (codecs.BOM_UTF8, "byte order mark of UTF-8"),
        (TEXT.encode("utf-16"), "byte order mark of UTF-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "byte order mark of UTF-16"),
        (TEXT.encode("utf-32"), "byte order mark of UTF-32"),
        (codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"), "byte order mark of UTF-32"),
        (TEXT.encode("utf-16-le"), "looks like UTF-16"),
        (TEXT.encode("utf-16-be"), "looks like UTF-16"),
        (TEXT.encode("utf-32-be"), "looks like UTF-16 or UTF-32"),
        (gzip.compress(BODY, mtime=0), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (b"\x28\xb5\x2f\xfd\x24\x00", "zstd"),
        ('{"prompt": "Größe"}'.encode("latin-1"), "JSON in UTF-8"),
    ],
)
async def test_a_body_in_another_encoding_is_refused_with_its_name(world: Any, raw: bytes, named: str) -> None:
    attempt = f"{job_id_for(TENANT, 'nobody')}.1"
    for path in ("/api/tracks", f"/api/attempts/{attempt}/resolve"):
        answer = await world.client.post(path, content=raw, headers=JSON)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:segue:problem:malformed-json")
        assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "gzip, br", "identity, gzip", "aws-chunked", "x\x1by"]
)
async def test_a_compressed_body_is_refused_with_the_name_of_its_coding(world: Any, coding: str) -> None:
    headers = JSON | {"content-encoding": coding}
    answer = await world.client.post("/api/tracks", content=gzip.compress(BODY, mtime=0), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:segue:problem:unsupported-media-type")
    assert coding.replace("\x1b", "\N{REPLACEMENT CHARACTER}") in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", " Identity ", "", "identity, identity"])
async def test_a_body_with_the_identity_coding_is_accepted(world: Any, coding: str) -> None:
    answer = await world.client.post("/api/tracks", content=BODY, headers=JSON | {"content-encoding": coding})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "declared",
    [
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset=ISO-8859-1",
        'application/json; charset="windows-1252"',
        "application/json; charset=",
    ],
)
async def test_another_charset_is_refused_with_its_name(world: Any, declared: str) -> None:
    answer = await world.client.post("/api/tracks", content=BODY, headers={"content-type": declared})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:segue:problem:unsupported-media-type")
    assert declared in answer.json()["detail"]


@pytest.mark.parametrize(
    "declared",
    ["application/json;charset=UTF-8", 'APPLICATION/JSON; charset="utf-8"', "application/json; charset=ASCII"],
)
async def test_utf_8_and_ascii_are_accepted_in_every_spelling(world: Any, declared: str) -> None:
    answer = await world.client.post("/api/tracks", content=BODY, headers={"content-type": declared})
    assert answer.status_code == 202


async def test_two_content_types_are_refused(world: Any) -> None:
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    answer = await world.client.post("/api/tracks", content=BODY, headers=headers)
    assert answer.status_code == 415
    assert "application/json, text/plain" in answer.json()["detail"]


@pytest.mark.parametrize("key", ["order-1", "order-1 ", " order-1", "\torder-1\t ", "  order-1\t"])
async def test_blanks_around_a_key_are_stripped(world: Any, key: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"idempotency-key", key.encode())]
    answer = await world.client.post("/api/tracks", content=BODY, headers=headers)
    assert answer.status_code == 202
    assert answer.json()["job_id"] == job_id_for(TENANT, "order-1")
    assert answer.headers["idempotency-key"] == "order-1"


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ([""], "is empty"),
        ([" \t "], "is empty"),
        (["a", "a"], "is there 2 times"),
        (["", ""], "is there 2 times"),
        (["a\tb"], "the byte 0x09 as character 2"),
        (["caf\xe9"], "the byte 0xE9 as character 4"),
        (["\xa0a"], "the byte 0xA0 as character 1"),
        (["a\x7f"], "the byte 0x7F as character 2"),
        (["x" * 256], "has 256 characters"),
    ],
)
async def test_an_invalid_key_is_refused_with_the_reason(keys: list[str], named: str) -> None:
    with pytest.raises(InvalidIdempotencyKey, match=named) as caught:
        key_of(keys)
    problem = problem_of(caught.value)
    assert (problem.status, problem.kind) == (400, "invalid-idempotency-key")


async def test_a_quoted_key_differs_from_the_same_key_without_quotes() -> None:
    for key in ('"8e03978e-40d5"', "8e03978e-40d5", '"a b"', "a, b", "x" * 255):
        found = key_of([f" {key} "])
        assert (found.value, found.given) == (key, True)
    assert not key_of([]).given


@pytest.mark.parametrize("field", ["prompt", "lyrics"])
@pytest.mark.parametrize(
    "blank",
    [
        " ",
        "\u00a0\u2003\u3000",
        "\u200b\u200d\ufeff",
        "\u00ad",
        "\ufe0f",
        "\u3164",
        "\u115f\u1160",
        "\u2800",
        "\u202e",
        "\U000e0061\U000e007f",
        "\x07\x1b",
        "\u200f\u2066\u2069",
        "\u180e\u034f",
        "\n\u3164\t\u2800",
    ],
    ids=ascii,
)
async def test_a_text_of_invisible_characters_is_blank(field: str, blank: str) -> None:
    body = {"prompt": "x", "has_vocals": True, field: blank}
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, json.dumps(body).encode())
    [fault] = caught.value.members["errors"]
    assert (caught.value.status, fault.field) == (422, field)
    assert "is blank" in fault.problem


async def test_limits_do_not_count_surrounding_blanks() -> None:
    around = {"prompt": " \n\u200b" + "x" * 4000 + "\u3000 ", "has_vocals": True, "lyrics": "\ufeffla la\n"}
    wanted = parse_json(TrackRequest, json.dumps(around).encode())
    assert (wanted.prompt, wanted.lyrics) == ("x" * 4000, "la la")
    assert wanted.music().prompt == "x" * 4000
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, json.dumps({"prompt": " " + "x" * 4001}).encode())
    assert caught.value.members["errors"][0].limit == {"max_length": 4000}
    same = parse_json(TrackRequest, json.dumps(around | {"prompt": "x" * 4000}).encode())
    assert same.fingerprint() == wanted.fingerprint()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"style_strength": -0.0', '"style_strength": 0'),
        ('"style_strength": -0', '"style_strength": 0.0'),
        ('"style_strength": -0e5', '"style_strength": 0'),
        ('"style_strength": 5e-1', '"style_strength": 0.5'),
        ('"duration_s": 2e1', '"duration_s": 20'),
        ('"duration_s": 20.0', '"duration_s": 20'),
        ('"duration_s": 2.0E+01', '"duration_s": 20'),
        ('"weights": {"fal": -0.0, "replicate": 1}', '"weights": {"replicate": 1.0, "fal": 0}'),
        ('"max_cost_usd": 1e0', '"max_cost_usd": 1'),
        ('"deadline_s": 6e1', '"deadline_s": 60'),
    ],
)
async def test_spellings_of_a_number_are_equal(one: str, other: str) -> None:
    first, second = (parse_json(TrackRequest, f'{{"prompt": "x", {spelled}}}'.encode()) for spelled in (one, other))
    assert first.fingerprint() == second.fingerprint()
    assert "-0" not in first.model_dump_json(exclude_unset=True)


async def test_a_repeat_with_minus_zero_is_the_same_request(world: Any) -> None:
    first = await world.post({"prompt": "x", "style_strength": 0}, idempotency_key="zero")
    again = await world.client.post(
        "/api/tracks", content=b'{"prompt": "x", "style_strength": -0.0}', headers=JSON | {"idempotency-key": "zero"}
    )
    assert (again.status_code, again.content) == (202, first.content)


@pytest.mark.parametrize("field", ["duration_s", "style_strength", "max_cost_usd", "deadline_s", "weights"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
async def test_an_invalid_number_is_refused_with_the_name_of_its_field(field: str, number: str) -> None:
    value = f'{{"fal": {number}}}' if field == "weights" else number
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, f'{{"prompt": "x", "{field}": {value}}}'.encode())
    [fault] = caught.value.members["errors"]
    assert (caught.value.status, fault.field.partition(".")[0]) == (422, field)
    assert fault.value in {"nan", "inf", "-inf"}


@pytest.mark.parametrize("number", ["-0.0", "-0", "0e9"])
async def test_minus_zero_is_refused_where_zero_is(number: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, f'{{"prompt": "x", "duration_s": {number}}}'.encode())
    [fault] = caught.value.members["errors"]
    assert (fault.limit, fault.value) == ({"gt": 0.0}, "0" if number == "-0" else "0.0")
