"""Which providers are enabled, and which is tried first."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chassis.settings.providers import ProviderSettings
from chassis.settings.service import WrongSettings, settings_of

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "DATABASE_URL": "postgresql://127.0.0.1/segue"}


def settings(told: Mapping[str, str]) -> ProviderSettings:
    return settings_of(ProviderSettings, {**REQUIRED, **told})


@pytest.mark.parametrize(
    ("told", "enabled", "first"),
    [
        ({}, ("fal", "replicate"), "fal"),
        ({"MUSIC_PROVIDER": "replicate"}, ("fal", "replicate"), "replicate"),
        ({"SEGUE_PROVIDERS": "replicate"}, ("replicate",), "replicate"),
        ({"SEGUE_PROVIDERS": " replicate , fal,fal,"}, ("replicate", "fal"), "fal"),
        ({"SEGUE_PROVIDERS": "fal", "MUSIC_PROVIDER": "fal"}, ("fal",), "fal"),
    ],
)
def test_the_enabled_providers_and_the_first(told: Mapping[str, str], enabled: tuple[str, ...], first: str) -> None:
    found = settings(told)
    assert (found.providers, found.music_provider) == (enabled, first)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"SEGUE_PROVIDERS": "fal,spotify"}, "SEGUE_PROVIDERS: 'spotify' is no provider; there is fal, replicate"),
        ({"SEGUE_PROVIDERS": ","}, "SEGUE_PROVIDERS: names no provider; there is fal, replicate"),
        ({"SEGUE_PROVIDERS": "spotify", "MUSIC_PROVIDER": "fal"}, "SEGUE_PROVIDERS: 'spotify' is no provider"),
        ({"MUSIC_PROVIDER": "spotify"}, "MUSIC_PROVIDER: 'spotify' is no provider; there is fal, replicate"),
        (
            {"SEGUE_PROVIDERS": "replicate", "MUSIC_PROVIDER": "fal"},
            "MUSIC_PROVIDER: 'fal' is not enabled: SEGUE_PROVIDERS names replicate",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(told: Mapping[str, str], line: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        settings(told)
    (problem,) = refused.value.problems
    assert problem.startswith(line)
