"""A process that has used the artifact store ends with its own exit code, and is not finalized."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROCESS = """
import atexit, sys
{imports}
from chassis.runtime.leaving import leave

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
atexit.register(print, "at exit")
leave(SystemExit({code!r}))
"""


def _ended(imports: str, code: object) -> subprocess.CompletedProcess[str]:
    text = _PROCESS.format(imports=imports, code=code)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "as_number", "stderr"), [(None, 0, ""), (0, 0, ""), (75, 75, ""), ("no such file", 1, "no such file\n")]
)
@pytest.mark.parametrize(("imports", "finalized"), [("import obstore", ""), ("", "finalized\n")])
def test_its_exit_code_and_its_last_output(
    imports: str, finalized: str, code: object, as_number: int, stderr: str
) -> None:
    ended = _ended(imports, code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (as_number, f"at exit\n{finalized}", stderr)
