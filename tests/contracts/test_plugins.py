"""Specs of installed distributions are found by their entry points, and other objects are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.plugins import load_plugins
from contracts.providers.fal import FAL
from contracts.providers.replicate import REPLICATE
from contracts.providers.spec import ProviderSpec


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a distribution's entry points."""
    folder = tmp_path / "some-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder / "entry_points.txt"


def test_specs_are_in_the_order_of_their_names(declare: Path) -> None:
    assert load_plugins("some.group", ProviderSpec) == ()
    declare.write_text("[some.group]\nb = contracts.providers.fal:FAL\na = contracts.providers.replicate:REPLICATE\n")
    assert load_plugins("some.group", ProviderSpec) == (REPLICATE, FAL)


def test_an_object_that_is_not_a_spec_is_refused(declare: Path) -> None:
    declare.write_text("[some.group]\na = contracts.providers.fal:FAL\nb = json:dumps\n")
    with pytest.raises(TypeError, match=r"an entry point of some\.group is not a ProviderSpec: <function dumps"):
        load_plugins("some.group", ProviderSpec)
