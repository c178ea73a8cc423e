"""The URLs that providers call back, and the settings for them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from adapter_kit.settings import AdapterSettings
from chassis.settings.service import WrongSettings, load_settings
from contracts.callback_urls import callback_url, mac_is_right, without_mac
from contracts.ids import AttemptId

SECRET = "a secret of thirty-two characters"
ATTEMPT = AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1")
OTHER = AttemptId("6f1c4a3e-0000-4000-8000-000000000001.2")


def mac_of(url: str) -> str:
    return url.rpartition("/")[2]


def test_an_address_names_its_attempt_and_is_signed() -> None:
    url = callback_url("https://segue.example/music", SECRET, "fal", ATTEMPT)
    mac = hmac.new(SECRET.encode(), f"fal/{ATTEMPT}".encode(), hashlib.sha256).hexdigest()
    assert url == f"https://segue.example/music/api/callbacks/fal/{ATTEMPT}/{mac}"
    assert mac_is_right(SECRET, "fal", ATTEMPT, mac_of(url))


@pytest.mark.parametrize(
    ("secret", "provider", "attempt_id"),
    [(SECRET + "!", "fal", ATTEMPT), (SECRET, "replicate", ATTEMPT), (SECRET, "fal", OTHER)],
)
def test_the_mac_of_an_address_is_valid_for_no_other(secret: str, provider: str, attempt_id: str) -> None:
    mac = mac_of(callback_url("https://segue.example", SECRET, "fal", ATTEMPT))
    assert not mac_is_right(secret, provider, attempt_id, mac)


@pytest.mark.parametrize("mac", ["", "0" * 64, "ä", "A" * 10_000])
def test_a_malformed_mac_is_refused(mac: str) -> None:
    assert not mac_is_right(SECRET, "fal", ATTEMPT, mac)


def test_the_mac_is_masked() -> None:
    url = callback_url("https://segue.example", SECRET, "fal", ATTEMPT)
    masked = without_mac(f'{{"webhook": "{url}", "id": 1}}')
    assert masked == f'{{"webhook": "https://segue.example/api/callbacks/fal/{ATTEMPT}/***", "id": 1}}'


@pytest.mark.parametrize(
    "written",
    [
        lambda url: quote(url, safe=""),
        lambda url: quote(url, safe="").lower(),
        lambda url: quote(quote(url, safe=""), safe=""),
        lambda url: quote(quote(quote(url, safe=""), safe=""), safe=""),
        lambda url: url.replace("/", "\\/"),
        lambda url: json.dumps(url.replace("/", "\\/")),
        lambda url: url.replace("/", "\\u002f"),
        lambda url: url.replace("/", "&#x2F;"),
        lambda url: url.replace("/", "&#47;"),
        str.upper,
        # The pattern ignores case as Unicode has it: a long s is an s, and K is also the sign of the kelvin.
        lambda url: url.replace("callbacks", "callbac\u212a\u017f"),
    ],
)
def test_the_mac_is_masked_in_every_encoding_of_the_address(written: Callable[[str], str]) -> None:
    url = callback_url("https://segue.example/music", SECRET, "fal", ATTEMPT)
    echoed = f'cannot reach https://queue.fal.run/a/b?fal_webhook={written(url)}&x=1 or "{written(url)}", sorry'
    masked = without_mac(echoed)
    assert mac_of(url).lower() not in masked.lower()
    assert masked.count("***") == 2
    assert (masked[:40], masked[-7:]) == (echoed[:40], ", sorry")
    assert f"{ATTEMPT}".lower() in masked.lower()


@pytest.mark.parametrize("text", ["/api/callbacks", "api/callbacks/fal/1/", "/api/callbacks%2f" * 5_000, "%2" * 9_000])
def test_other_texts_are_unchanged(text: str) -> None:
    assert without_mac(text) == text


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/segue")
    for name in ("SEGUE_PUBLIC_URL", "SEGUE_CALLBACK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://segue.example/", "https://segue.example"),
        ("https://segue.example:8443/music", "https://segue.example:8443/music"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_public_url_is_https_or_on_the_loopback(environ: pytest.MonkeyPatch, url: str, kept: str) -> None:
    environ.setenv("SEGUE_PUBLIC_URL", url)
    environ.setenv("SEGUE_CALLBACK_SECRET", SECRET)
    assert load_settings(AdapterSettings).public_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://segue.example",
        "ftp://segue.example",
        "segue.example",
        "https://",
        "https://segue.example?x=1",
        "https://me:secret@segue.example",
        "https://segue.example:99999",
        "http://127.0.0.1.evil.example",
    ],
)
def test_another_public_url_is_refused_in_one_line(environ: pytest.MonkeyPatch, url: str) -> None:
    environ.setenv("SEGUE_PUBLIC_URL", url)
    environ.setenv("SEGUE_CALLBACK_SECRET", SECRET)
    with pytest.raises(WrongSettings, match=r"^SEGUE_PUBLIC_URL: must be https://host, or http://") as refused:
        load_settings(AdapterSettings)
    assert "\n" not in str(refused.value)


def test_callbacks_need_a_secret(environ: pytest.MonkeyPatch) -> None:
    assert load_settings(AdapterSettings).callback_secret is None
    environ.setenv("SEGUE_PUBLIC_URL", "https://segue.example")
    with pytest.raises(WrongSettings, match=r"^SEGUE_CALLBACK_SECRET: has to be set where SEGUE_PUBLIC_URL is "):
        load_settings(AdapterSettings)


def test_a_short_secret_is_refused_and_not_repeated(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("SEGUE_CALLBACK_SECRET", "short-and-secret")
    with pytest.raises(WrongSettings, match=r"^SEGUE_CALLBACK_SECRET: must have at least 32 characters") as refused:
        load_settings(AdapterSettings)
    assert "short-and-secret" not in str(refused.value)
