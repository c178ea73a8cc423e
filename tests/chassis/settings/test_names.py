"""The list of all settings is complete, and a name that is not on it is noted with the one that was meant."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.settings.names import SECRETS, SETTINGS, TOOLS, names_of, secrets_of, unknown_names
from contracts.providers.registry import PROVIDERS
from contracts.topics import SERVICES
from segue_cli.stack.environment import PROVIDER_SETTINGS
from segue_cli.stack.service_settings import settings_kind

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = re.compile(r"(?:SEGUE|KAFKA)_[A-Z_]+[A-Z]")


def test_the_list_is_that_of_the_classes() -> None:
    kinds = [settings_kind(service) for service in SERVICES]
    assert set(SETTINGS) == set().union(*map(names_of, kinds))
    assert set(SECRETS) == set().union(*map(secrets_of, kinds))
    assert len(set(SETTINGS)) == len(SETTINGS)


def test_the_sandbox_replaces_every_secret_of_a_provider() -> None:
    assert {name for spec in PROVIDERS.values() for name in spec.secrets} <= set(PROVIDER_SETTINGS)


def variables(name: str) -> Iterator[str]:
    """The names of variables that a file reads or sets, as far as its form says so."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        texts = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        yield from (each for each in texts if isinstance(each, str) and VARIABLE.fullmatch(each))
    else:
        yield from re.findall(rf"({VARIABLE.pattern})=", text)


def test_each_variable_that_a_program_reads_is_known() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    folders = ("cli/", "chaos/", "bench/", "sandbox/", "deploy/", ".ci/")
    read = {name for name in listed if name.startswith(folders) and name.endswith((".py", "/run", "Dockerfile"))}
    read |= {".env.example", "Makefile", "tests/patience.py", "tests/e2e/test_hostile_records.py"}
    found = {each for name in read if (ROOT / name).is_file() for each in variables(name)}
    assert {"SEGUE_API", "SEGUE_TEST_JOBS", "KAFKA_BOOTSTRAP_SERVERS"} <= found
    assert {each for each in found if unknown_names({each: "x"})} == set()
    assert set(TOOLS) - found == set()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SEGUE_PROT", "SEGUE_PORT"),
        ("SEGUE_HOSTS", "SEGUE_HOST"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("SEGUE_KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SESSION_TIMEOUT_S", "SEGUE_KAFKA_SESSION_TIMEOUT_S"),
        ("SEGUE_DATABASE_URL", "DATABASE_URL"),
        ("SEGUE_LOG_LEVEL", "LOG_LEVEL"),
        ("SEGUE_FAL_CONCURENT_RUNS", "SEGUE_FAL_CONCURRENT_RUNS"),
        ("segue_prot", "SEGUE_PORT"),
        ("SEGUE_CALLBACK_SECRETS_FILE", "SEGUE_CALLBACK_SECRET_FILE"),
        ("SEGUE_ROUTING_FILE", "SEGUE_ROUTING"),
        ("SEGUE_APIS", "SEGUE_API"),
    ],
)
def test_an_unknown_name_is_told_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert unknown_names({name: "1"}) == (f"{name} is not a setting of Segue; did you mean {meant}?",)


def test_an_unknown_name_like_no_other_is_told_alone_and_not_at_length() -> None:
    assert unknown_names({"SEGUE_XYZZY": "1"}) == ("SEGUE_XYZZY is not a setting of Segue, and nothing reads it",)
    (line,) = unknown_names({f"KAFKA_{'Q' * 5000}": "1"})
    assert len(line) < 150


def test_what_belongs_to_another_service_or_program_is_not_unknown() -> None:
    others = dict.fromkeys((*SETTINGS, *TOOLS, *(f"{name}_FILE" for name in SECRETS)), "1")
    others |= {"segue_port": "1", "SEGUE_EMPTY": "", "SEGUE_BLANK": " ", "SEGUEWAY": "1", "KAFKACAT": "1", "PATH": "x"}
    assert unknown_names(others) == ()


def test_what_kubernetes_says_about_services_is_not_unknown() -> None:
    links = {
        "KAFKA_SERVICE_HOST": "10.0.0.1",
        "KAFKA_SERVICE_PORT": "9092",
        "KAFKA_SERVICE_PORT_PLAIN": "9092",
        "KAFKA_PORT": "tcp://10.0.0.1:9092",
        "KAFKA_PORT_9092_TCP": "tcp://10.0.0.1:9092",
        "KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
        "SEGUE_GATEWAY_SERVICE_HOST": "10.0.0.2",
        "SEGUE_GATEWAY_PORT": "tcp://10.0.0.2:8080",
    }
    assert unknown_names(links) == ()


def test_the_settings_of_an_added_adapter_are_known_to_itself() -> None:
    assert (
        unknown_names({"SEGUE_QUILL_PENS": "1", "SEGUE_QUILL_KEY_FILE": "x"}, {"SEGUE_QUILL_PENS", "SEGUE_QUILL_KEY"})
        == ()
    )
