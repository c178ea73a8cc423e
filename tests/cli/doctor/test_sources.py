"""Where each setting is from: the environment, an env file or a secret's file; what hides what; no secret is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from segue_cli.doctor.sources import read_sources, shown
from segue_cli.stack.environment import without_settings


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in os.environ.keys() - without_settings(os.environ).keys() | {"LOG_LEVEL"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(told: Path | None = None) -> list[tuple[str, str, str]]:
    return [(one.what, one.verdict, one.found) for one in read_sources(told).findings]


def test_each_setting_has_its_origin(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "key").write_text("id:sesame\n")
    (folder / ".env").write_text("SEGUE_PORT=1\nFAL_KEY_FILE=key\nSEGUE_HOST=here\n")
    monkeypatch.setenv("SEGUE_DRAIN_S", "5")
    sources = read_sources(None)
    wanted = {"SEGUE_PORT": ".env", "SEGUE_DRAIN_S": "the environment", "FAL_KEY": ".env, from key"}
    assert wanted.items() <= sources.origins.items()
    assert "FAL_KEY_FILE" not in sources.origins
    assert sources.values["FAL_KEY"] == "id:sesame"
    assert sources.findings == []
    (folder / "more.env").write_text("SEGUE_PORT=2\nFAL_KEY=other:key\n")
    sources = read_sources(folder / "more.env")
    more = str(folder / "more.env")
    assert {"SEGUE_PORT": more, "FAL_KEY": more, "SEGUE_HOST": ".env"}.items() <= sources.origins.items()
    assert (sources.values["FAL_KEY"], sources.values["SEGUE_PORT"]) == ("other:key", "2")


def test_a_value_that_hides_a_different_one_is_a_warning(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / ".env").write_text("SSL_CERT_FILE=/file.pem\nLOG_LEVEL=INFO\nFAL_KEY=a:sesame\nAWS_SECRET_KEY=sesame\n")
    monkeypatch.setenv("SSL_CERT_FILE", "/around.pem")
    monkeypatch.setenv("LOG_LEVEL", " INFO ")
    monkeypatch.setenv("AWS_SECRET_KEY", "open-sesame")
    what = ".env has another value than the environment, which is the one that is used"
    assert found() == [
        ("SSL_CERT_FILE", "warn", f"{what} (/around.pem)"),
        ("AWS_SECRET_KEY", "warn", what),
    ]
    (folder / "key").write_text("id:secret\n")
    monkeypatch.setenv("FAL_KEY_FILE", "key")
    assert ("FAL_KEY_FILE", "warn", what) in found()


def test_a_file_that_cannot_be_used_and_an_unknown_name_are_findings(folder: Path) -> None:
    (folder / ".env").write_text("DATABASE_URL_FILE=gone\nFAL_KEY=a:b\nFAL_KEY_FILE=gone\nSEGUE_PROT=1\n")
    told = found()
    gone = "DATABASE_URL_FILE: gone cannot be read: No such file or directory; correct the path, or the permissions"
    assert ("DATABASE_URL_FILE", "fail", gone) in told
    assert ("FAL_KEY_FILE", "fail", "FAL_KEY and FAL_KEY_FILE are both set: remove one of them") in told
    assert ("settings", "warn", "SEGUE_PROT is not a setting of Segue; did you mean SEGUE_PORT?") in told


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("FAL_KEY", "id:sesame", "set"),
        ("DATABASE_URL", "postgresql://me:sesame@db/x", "set"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:sesame@tempo:4318", "http://…@tempo:4318"),
        ("ARTIFACT_STORE_URL", "s3://bucket?token=sesame", "s3://bucket?…"),
        ("SEGUE_EGRESS_ALLOW", "a" * 200, "a" * 80 + "…"),
        ("SEGUE_PORT", "8080", "8080"),
    ],
)
def test_no_secret_is_shown(name: str, value: str, text: str) -> None:
    assert shown(name, value) == text


def test_the_command_shows_the_origins_and_nothing_of_a_secret(shell: Any) -> None:
    (shell.folder / "key").write_text("0a1b2c3d-key-id:sesame-open\n")
    (shell.folder / ".env").write_text("FAL_KEY_FILE=key\nSSL_CERT_FILE=/nowhere/file.pem\n")
    done = shell.run("doctor", env={"SSL_CERT_FILE": "/nowhere/around.pem", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "FAL_KEY set .env, from key" in lines
    assert "SSL_CERT_FILE /nowhere/around.pem the environment" in lines
    flat = " ".join(lines)
    assert "warn SSL_CERT_FILE .env has another value than the environment" in flat
    assert "sesame" not in flat
    # One line of the table and one of the summary; Kafka's client says it some twenty times.
    assert "Unable connect" not in flat
    assert flat.count("KAFKA_BOOTSTRAP_SERVERS: no broker answered at 127.0.0.1:1") == 2
