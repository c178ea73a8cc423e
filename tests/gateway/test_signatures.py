"""The signatures, against published test vectors: RFC 8032 and RFC 8037 for Ed25519, and those of Standard Webhooks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import JsonValue

from contracts.providers.fal import FAL
from contracts.providers.spec import Ed25519Jwks
from gateway.signatures import ed25519_jwks, standard_webhooks
from gateway.signatures.signed import NotFresh, Signed

# RFC 8037, appendix A: the key pair of RFC 8032's first test.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
JWKS: dict[str, JsonValue] = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": X}]}

# From the tests of the reference implementations of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = b'{"test": 2432232314}'


def fal_signed(headers: Mapping[str, str], body: bytes) -> Signed | None:
    assert isinstance(FAL.signature, Ed25519Jwks)
    return ed25519_jwks.read_signed(FAL.signature.header_prefix, headers, body)


def fal_headers(body: bytes, timestamp: str = "1700000000", **changed: str) -> dict[str, str]:
    content = "\n".join(["req-1", "user-1", timestamp, hashlib.sha256(body).hexdigest()])
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(content.encode()).hex()
    told = {"request-id": "req-1", "user-id": "user-1", "timestamp": timestamp, "signature": signature}
    return {f"x-fal-webhook-{name.replace('_', '-')}": value for name, value in (told | changed).items()}


def test_the_keys_of_a_jwks_are_read_without_padding() -> None:
    (key,) = ed25519_jwks.keys_in(JWKS)
    assert key == Ed25519PrivateKey.from_private_bytes(SEED).public_key()
    # RFC 8032, test 1: the signature of the empty message.
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert ed25519_jwks.fits(Signed("x", 0, b"", (signature,)), [key])
    assert not ed25519_jwks.fits(Signed("x", 0, b"?", (signature,)), [key])


@pytest.mark.parametrize(
    "jwks",
    [
        None,
        [],
        {},
        {"keys": None},
        {"keys": []},
        {"keys": [None, 7, {}]},
        {"keys": [{"kty": "RSA", "crv": "Ed25519", "x": X}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 7}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "c2hvcnQ"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "ä"}]},
    ],
)
def test_a_jwks_without_a_usable_key_is_refused(jwks: Any) -> None:
    with pytest.raises(ValueError, match="no Ed25519 key"):
        ed25519_jwks.keys_in(jwks)


def test_an_invalid_key_does_not_affect_the_others() -> None:
    short: JsonValue = {"kty": "OKP", "crv": "Ed25519", "x": "c2hvcnQ"}
    assert ed25519_jwks.keys_in({"keys": [short, {"kty": "OKP", "crv": "Ed25519", "x": X}]}) == ed25519_jwks.keys_in(
        JWKS
    )


def test_fal_signs_the_ids_the_time_and_the_body() -> None:
    keys = ed25519_jwks.keys_in(JWKS)
    signed = fal_signed(fal_headers(BODY), BODY)
    assert signed is not None
    assert (signed.delivery_id, signed.signed_at) == ("req-1", 1_700_000_000)
    assert ed25519_jwks.fits(signed, keys)
    for headers, body in (
        (fal_headers(BODY), BODY + b" "),
        (fal_headers(BODY, request_id="req-2"), BODY),
        (fal_headers(BODY, user_id="user-2"), BODY),
        (fal_headers(BODY) | {"x-fal-webhook-timestamp": "1700000001"}, BODY),
        (fal_headers(BODY, signature="00" * 64), BODY),
        (fal_headers(BODY, signature=""), BODY),
    ):
        changed = fal_signed(headers, body)
        assert changed is not None
        assert not ed25519_jwks.fits(changed, keys)
    assert not ed25519_jwks.fits(signed, [Ed25519PrivateKey.generate().public_key()])


@pytest.mark.parametrize(
    "changed",
    [
        {"request_id": ""},
        {"timestamp": ""},
        {"timestamp": "-1"},
        {"timestamp": "1e9"},
        {"timestamp": "٣"},
        {"timestamp": "9" * 5000},
        {"signature": "not hex"},
    ],
)
def test_invalid_headers_of_fal_are_refused(changed: dict[str, str]) -> None:
    assert fal_signed(fal_headers(BODY, **changed), BODY) is None
    assert fal_signed({}, BODY) is None


def test_replicate_signs_as_standard_webhooks_do() -> None:
    (key,) = standard_webhooks.keys_in(SECRET)
    signed = standard_webhooks.read_signed(SIGNED, BODY)
    assert signed is not None
    assert (signed.delivery_id, signed.signed_at) == (SIGNED["webhook-id"], 1_614_265_330)
    assert standard_webhooks.fits(signed, [key])
    assert standard_webhooks.fits(signed, [b"old", key])
    assert not standard_webhooks.fits(signed, [b"old"])
    for headers, body in (
        (SIGNED, BODY + b" "),
        (SIGNED | {"webhook-id": "msg_2"}, BODY),
        (SIGNED | {"webhook-timestamp": "1614265331"}, BODY),
        (SIGNED | {"webhook-signature": "v2" + SIGNED["webhook-signature"][2:]}, BODY),
        (SIGNED | {"webhook-signature": "v1,"}, BODY),
        (SIGNED | {"webhook-signature": ""}, BODY),
    ):
        changed = standard_webhooks.read_signed(headers, body)
        assert changed is not None
        assert not standard_webhooks.fits(changed, [key])


def test_one_of_several_signatures_is_enough_while_a_secret_changes() -> None:
    others = "v1,bm9uZQ== v1a,x v1,%%% "
    signed = standard_webhooks.read_signed(SIGNED | {"webhook-signature": others + SIGNED["webhook-signature"]}, BODY)
    assert signed is not None
    assert standard_webhooks.fits(signed, standard_webhooks.keys_in(SECRET))


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp"])
def test_incomplete_headers_of_replicate_are_refused(missing: str) -> None:
    assert standard_webhooks.read_signed(SIGNED | {missing: ""}, BODY) is None
    assert standard_webhooks.read_signed(SIGNED | {"webhook-timestamp": "soon"}, BODY) is None


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%", "whsec_ä"])
def test_an_invalid_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match=r"must be whsec_ and base64") as refused:
        standard_webhooks.keys_in(secret)
    assert "MfKQ" not in str(refused.value)


@pytest.mark.parametrize(("away_s", "fresh"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_signature_is_valid_for_five_minutes(away_s: int, *, fresh: bool) -> None:
    signed = Signed("x", 1_000_000, b"", ())
    with nullcontext() if fresh else pytest.raises(NotFresh, match=f"^{abs(away_s):.0f} s "):
        signed.require_fresh(1_000_000.0 + away_s)
