"""Checks the settings of all services before any of them is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from chassis.settings.service import ServiceSettings, WrongSettings, settings_of
from contracts.topics import SERVICES
from segue_cli.stack.components import module_of


def settings_kind(service: str) -> type[ServiceSettings]:
    """A service's class of settings: the one that its module `settings` defines."""
    module = import_module(f"{module_of(service)}.settings")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    [kind] = [kind for kind in kinds if issubclass(kind, ServiceSettings)]
    return kind


def problems(
    environ: Mapping[str, str], placeholders: Mapping[str, str], services: Iterable[str] = SERVICES
) -> list[str]:
    """What these services would refuse in these settings, each problem once; `placeholders` replace missing values."""
    found: dict[str, None] = {}
    given = {name: value for name, value in environ.items() if value}
    if "FAL_API_KEY" in given:
        placeholders = {name: value for name, value in placeholders.items() if name != "FAL_KEY"}
    for service in services:
        try:
            settings_of(settings_kind(service), {**placeholders, **given})
        except WrongSettings as error:
            found.update(dict.fromkeys(error.problems))
    return list(found)
