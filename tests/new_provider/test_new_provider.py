"""A further provider and modality need a distribution with specs, an adapter and routes, and no change to Segue."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.patience import patient

HERE = Path(__file__).parent
ENTRY_POINTS = "[segue.providers]\nquill = quill:QUILL\n[segue.modalities]\nsketch = quill:SKETCH\n"


def installed(folder: Path) -> None:
    """Write the metadata of a distribution to a folder, as an installer does."""
    metadata = folder / "quill-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quill\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)


@pytest.mark.e2e
async def test_jobs_run_with_the_provider_and_the_modality_of_a_distribution(tmp_path: Path) -> None:
    installed(tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "jobs.py")),
        cwd=HERE.parents[1],
        env=environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(HERE)))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(patient(100)):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert b"1 passed" in output
