"""A collector with a store and a work directory, in which nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cdn import Collecting


@pytest.fixture
def collecting(tmp_path: Path) -> Collecting:
    (tmp_path / "work").mkdir()
    return Collecting(tmp_path)


@pytest.fixture
def no_temporary_file_is_left(collecting: Collecting) -> Iterator[None]:
    yield
    assert list(collecting.work.iterdir()) == []
