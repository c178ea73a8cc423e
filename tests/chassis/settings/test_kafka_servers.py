"""Addresses of brokers in all accepted spellings."""

from __future__ import annotations

import re

import pytest

from chassis.settings.kafka.servers import read_servers


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("a:9092", ("a:9092",)),
        ("kafka.example.:9092", ("kafka.example.:9092",)),
        (" a:9092 , b:9093,, ", ("a:9092", "b:9093")),
        ("kafka://a:9092/", ("a:9092",)),
        ("PLAINTEXT://a:9092,PLAINTEXT://b:9092", ("a:9092", "b:9092")),
        ("[::1]:9092,127.0.0.1:9092", ("[::1]:9092", "127.0.0.1:9092")),
    ],
)
def test_accepted_spellings(text: str, servers: tuple[str, ...]) -> None:
    assert read_servers(text) == servers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be host:port"),
        (" , ", "must be host:port"),
        ("localhost", "must be host:port, or several with commas between, and 'localhost' is not"),
        ("a:9092 b:9092", "'a:9092 b:9092'"),
        ("a:9092;b:9092", "is not"),
        ("a:", "'a:' is not"),
        ("a:0", "'a:0' is not"),
        ("a..b:9092", "'a..b:9092' is not"),
        (f"{'a' * 64}:9092", "is not"),
        (f"{'a.' * 127}:9092", "is not"),
        ("a:65536", "'a:65536' is not"),
        ("::1:9092", "an IPv6 address goes in brackets"),
        ("[nonsense]:9092", "is not"),
        ("SSL://a:9093", "names SSL: give host:port alone, and the protocol as KAFKA_SECURITY_PROTOCOL"),
        ("SASL_SSL://a:9093", "names SASL_SSL"),
        ("http://a:9092", "names http"),
        ("kafka://me:hunter2@a:9092", "the login as KAFKA_SASL_USERNAME"),
        ("a\u200b:9092", "'a\\u200b:9092' "),
    ],
)
def test_an_invalid_address_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        read_servers(text)
    assert "hunter2" not in str(raised.value)
