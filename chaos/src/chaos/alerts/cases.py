"""All faults, by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from chaos.alerts import of_providers, of_services
from chaos.alerts.case import Case

CASES: Final = (*of_services.CASES, *of_providers.CASES)
_BY_NAME: Final[Mapping[str, Case]] = {case.name: case for case in CASES}


def case_named(name: str) -> Case:
    """The case with this name. Ends the process with one line if there is none."""
    if name not in _BY_NAME:
        sys.exit(f"there is no fault {name}: one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
