"""`segue doctor` finds and explains each fault, and prints no secret."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest
from tests.patience import patient

from adapter_kit.port.outcomes import Failure, KeyRefused, NoAnswer
from contracts.failures import FailureKind
from segue_cli.doctor.advice import fal_key, probed, replicate_token

GOOD = "0a1b2c3d-key-id:sesame-open-32-characters-long-x"


@pytest.mark.parametrize(
    ("key", "other", "verdict", "found"),
    [
        (GOOD, None, "ok", "id 0a1b…, secret 32 characters"),
        (None, GOOD, "ok", "(from FAL_API_KEY)"),
        (GOOD, GOOD, "ok", "secret 32 characters"),
        (GOOD, "another:key", "warn", "FAL_API_KEY differs"),
        (None, None, "fail", "neither"),
        ("abcdef", None, "fail", "not of the form id:secret"),
        (":abcdef", None, "fail", "not of the form id:secret"),
        ("abcdef:", None, "fail", "not of the form id:secret"),
        (f'"{GOOD}"', None, "fail", "FAL_KEY: is in quotes"),
        (f"Key {GOOD}", None, "fail", "FAL_KEY: has U+0020 SPACE as character 4 of"),
        (None, f"{GOOD}\u200bx", "fail", "FAL_API_KEY: has U+200B ZERO WIDTH SPACE"),
    ],
)
def test_the_form_of_a_fal_key(key: str | None, other: str | None, verdict: str, found: str) -> None:
    finding = fal_key(key, other)
    assert finding.verdict == verdict
    assert found in finding.found
    assert bool(finding.todo) == (verdict != "ok")
    assert "sesame" not in finding.found + finding.todo


@pytest.mark.parametrize(
    ("token", "verdict"),
    [("r8_" + "t" * 37, "ok"), ("r8_" + "t" * 20, "warn"), ("Bearer r8_x", "fail"), ("tttt", "fail"), (None, "fail")],
)
def test_the_form_of_a_replicate_token(token: str | None, verdict: str) -> None:
    finding = replicate_token(token)
    assert finding.verdict == verdict
    assert token is None or token not in finding.found + finding.todo


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (FailureKind.UNAUTHORIZED, ("revoked", "format", "fal.ai/dashboard/keys")),
        (FailureKind.FORBIDDEN, ("scope", "access to this model", "revoked", "balance", "fal.ai/dashboard/keys")),
        (FailureKind.INSUFFICIENT_BALANCE, ("balance", "fal.ai/dashboard/billing")),
    ],
)
def test_a_refusal_of_fal_names_its_causes_and_the_page_to_correct_it(
    kind: FailureKind, named: tuple[str, ...]
) -> None:
    finding = probed("fal", KeyRefused(Failure(kind, "no", http_status=403)), "https://api.fal.ai")
    assert finding.verdict == "fail"
    assert "403: no" in finding.found
    assert all(word in finding.todo for word in named)


def test_no_answer_names_the_settings_that_change_the_address() -> None:
    finding = probed("fal", NoAnswer("connection refused"), "https://localhost:1")
    assert finding.verdict == "fail"
    assert "FAL_QUEUE_RUN_HOST" in finding.todo


def test_valid_keys_pass_all_checks(shell: Any, sandbox: dict[str, str]) -> None:
    done = shell.run("doctor", env={**sandbox, "ARTIFACT_STORE_URL": f"file://{shell.folder}/kept"})
    assert done.returncode == 0, done.stdout
    assert "fal accepts the key" in done.stdout
    assert "replicate accepts the key" in done.stdout
    assert "Nothing is wrong" in done.stdout
    assert "sesame" not in done.stdout
    assert "tttt" not in done.stdout
    assert list((shell.folder / "kept").rglob("*")) in ([], [shell.folder / "kept" / "doctor"])


def test_refused_keys_fail_and_are_explained(shell: Any, sandbox: dict[str, str]) -> None:
    with httpx.Client(base_url=sandbox["SEGUE_SANDBOX_URL"], trust_env=False, timeout=patient(60)) as control:
        keys = [sandbox["FAL_KEY"], sandbox["REPLICATE_API_TOKEN"]]
        control.patch("/settings", json={"bad_keys": keys}).raise_for_status()
        done = shell.run("doctor", env=sandbox)
        control.patch("/settings", json={"bad_keys": []}).raise_for_status()
    assert done.returncode == 1
    flat = " ".join(done.stdout.split())
    assert "fal.ai/dashboard/keys" in flat
    assert "replicate.com/account/api-tokens" in flat
    assert "2 of" in flat
    assert "sesame" not in flat
    assert "tttt" not in flat


def test_each_wrong_setting_is_named(shell: Any) -> None:
    (shell.folder / "models.yaml").write_text("models: 3\n")
    wrong = {
        "MUSIC_PROVIDER": "spotify",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://who:sesame@127.0.0.1:1/x",
        "SEGUE_CATALOGUE": str(shell.folder / "models.yaml"),
        "ARTIFACT_STORE_URL": "ftp://there",
    }
    done = shell.run("doctor", env=wrong)
    assert done.returncode == 1
    for line in (
        "FAL_KEY",
        "REPLICATE_API_TOKEN",
        "MUSIC_PROVIDER",
        "broker",
        "database",
        "catalogue",
        "artifact store",
    ):
        assert any(each.startswith("fail") and line in each for each in done.stdout.splitlines()), (line, done.stdout)
    assert "sesame" not in done.stdout


async def test_a_broker_and_a_database_are_examined(shell: Any, embedded_kafka: str, database_url: str) -> None:
    done = shell.run("doctor", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka, "DATABASE_URL": database_url})
    flat = " ".join(done.stdout.split())
    assert "ok broker" in flat
    assert "ok topics" in flat
    assert "ok database PostgreSQL" in flat
    assert "warn schema orchestrator not there yet" in flat


def test_without_an_up_there_is_no_sandbox_to_examine(shell: Any) -> None:
    done = shell.run("doctor", "--sandbox")
    assert done.returncode == 1
    assert "No `segue up` runs in this folder" in done.stdout


def test_the_doctor_reads_the_folder_s_env_file(shell: Any) -> None:
    (shell.folder / ".env").write_text("FAL_KEY=no-colon\n")
    assert "not of the form id:secret: 8 characters" in shell.run("doctor").stdout


WRONG = {
    "FAL_KEY": "a:b\u200bc",
    "REPLICATE_API_TOKEN": "r8_sesame\xe9",
    "LOG_LEVEL": "loud",
    "SEGUE_DRAIN_S": "-1",
    "MUSIC_PROVIDER": "spotify",
    "KAFKA_BOOTSTRAP_SERVERS": "no-such-host.invalid:9092",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://tempo:4317",
    "SSL_CERT_FILE": "/nowhere.pem",
    "HTTPS_PROXY": "socks9://x",
    "ARTIFACT_STORE_URL": "s3://bucket",
    "AWS_ACCESS_KEY_ID": "a\nb",
    "SEGUE_EGRESS_ALLOW": "10.0.0.0/33",
    "SEGUE_ROUTING": "/nowhere.yaml",
}
LINES = (
    "SEGUE_EGRESS_ALLOW: '10.0.0.0/33' is neither a host name nor",
    "SEGUE_ROUTING: /nowhere.yaml can't be read: No such file or directory",
    "LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
    "SEGUE_DRAIN_S: Input should be greater than 0",
    "OTEL_EXPORTER_OTLP_ENDPOINT: is for gRPC",
    "KAFKA_BOOTSTRAP_SERVERS: no broker answered at no-such-host.invalid:9092",
    "AWS_ACCESS_KEY_ID: has U+000A LINE FEED as character 2 of 3",
    "SSL_CERT_FILE or SSL_CERT_DIR cannot be used: No such file or directory",
)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://who:sesame@x@db/x", "DATABASE_URL: has more than one '@'"),
        (
            "postgresql://who:sesame@127.0.0.1:1,127.0.0.1:2/x",
            "DATABASE_URL: no connection to 127.0.0.1:1,127.0.0.1:2/x: ",
        ),
        (
            "postgresql://127.0.0.1/x?channel_binding=require",
            "DATABASE_URL: channel_binding=require cannot be honoured",
        ),
    ],
)
def test_it_never_crashes_and_prints_the_messages_of_the_services(shell: Any, url: str, line: str) -> None:
    (shell.folder / ".env").write_bytes("SEGUE_HOST=größer".encode("latin-1"))
    done = shell.run("doctor", env={**WRONG, "DATABASE_URL": url})
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert "sesame" not in done.stdout
    messages = done.stdout.partition("checks failed:")[2]
    for wanted in (*LINES, line, ".env: SEGUE_HOST is not in UTF-8"):
        assert wanted in messages


def test_wrong_keys_get_the_messages_of_the_services(shell: Any) -> None:
    messages = shell.run("doctor", env={**WRONG, "SSL_CERT_FILE": ""}).stdout.partition("checks failed:")[2]
    assert "FAL_KEY: has U+200B ZERO WIDTH SPACE as character 4 of 5" in messages
    assert "REPLICATE_API_TOKEN: has U+00E9 LATIN SMALL LETTER E WITH ACUTE as character 10 of 10" in messages


async def test_a_role_without_rights_gets_the_message_of_a_service(shell: Any, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE ROLE visitor LOGIN")
        done = shell.run("doctor", env={"DATABASE_URL": database_url.replace("segue@", "visitor@")})
    finally:
        await connection.execute("DROP ROLE visitor")
        await connection.close()
    with_line = [
        line for line in done.stdout.splitlines() if 'DATABASE_URL: the role "visitor" may not create schema' in line
    ]
    assert len(with_line) == 2 * 5
    assert "GRANT CREATE ON DATABASE" in with_line[-1]
