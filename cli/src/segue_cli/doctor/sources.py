"""Where each setting comes from, with what hides what; no secret is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chassis.settings.env_file import BadEnvironment, read_env_file
from chassis.settings.names import SECRETS, SUFFIX, unknown_names
from chassis.settings.secret_files import replace, secret_files, with_secrets
from segue_cli.doctor.advice import Finding
from segue_cli.stack import environment

ENVIRONMENT: Final = "the environment"

_LOGIN: Final = re.compile(r"//[^/\s]*@")
_MOST_SHOWN: Final = 80


@dataclass(slots=True)
class Sources:
    """The settings of the environment and of env files, and findings about the files."""

    values: dict[str, str] = field(default_factory=dict)
    """The settings that count, with secrets from files."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where each of them is from, by name, in words."""
    findings: list[Finding] = field(default_factory=list)


def read_sources(told: Path | None) -> Sources:
    """The settings of the environment and of `.env`, below those of the file `told`, if there is one."""
    found = Sources()
    layers = [(ENVIRONMENT, environment.around()), (".env", _held_in(Path(".env"), found.findings))]
    if told is not None:
        # All provider settings are dropped: a key of one set must not be sent to a host of another.
        dropped = {*environment.PROVIDER_SETTINGS, *(name + SUFFIX for name in environment.PROVIDER_SETTINGS)}
        kept = [(where, {k: v for k, v in values.items() if k not in dropped}) for where, values in layers]
        layers = [(str(told), _held_in(told, found.findings)), *kept]
    written: dict[str, str] = {}
    for _, values in reversed(layers):
        replace(written, values, SECRETS)
    found.findings += _shadowed(layers, written)
    files = secret_files(written, SECRETS)
    found.values = _with_secrets(written, found.findings)
    for name in found.values:
        key = name + SUFFIX if name in files else name
        found.origins[name] = next(where for where, values in layers if key in values)
        if name in files:
            found.origins[name] += f", from {files[name]}"
    found.findings += [
        Finding("settings", "warn", note, "Correct its name, or remove it.") for note in unknown_names(written)
    ]
    return found


def shown(name: str, value: str) -> str:
    """A setting's value for the screen: of a secret only that it is set, of a URL no user, password and parameters."""
    if name in SECRETS:
        return "set"
    text = _LOGIN.sub("//…@", value)
    if "://" in text and "?" in text:
        text = f"{text.partition('?')[0]}?…"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _held_in(path: Path, findings: list[Finding]) -> dict[str, str]:
    try:
        findings += [Finding(path.name, "warn", note) for note in read_env_file(path).notes]
        return environment.read_env(path)
    except BadEnvironment as error:
        findings.append(Finding(path.name, "fail", str(error), "No service reads any part of it."))
        return {}


def _with_secrets(written: Mapping[str, str], findings: list[Finding]) -> dict[str, str]:
    values = dict(written)
    for name in SECRETS:
        try:
            values = with_secrets(values, (name,))
        except BadEnvironment as error:
            todo = "Services exit with 78 until then."
            findings.append(Finding(f"{name}{SUFFIX}", "fail", str(error), todo))
            values.pop(name + SUFFIX)
    return values


def _shadowed(layers: list[tuple[str, dict[str, str]]], written: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each value of a file that another one is used in the place of."""
    for where, values in layers[1:]:
        for name, value in values.items():
            above = next((upper for upper, others in layers if _names(name) & others.keys()), where)
            if above != where and written.get(name) != value:
                used = next(iter(_names(name) & written.keys()), name)
                what = f"{where} has another value than {above}, which is the one that is used"
                told = f" ({shown(used, written[used])})" if used in environment.SETTINGS and used in written else ""
                yield Finding(used, "warn", f"{what}{told}", f"Remove it from {above}, or from {where}.")


def _names(name: str) -> set[str]:
    """The names of the same setting: a secret and its file are one."""
    secret = name.removesuffix(SUFFIX)
    return {secret, secret + SUFFIX} if secret in SECRETS else {name}
