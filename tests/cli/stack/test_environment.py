"""Settings: each is registered and documented, and env files are private and read back unchanged."""

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices

from chassis.settings.env_file import BadEnvironment
from chassis.settings.service import ServiceSettings
from fal_adapter.settings import FalSettings
from gateway.settings import GatewaySettings
from log_sink.settings import SinkSettings
from orchestrator.settings import OrchestratorSettings
from replicate_adapter.settings import ReplicateSettings
from segue_cli.stack.environment import SETTINGS, read_env, without_settings, write_env

KINDS = (GatewaySettings, OrchestratorSettings, FalSettings, ReplicateSettings, SinkSettings)
EXAMPLE = Path(__file__).parents[3] / ".env.example"


def names(kind: type[ServiceSettings]) -> set[str]:
    found: set[str] = set()
    for each in kind.model_fields.values():
        alias = each.validation_alias
        found |= set(map(str, alias.choices)) if isinstance(alias, AliasChoices) else {str(alias)}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_every_service_is_known(kind: type[ServiceSettings]) -> None:
    assert names(kind) - set(SETTINGS) == set()


def test_every_setting_is_documented_in_the_example() -> None:
    documented = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert set(SETTINGS) - documented == set()


def test_the_example_sets_nothing() -> None:
    assert read_env(EXAMPLE) == {}


def test_an_env_file_is_private_and_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "up.env"
    path.write_text("OLD=1")
    path.chmod(0o644)
    values = {"DATABASE_URL": "postgresql://u:p$w#d@h:1/d", "PROMPT": 'a "b" c', "PLAIN": "x", "QUOTE": 'it\'s \\ "b"'}
    write_env(path, values)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_env(path) == values


def test_a_value_that_an_env_file_cannot_keep_is_refused_and_the_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "up.env"
    write_env(path, {"A": "1"})
    with pytest.raises(BadEnvironment, match=r"^A: has a line break, which an env file cannot keep"):
        write_env(path, {"A": "two\nlines"})
    assert read_env(path) == {"A": "1"}


def test_the_demo_inherits_only_the_settings_of_traces_and_logs() -> None:
    kept = {"PATH": "/bin", "LOG_LEVEL": "DEBUG", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    assert without_settings({**kept, "FAL_KEY": "real:key", "DATABASE_URL": "x"}) == kept
