"""The units of systemd: an outage stops nothing for good, and a setup that fails stops no service."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.patience import patient

from chassis.errors import EXIT_SETTINGS

UNITS = Path(__file__).parents[2] / "deploy/systemd"
PAGE = Path(__file__).parents[2] / "docs/operations/processes.md"
SETUP, SERVICE = UNITS / "segue-setup.service", UNITS / "segue@.service"


def settings(unit: Path) -> dict[str, list[str]]:
    """The values of each setting of the unit."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"(?m)^(\w+)=(.*)$", unit.read_text()):
        found.setdefault(name, []).append(value)
    return found


def test_setup_is_started_again_after_an_outage() -> None:
    setup = settings(SETUP)
    assert setup["Type"] == ["oneshot"]
    assert setup["Restart"] == ["on-failure"]
    assert float(setup["RestartSec"][0]) > 0


def test_setup_asks_for_three_copies_of_each_record() -> None:
    assert settings(SETUP)["ExecStart"][0].endswith("/segue topics --create --replication 3")


def test_a_failed_setup_neither_prevents_nor_stops_a_service() -> None:
    service = settings(SERVICE)
    assert SETUP.name in service["Wants"][0].split()
    for name in ("Requires", "Requisite", "BindsTo", "PartOf", "Upholds"):
        assert SETUP.name not in " ".join(service.get(name, []))


def test_only_a_wrong_setting_is_final() -> None:
    for unit in (SETUP, SERVICE):
        given = settings(unit)
        assert given["RestartPreventExitStatus"] == [str(EXIT_SETTINGS)]
        assert given["StartLimitIntervalSec"] == ["0"]
    assert settings(SERVICE)["Restart"] == ["always"]


def test_a_service_waits_for_what_setup_makes_and_then_says_itself_what_is_wrong() -> None:
    service = settings(SERVICE)
    waits = service["ExecStartPre"]
    assert [each.split(" ", 1)[1].rpartition(" --wait ")[0] for each in waits] == ["topics", "migrate %i"]
    # systemd restarts a service whose ExecStartPre= fails, whatever its exit code.
    assert all(each.startswith("-/") for each in waits)
    assert sum(int(each.rpartition(" ")[2]) for each in waits) < int(service["TimeoutStartSec"][0])


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_doctor_is_given_the_settings_of_the_services(tmp_path: Path, shell: str) -> None:
    blocks = re.findall(r"(?ms)^```\n(.*?)^```$", PAGE.read_text("utf-8"))
    files = {found[1]: block for block in blocks if (found := re.match(r"# /etc/segue/([\w-]+\.env)\n", block))}
    url = "postgresql://segue:p$1@db/segue?sslmode=verify-full&sslrootcert=/etc/segue/ca.crt"
    files["segue.env"] += f"DATABASE_URL='{url}'\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    [command] = [block for block in blocks if "segue doctor" in block]
    # Its environment is shown in place of the doctor, which asks the providers; there is no user `segue` here.
    for there, here in (
        ("/etc/segue/", f"{tmp_path}/"),
        ("cd /var/lib/segue", f"cd {tmp_path}"),
        ("runuser -u segue -- /opt/segue/bin/segue doctor", "env"),
    ):
        assert there in command
        command = command.replace(there, here)
    done = subprocess.run(
        [shell, "-c", command],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=patient(30),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"DATABASE_URL={url}" in done.stdout.splitlines()
    for name in ("segue.env", "fal-adapter.env", "replicate-adapter.env"):
        for line in files[name].splitlines():
            if not line.startswith(("#", "DATABASE_URL=")):
                assert line in done.stdout.splitlines()
