"""The file of Docker Compose: whole, with settings that exist, and open to nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from chassis.settings.names import SETTINGS
from chassis.settings.service import ServiceSettings
from contracts.topics import ADAPTERS, SERVICES

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
PARTS: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: part for name, part in PARTS.items() if "SEGUE_IMAGE" in part["image"]}


def services_in(profile: str) -> list[str]:
    """What `segue run` is given, of the parts that run in a profile, in order."""
    running = (part for part in OURS.values() if profile in part.get("profiles", [profile]))
    return sorted(part["command"][1] for part in running if part.get("command", [""])[0] == "run")


@pytest.mark.parametrize("profile", ["sandbox", "live"])
def test_a_profile_runs_every_service_once(profile: str) -> None:
    assert services_in(profile) == sorted(SERVICES)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_provider_has_a_profile_that_runs_without_the_others(adapter: str) -> None:
    others = {each for each in ADAPTERS if each != adapter}
    assert services_in(adapter.removesuffix("-adapter")) == sorted({*SERVICES} - others)


@pytest.mark.parametrize("name", OURS)
def test_services_are_given_settings_that_they_know(name: str) -> None:
    assert OURS[name].get("environment", {}).keys() <= {*SETTINGS, "SSL_CERT_FILE"}


@pytest.mark.parametrize("name", OURS)
def test_services_can_neither_write_nor_gain_rights(name: str) -> None:
    part = OURS[name]
    assert (part["read_only"], part["cap_drop"]) == (True, ["ALL"])
    assert part["security_opt"] == ["no-new-privileges:true"]


def test_a_service_may_finish_before_it_is_killed() -> None:
    drain_s = ServiceSettings.model_fields["drain_s"].default
    graces = [part["stop_grace_period"] for part in OURS.values() if part.get("command", [""])[0] == "run"]
    assert graces == ["35s"] * len(graces)
    assert drain_s < 35


@pytest.mark.parametrize("name", PARTS)
def test_ports_are_this_machines_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in PARTS[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(PARTS.keys() - OURS.keys()))
def test_images_of_others_have_a_version(name: str) -> None:
    _, _, version = PARTS[name]["image"].rpartition(":")
    assert any(char.isdigit() for char in version)


@pytest.mark.parametrize("name", PARTS)
def test_mounted_files_are_there(name: str) -> None:
    mounted = [volume.split(":")[0] for volume in PARTS[name].get("volumes", [])]
    assert all((ROOT / "deploy" / path).exists() for path in mounted if path.startswith("."))
    assert {path for path in mounted if not path.startswith(".")} <= COMPOSE["volumes"].keys()


def test_prometheus_asks_every_service() -> None:
    [job] = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert {name for name, part in OURS.items() if part.get("command", [""])[0] == "run"} == {*found["names"]}
