"""Errors in the environment of a service: each setting by name, in one line, without secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from chassis.settings.http_limits import HttpLimits
from chassis.settings.service import ServiceSettings, WrongSettings, load_settings

RIGHT = {"KAFKA_BOOTSTRAP_SERVERS": "a:9092, [::1]:9093", "DATABASE_URL": "postgresql://me:hunter2@db/segue"}
SECRET = "hunter2"


class Settings(ServiceSettings):
    """Settings of a service, with a key and a list."""

    key: SecretStr = Field(default=SecretStr("none"), validation_alias="A_KEY", min_length=4, description="The key.")
    hosts: tuple[str, ...] = Field(default=(), validation_alias="HOSTS")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "LOG_LEVEL", "SEGUE_HOST", "SEGUE_PORT", "SEGUE_DRAIN_S"):
        monkeypatch.delenv(name, raising=False)
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def test_valid_settings_are_read_and_others_have_defaults() -> None:
    settings = load_settings(Settings)
    assert settings.kafka_bootstrap_servers == "a:9092,[::1]:9093"
    assert settings.database_url.get_secret_value() == RIGHT["DATABASE_URL"]
    assert (settings.port, settings.host, settings.log_level, settings.drain_s) == (0, "127.0.0.1", "INFO", 25)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", None, "is not set (host:port of one broker or several.)"),
        ("KAFKA_BOOTSTRAP_SERVERS", "", "is not set (host:port of one broker or several.)"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "must be host:port, or several with commas between"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:many", "'b:many' is not"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:0", "'a:0' is not"),
        ("DATABASE_URL", None, "is not set (postgresql://user@host:port/name)"),
        ("DATABASE_URL", "hunter2@db/segue", "must start with postgresql://"),
        ("SEGUE_PORT", "hunter2", "should be a valid integer"),
        ("SEGUE_PORT", "65536", "less than or equal to 65535"),
        ("SEGUE_DRAIN_S", "0", "greater than 0"),
        ("SEGUE_DRAIN_S", "nan", "than"),
        ("SEGUE_DRAIN_S", "inf", "less than or equal to 3600"),
        ("SEGUE_KAFKA_SESSION_TIMEOUT_S", "1", "greater than 1"),
        ("SEGUE_KAFKA_FETCH_WAIT_MS", "soon", "should be a valid integer"),
        ("SEGUE_MAX_CONNECTIONS", "0", "greater than or equal to 16"),
        ("SEGUE_HEADER_TIMEOUT_S", "0", "greater than 0"),
        ("SEGUE_IDLE_TIMEOUT_S", "nan", "than"),
        ("SEGUE_TRUSTED_PROXIES", "10.0.0.0/8,proxy", "or none; 'proxy' is not"),
        ("SEGUE_TRUSTED_PROXIES", "10.0.0.1/8", "'10.0.0.1/8' is not"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("A_KEY", "h2", "at least 4"),
        ("HOSTS", SECRET, 'error parsing value for field "hosts"'),
    ],
)
def test_an_invalid_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, told: str
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettings) as raised:
        load_settings(Settings)
    line = str(raised.value)
    assert name in line.upper()
    assert told in line
    assert SECRET not in line
    assert "\n" not in line


def test_the_defaults_of_a_listener_are_those_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(Settings).http_limits == HttpLimits()
    monkeypatch.setenv("SEGUE_TRUSTED_PROXIES", "none")
    monkeypatch.setenv("SEGUE_MAX_HEADERS", "17")
    limits = load_settings(Settings).http_limits
    assert (limits.trusted, limits.headers) == ((), 17)
    assert (limits.health.connections, limits.health.headers) == (64, 17)


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    with pytest.raises(WrongSettings, match=r"KAFKA_BOOTSTRAP_SERVERS is not set.*; DATABASE_URL: must start"):
        load_settings(Settings)


def test_the_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEGUE_PORT=7\nLOG_LEVEL=debug\n")
    monkeypatch.setenv("SEGUE_PORT", "8")
    monkeypatch.setenv("LOG_LEVEL", "x")  # so that it is restored after the test
    monkeypatch.delenv("LOG_LEVEL")
    settings = load_settings(Settings)
    assert (settings.port, settings.log_level) == (8, "DEBUG")


def test_an_env_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A_KEY=\xff\xfe\n")
    with pytest.raises(
        WrongSettings, match=r"^\.env: A_KEY is not in UTF-8: save the file as UTF-8, and it can be read$"
    ):
        load_settings(Settings)


def test_variables_that_libraries_read_are_stripped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "\ufeff hunter2\u200b\r\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token\n")
    assert load_settings(Settings).key.get_secret_value() == SECRET
    assert (os.environ["A_KEY"], os.environ["AWS_SESSION_TOKEN"]) == (SECRET, "token")


def test_a_blank_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", " \u200b ")
    assert load_settings(Settings).log_level == "INFO"


def test_the_form_of_logs_is_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOG_FORMAT", raising=False)
    assert load_settings(Settings).log_format == "auto"
    monkeypatch.setenv("LOG_FORMAT", "Console")
    assert load_settings(Settings).log_format == "console"


def test_ignored_settings_are_noted_and_secrets_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A_KEY=sesame\nLOG_LEVEL: DEBUG\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hun%40ter2@db/segue?keepalives=1")
    monkeypatch.setenv("A_KEY", "")
    settings = load_settings(Settings)
    ignored = "is not of the form NAME=value, and is ignored"
    assert settings.notes == (
        f".env: line 2 {ignored}",
        "DATABASE_URL: keepalives is ignored: the driver (asyncpg) has nothing like it",
    )
    assert {"sesame", "hun@ter2"} <= settings.secrets()
