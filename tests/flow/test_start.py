"""A service or command that cannot start says why in one line: 78 for a wrong setting, 75 for a server that is away."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.patience import patient

from chassis.errors import EXIT_SETTINGS, EXIT_TEMPORARY
from chassis.settings.service import ServiceSettings, WrongSettings, settings_of
from contracts.topics import SERVICES
from segue_cli.stack.environment import without_settings
from segue_cli.stack.run import PLACEHOLDERS
from segue_cli.stack.service_settings import settings_kind

SECRET = "hunter2"
KEY = {"fal-adapter": ("FAL_KEY", "FAL_API_KEY"), "replicate-adapter": ("REPLICATE_API_TOKEN",)}
STORES = ("gateway", "fal-adapter", "replicate-adapter", "log-sink")

WRONG = [
    (SERVICES, {"DATABASE_URL": "postgresql://me:hunter2@x@db/segue"}, "DATABASE_URL: has more than one '@'"),
    (SERVICES, {"DATABASE_URL": "postgresql://db/x?channel_binding=require"}, "DATABASE_URL: channel_binding=require"),
    (SERVICES, {"DATABASE_URL": "postgresql://me:hunter2@db:x/segue"}, "DATABASE_URL: has a port"),
    (SERVICES, {"KAFKA_BOOTSTRAP_SERVERS": "localhost"}, "KAFKA_BOOTSTRAP_SERVERS: must be host:port"),
    (SERVICES, {"KAFKA_BOOTSTRAP_SERVERS": "SASL_SSL://k:9093"}, "KAFKA_BOOTSTRAP_SERVERS: 'SASL_SSL://k:9093' names"),
    (SERVICES, {"OTEL_EXPORTER_OTLP_ENDPOINT": "tempo:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must begin with http://"),
    (SERVICES, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://t:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT: has the port of gRPC"),
    (SERVICES, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://t"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: is for gRPC"),
    (SERVICES, {"OTEL_EXPORTER_OTLP_HEADERS": "Bearer hunter2"}, "OTEL_EXPORTER_OTLP_HEADERS: must be name=value"),
    (("gateway", "orchestrator"), {"SEGUE_PROVIDERS": "fal,spotify"}, "SEGUE_PROVIDERS: 'spotify' is no provider"),
    (
        ("gateway", "orchestrator"),
        {"SEGUE_PROVIDERS": "replicate", "MUSIC_PROVIDER": "fal"},
        "MUSIC_PROVIDER: 'fal' is not enabled: SEGUE_PROVIDERS names replicate",
    ),
    (("orchestrator", "fal-adapter"), {"SEGUE_ADAPTER_SILENT_S": "1"}, "SEGUE_ADAPTER_SILENT_S: Input should be"),
    (SERVICES, {"LOG_LEVEL": "loud"}, "LOG_LEVEL: must be one of DEBUG"),
    (SERVICES, {"LOG_FORMAT": "xml"}, "LOG_FORMAT: Input should be 'json', 'console' or 'auto'"),
    (SERVICES, {"SEGUE_PORT": "99999"}, "SEGUE_PORT: Input should be less than or equal to 65535"),
    (SERVICES, {"SEGUE_DRAIN_S": "0"}, "SEGUE_DRAIN_S: Input should be greater than 0"),
    (SERVICES, {"SEGUE_ROW_RETENTION_DAYS": "1"}, "SEGUE_ROW_RETENTION_DAYS: must be more than"),
    (
        ("gateway", "orchestrator"),
        {"MUSIC_PROVIDER": "spotify"},
        "MUSIC_PROVIDER: 'spotify' is no provider; there is fal, replicate",
    ),
    (("gateway",), {"SEGUE_AMBIGUITY_POLICY": "maybe"}, "SEGUE_AMBIGUITY_POLICY: Input should be 'hold' or 'resubmit'"),
    (("gateway",), {"FAL_JWKS_URL": "rest.fal.ai"}, "FAL_JWKS_URL: must begin with https:// or http://"),
    (
        ("gateway",),
        {"REPLICATE_WEBHOOK_SIGNING_SECRET": "whsec_hunter2é"},
        "REPLICATE_WEBHOOK_SIGNING_SECRET: has U+00E9",
    ),
    (("gateway",), {"FAL_JWKS_URL": "https://me:hunter2@rest.fal.ai"}, "FAL_JWKS_URL: must not contain a user"),
    (
        ("gateway", "replicate-adapter"),
        {"REPLICATE_BASE_URL": "https://hunter2@api.replicate.com"},
        "REPLICATE_BASE_URL: must not contain a user",
    ),
    (("fal-adapter",), {"FAL_API_URL": "https://:hunter2@api.fal.ai"}, "FAL_API_URL: must not contain a user"),
    (("gateway", "replicate-adapter"), {"REPLICATE_BASE_URL": "api"}, "REPLICATE_BASE_URL: must begin with"),
    (("gateway", "fal-adapter"), {"SEGUE_CALLBACK_SECRET": "short"}, "SEGUE_CALLBACK_SECRET: must have at least 32"),
    (("fal-adapter",), {"SEGUE_PUBLIC_URL": "https://x\u00e9"}, "SEGUE_PUBLIC_URL: has U+00E9"),
    (("fal-adapter",), {"FAL_RUN_HOST": "https://fal.run"}, "FAL_RUN_HOST: must be a host"),
    (("fal-adapter",), {"FAL_KEY": "hunter2"}, "FAL_KEY: must have the form id:secret"),
    (("replicate-adapter",), {"REPLICATE_API_TOKEN": "hunter2"}, "REPLICATE_API_TOKEN: must start with r8_"),
    (
        STORES,
        {"ARTIFACT_STORE_URL": "s3://b", "AWS_SECRET_ACCESS_KEY": "hun\nhunter2"},
        "AWS_SECRET_ACCESS_KEY: has U+000A",
    ),
    (
        STORES,
        {"ARTIFACT_STORE_URL": "az://b", "AZURE_STORAGE_ACCOUNT_KEY": "hé"},
        "AZURE_STORAGE_ACCOUNT_KEY: has U+00E9",
    ),
]


@pytest.fixture(autouse=True)
def without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - without_settings(os.environ).keys():
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("service", "wrong", "expected"),
    [(service, wrong, expected) for services, wrong, expected in WRONG for service in services],
)
def test_a_wrong_setting_is_reported_in_one_line(service: str, wrong: Mapping[str, str], expected: str) -> None:
    line = refused(settings_kind(service), wrong)
    assert line.startswith(expected)
    assert SECRET not in line
    assert "\n" not in line


@pytest.mark.parametrize(("service", "name"), [(service, name) for service, names in KEY.items() for name in names])
@pytest.mark.parametrize("inside", ["\u200b", "\n", "\r\n", "\ufeff", "\xa0", "ü", "\x1b[0m"], ids=ascii)
def test_an_unexpected_character_in_a_key_is_reported_by_name_and_position(
    service: str, name: str, inside: str
) -> None:
    placeholders = {other: value for other, value in PLACEHOLDERS.items() if other not in KEY["fal-adapter"]}
    with pytest.raises(WrongSettings) as raised:
        settings_of(settings_kind(service), {**placeholders, name: f"r8_a:b{inside}hunter2"})
    assert str(raised.value).startswith(f"{name}: has U+{ord(inside[0]):04X} ")
    assert f"as character 7 of {len(inside) + 13}" in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("around", [" ", "\n", "\r\n", "\ufeff", "\u200b", "\xa0", "\t"], ids=ascii)
def test_invisible_characters_around_a_setting_are_stripped(around: str) -> None:
    right = {name: f"{around}{value}{around}" for name, value in PLACEHOLDERS.items()}
    for service in SERVICES:
        settings = settings_of(settings_kind(service), right)
        assert settings == settings_of(settings_kind(service), PLACEHOLDERS)


@pytest.mark.e2e
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_exits_with_78_and_one_line(service: str, tmp_path: Path) -> None:
    text = "".join(f"{name}={value}\r\n" for name, value in PLACEHOLDERS.items())
    (tmp_path / ".env").write_bytes((text + "SEGUE_DRAIN_S=never\r\n").encode("utf-16"))
    code, out, err = await run([sys.executable, "-m", service.replace("-", "_")], tmp_path)
    expected = "SEGUE_DRAIN_S: Input should be a valid number, unable to parse string as a number"
    assert (code, out) == (EXIT_SETTINGS, "")
    (line,) = err.splitlines()
    assert line.startswith(f"{service} cannot start: {expected}")


@pytest.mark.e2e
@pytest.mark.parametrize("command", ["up", "doctor", "topics", "run orchestrator", "artifacts", "jobs"])
async def test_each_command_reports_an_unreadable_env_file_in_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / ".segue").mkdir()
    for name in (".env", ".segue/up.env"):
        (tmp_path / name).write_bytes("LOG_LEVEL=größer\n".encode("latin-1"))
    code, out, err = await run([sys.executable, "-m", "segue_cli", *command.split()], tmp_path)
    assert code == (1 if command == "doctor" else EXIT_SETTINGS)
    assert "LOG_LEVEL is not in UTF-8: save the file as UTF-8" in out + err
    assert "Traceback" not in out + err
    if command != "doctor":
        assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.e2e
@pytest.mark.parametrize("command", ["up --port 0", "demo"])
async def test_a_command_reports_wrong_settings_of_services_before_it_starts_any(command: str, tmp_path: Path) -> None:
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "tempo:4318", "LOG_LEVEL": "loud"}
    code, out, err = await run([sys.executable, "-m", "segue_cli", *command.split()], tmp_path, wrong)
    assert (code, out) == (EXIT_SETTINGS, "")
    (line,) = err.splitlines()
    assert "LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL" in line
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: must begin with http:// or https://" in line


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("service", "name"),
    [("orchestrator", "DATABASE_URL"), ("fal-adapter", "FAL_API_KEY"), ("gateway", "SEGUE_CALLBACK_SECRET")],
)
async def test_a_secret_in_a_file_that_cannot_be_used_is_one_line(service: str, name: str, tmp_path: Path) -> None:
    placeholders = {other: value for other, value in PLACEHOLDERS.items() if other not in (name, "FAL_KEY")}
    (tmp_path / ".env").write_text("".join(f"{other}={value}\n" for other, value in placeholders.items()))
    (tmp_path / "empty").touch()
    argv = [sys.executable, "-m", service.replace("-", "_")]
    for path, told in (("gone", "cannot be read: No such file or directory"), ("empty", "is empty")):
        code, out, err = await run(argv, tmp_path, {f"{name}_FILE": path})
        assert (code, out) == (EXIT_SETTINGS, "")
        (line,) = err.splitlines()
        assert line.startswith(f"{service} cannot start: {name}_FILE: {path} {told}")
    code, out, err = await run(argv, tmp_path, {f"{name}_FILE": "empty", name: SECRET})
    assert (code, out) == (EXIT_SETTINGS, "")
    assert err == f"{service} cannot start: {name} and {name}_FILE are both set: remove one of them\n"


@pytest.mark.e2e
async def test_an_unknown_setting_is_one_warning(tmp_path: Path) -> None:
    unusable = {"SEGUE_CATALOGUE": "gone.yaml"}
    (tmp_path / ".env").write_text("KAFKA_BOOTSTRAP_SERVER=there:9092\n")
    environ = {**PLACEHOLDERS, **unusable, "SEGUE_PROT": "8080", "SEGUE_FAL_SUBMITS_PER_MINUTE": "6"}
    code, out, _ = await run([sys.executable, "-m", "gateway"], tmp_path, environ)
    assert code == EXIT_SETTINGS
    logged = [json.loads(line) for line in out.splitlines()]
    noted = [each for each in logged if each["code"] == "setting_ignored"]
    assert [(each["level"], each["note"]) for each in noted] == [
        (
            "warning",
            "KAFKA_BOOTSTRAP_SERVER is not a setting of Segue; did you mean KAFKA_BOOTSTRAP_SERVERS?",
        ),
        ("warning", "SEGUE_PROT is not a setting of Segue; did you mean SEGUE_PORT?"),
    ]


IMPATIENT = """
import chassis.kafka.topics, chassis.postgres.pool
chassis.kafka.topics.START_LIMIT_S = chassis.postgres.pool.START_LIMIT_S = 0.5
from orchestrator.__main__ import main
main()
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("away", "expected", "told"),
    [
        ("DATABASE_URL", EXIT_TEMPORARY, "DATABASE_URL: no database answered at 127.0.0.1:1/x within"),
        ("KAFKA_BOOTSTRAP_SERVERS", EXIT_TEMPORARY, "KAFKA_BOOTSTRAP_SERVERS: no broker answered at 127.0.0.1:1"),
        ("the password", EXIT_SETTINGS, 'DATABASE_URL: role "nobody" does not exist'),
    ],
)
async def test_a_server_that_is_away_is_no_wrong_setting(
    away: str, expected: int, told: str, database_url: str, tmp_path: Path
) -> None:
    changed = {
        "DATABASE_URL": {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x"},
        "KAFKA_BOOTSTRAP_SERVERS": {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        "the password": {"DATABASE_URL": f"postgresql://nobody:hunter2@{database_url.rpartition('@')[2]}"},
    }
    environ = {**PLACEHOLDERS, "DATABASE_URL": database_url, **changed[away]}
    code, _, err = await run([sys.executable, "-c", IMPATIENT], tmp_path, environ)
    (line,) = err.splitlines()
    assert line.startswith(f"orchestrator cannot start: {told}")
    assert code == expected


def refused(kind: type[ServiceSettings], wrong: Mapping[str, str]) -> str:
    with pytest.raises(WrongSettings) as raised:
        settings_of(kind, {**PLACEHOLDERS, **wrong})
    return str(raised.value)


async def run(argv: list[str], cwd: Path, more: Mapping[str, str] | None = None) -> tuple[int | None, str, str]:
    env = {**without_settings(os.environ), **(more or {})}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, cwd=cwd, env=env, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), patient(90))
    return process.returncode, out.decode(), err.decode()
