"""Which providers a stack uses, and which services it runs for them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from segue_cli.stack.components import StackFailed
from segue_cli.stack.providers import Choice, chosen

FAL = {"FAL_KEY": "id:secret"}
REPLICATE = {"REPLICATE_API_TOKEN": "r8_token"}


@pytest.mark.parametrize(
    ("environ", "live", "names", "left_out"),
    [
        ({}, False, ("fal", "replicate"), None),
        ({"SEGUE_PROVIDERS": "replicate"}, False, ("replicate",), None),
        ({**FAL, **REPLICATE}, True, ("fal", "replicate"), None),
        (FAL, True, ("fal",), "replicate has no key (REPLICATE_API_TOKEN is not set) and is left out"),
        (
            {"FAL_API_KEY": "id:secret"},
            True,
            ("fal",),
            "replicate has no key (REPLICATE_API_TOKEN is not set) and is left out",
        ),
        (REPLICATE, True, ("replicate",), "fal has no key (FAL_KEY (or FAL_API_KEY) is not set) and is left out"),
        ({**FAL, "SEGUE_PROVIDERS": "fal"}, True, ("fal",), None),
        ({**FAL, **REPLICATE, "SEGUE_PROVIDERS": "replicate, fal"}, True, ("replicate", "fal"), None),
    ],
)
def test_the_providers_with_a_key_are_used(
    environ: Mapping[str, str], live: bool, names: tuple[str, ...], left_out: str | None
) -> None:
    assert chosen(environ, live=live) == Choice(names, left_out)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "--providers live needs FAL_KEY (or FAL_API_KEY) or REPLICATE_API_TOKEN in the environment or in .env"),
        (
            {**FAL, "SEGUE_PROVIDERS": "fal,replicate"},
            "SEGUE_PROVIDERS names replicate, and REPLICATE_API_TOKEN is not set: set it, or take replicate out",
        ),
    ],
)
def test_a_missing_key_that_is_needed_is_refused_in_one_line(environ: Mapping[str, str], line: str) -> None:
    with pytest.raises(StackFailed) as failed:
        chosen(environ, live=True)
    assert (str(failed.value), failed.value.code) == (line, 78)


def test_only_the_adapters_of_the_providers_run() -> None:
    assert Choice(("replicate",)).services == ("gateway", "orchestrator", "replicate-adapter", "log-sink")
    assert Choice(("replicate", "unknown")).services == Choice(("replicate",)).services
