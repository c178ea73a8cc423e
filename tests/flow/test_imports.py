"""Importing a module has no side effects: it reads no environment variable, opens no socket, starts no process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import patient

PACKAGES = (
    "contracts",
    "read_model",
    "chassis",
    "adapter_kit",
    "gateway",
    "orchestrator",
    "fal_adapter",
    "replicate_adapter",
    "log_sink",
    "sandbox",
    "segue_cli",
)

PROBE = """
import importlib, inspect, json, os, pkgutil, sys

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "http.client.")
ours, done = tuple(sys.argv[1].split(",")), []

def importer():
    frame = inspect.currentframe().f_back.f_back
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in ours and frame.f_code.co_name == "<module>":
            return frame.f_globals["__name__"]
        frame = frame.f_back

def record(event, args):
    if event.startswith(FORBIDDEN) and event != "socket.gethostname":
        done.append(f"{importer()}: {event}")

class Environment(type(os.environ)):
    # Libraries may read it; the direct caller must not be a module of this project.
    def __getitem__(self, name):
        frame = inspect.currentframe().f_back
        while frame.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc", "__main__"):
            if (frame := frame.f_back) is None:
                break
        asks = frame.f_globals.get("__name__", "") if frame else ""
        if asks.partition(".")[0] in ours:
            done.append(f"{asks}: reads {name}")
        return super().__getitem__(name)

os.environ.__class__ = Environment
sys.addaudithook(record)
imported = []
for package in ours:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        importlib.import_module(found.name)
        imported.append(found.name)
print(json.dumps({"imported": imported, "done": done}))
"""


def imported(packages: tuple[str, ...], path: str = "") -> dict[str, list[str]]:
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", PROBE, ",".join(packages)],
        env=env,
        capture_output=True,
        text=True,
        timeout=patient(100),
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    answer: dict[str, list[str]] = json.loads(run.stdout)
    return answer


def test_importing_a_module_has_no_side_effects() -> None:
    answer = imported(PACKAGES)
    assert answer["done"] == []
    assert {name.partition(".")[0] for name in answer["imported"]} == set(PACKAGES)


def test_the_probe_reports_each_side_effect(tmp_path: Path) -> None:
    package = tmp_path / "busy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "reads.py").write_text("import os\nPORT = os.environ.get('PORT')\nHOME = os.getenv('HOME')\n")
    (package / "opens.py").write_text("import socket\nsocket.socket().close()\n")
    (package / "runs.py").write_text("import subprocess\nsubprocess.run(['true'])\n")
    done = imported(("busy",), str(tmp_path))["done"]
    assert "busy.reads: reads PORT" in done
    assert "busy.reads: reads HOME" in done
    assert "busy.opens: socket.__new__" in done
    assert "busy.runs: subprocess.Popen" in done
