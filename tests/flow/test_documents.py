"""The documents match the code: the files, tests and links that they name exist, and every setting is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from chassis.settings.names import SECRETS
from contracts.providers.registry import PROVIDERS
from contracts.topics import SERVICES
from segue_cli.stack.service_settings import settings_kind

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*/*.md")])
SETTING = re.compile(r"^\| `(?P<name>[A-Z_]+)` \| (?P<default>[^|]+) \|", re.MULTILINE)
ROWS = SETTING.findall((ROOT / "docs/settings.md").read_text(encoding="utf-8"))


def names(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str)]


FIELDS = [
    pytest.param(name, field, id=f"{service}-{name}")
    for service in SERVICES
    for field in settings_kind(service).model_fields.values()
    for name in names(field)
]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_is_documented_with_its_default(name: str, field: FieldInfo) -> None:
    documented = {default for setting, default in ROWS if setting == name}
    if name != names(field)[0] or field.default is None:
        wanted = "unset"
    elif field.is_required():
        wanted = "required"
    else:
        wanted = str(field.default) or "empty"
    rows = (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines()
    assert wanted in documented or any(f"`{name}`" in row and f" {wanted} by default" in row for row in rows)


def test_each_documented_setting_is_read_by_a_service() -> None:
    assert {name for name, _ in ROWS} == {str(param.values[0]) for param in FIELDS}


def test_each_secret_is_documented_to_be_possible_in_a_file() -> None:
    section = (ROOT / "docs/settings.md").read_text(encoding="utf-8").partition("## Secrets in files")[2]
    listed = section.partition("in the environment and in")[0].partition("applies to")[2]
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(SECRETS)


def test_the_example_file_lists_every_setting_and_sets_none() -> None:
    example = ROOT / ".env.example"
    offered = set(re.findall(r"^#([A-Z_]+)=", example.read_text(encoding="utf-8"), re.MULTILINE))
    assert {str(param.values[0]) for param in FIELDS} - offered == set()
    assert dotenv_values(example) == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_target_of_a_link_exists(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    here = [link for link in links if "://" not in link]
    assert [link for link in here if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_or_test_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)(?:::(\w+))?`", document.read_text(encoding="utf-8"))
    folders = [ROOT, *ROOT.glob("*/src"), *ROOT.glob("services/*/src"), document.parent]
    tops = {path.name for folder in folders for path in folder.iterdir()}
    missing = []
    for path, test in named:
        if path.split("/")[0] not in tops or path.split("/")[0] in PROVIDERS:
            continue
        found = [folder / path for folder in folders if (folder / path).exists()]
        if not found or (test and test not in functions(found[0])):
            missing.append(f"{path}::{test}")
    assert missing == []


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_reference_documents_are_up_to_date() -> None:
    command = [sys.executable, "docs/reference.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (checked.stdout, checked.returncode) == ("", 0)
