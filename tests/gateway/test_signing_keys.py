"""How long signing keys are cached, and how often they are fetched."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.signatures.keys import FAILURE_FLOOR_S, MAX_AGE_S, REFETCH_FLOOR_S, KeysAway, SigningKeys, fetch_jwks


class Published:
    """The keys of a provider, a clock, and the number of fetches."""

    def __init__(self) -> None:
        self.keys: tuple[str, ...] = ("first",)
        self.away = False
        self.fetches = 0
        self.now = 1_000.0

    async def fetch(self) -> tuple[str, ...]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.away:
            raise httpx.ConnectError("refused")
        return self.keys


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def kept(published: Published) -> SigningKeys[str]:
    return SigningKeys(published.fetch, clock=lambda: published.now)


async def test_keys_are_fetched_once_a_day(published: Published, kept: SigningKeys[str]) -> None:
    assert await asyncio.gather(*(kept.current() for _ in range(5))) == [("first",)] * 5
    assert published.fetches == 1
    published.keys = ("second",)
    published.now += MAX_AGE_S
    assert await kept.current() == ("first",)
    published.now += 1
    assert await kept.current() == ("second",)


async def test_keys_are_fetched_again_for_an_unknown_key_but_not_too_often(
    published: Published, kept: SigningKeys[str]
) -> None:
    first = await kept.current()
    published.keys = ("second",)
    assert await asyncio.gather(*(kept.newer(first) for _ in range(5))) == [("second",)] * 5
    assert published.fetches == 2
    for _ in range(5):
        assert await kept.newer(("second",)) == ()
    assert published.fetches == 2
    published.now += REFETCH_FLOOR_S
    assert await kept.newer(("second",)) == ()
    assert published.fetches == 3


async def test_without_keys_none_is_known_and_fetches_are_limited(published: Published, kept: SigningKeys[str]) -> None:
    published.away = True
    for outcome in await asyncio.gather(*(kept.current() for _ in range(5)), return_exceptions=True):
        assert isinstance(outcome, KeysAway)
    assert published.fetches == 1
    published.now += FAILURE_FLOOR_S
    published.away = False
    assert await kept.current() == ("first",)


async def test_while_newer_keys_cannot_be_fetched_a_signature_is_not_rejected(
    published: Published, kept: SigningKeys[str]
) -> None:
    first = await kept.current()
    published.away = True
    for _ in range(2):
        with pytest.raises(KeysAway):
            await kept.newer(first)
    assert published.fetches == 2
    published.keys, published.away = ("second",), False
    published.now += REFETCH_FLOOR_S
    assert await kept.newer(first) == ("second",)
    assert await kept.newer(("second",)) == ()


async def test_keys_older_than_a_day_are_not_used(published: Published, kept: SigningKeys[str]) -> None:
    await kept.current()
    published.away = True
    published.now += MAX_AGE_S + 1
    with pytest.raises(KeysAway):
        await kept.current()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(403, text="hunter2"), "HTTPStatusError 403"),
        (httpx.Response(200, content=b"hunter2\xff"), "UnicodeDecodeError"),
    ],
)
async def test_a_failed_fetch_is_logged_without_the_url_and_the_answer(answer: httpx.Response, reason: str) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as client:
        with capture_logs() as logs, pytest.raises(KeysAway):
            await SigningKeys(fetch_jwks(client, "https://keys.example/?token=hunter2")).current()
    [line] = logs
    assert line["error"] == reason
    assert "hunter2" not in str(line)
