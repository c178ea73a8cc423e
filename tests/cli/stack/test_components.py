"""The log of a component goes on when its file cannot be written for a while."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import patient

from segue_cli.stack.components import log_to

LIMITED = """
import resource, sys
from pathlib import Path
from segue_cli.stack.components import log_to
take, close = log_to(Path("part.log"))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
take("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
for _ in range(3):
    take("a line that does not fit")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
take("after")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
take("another that does not fit")
close()
take("too late")
"""


def test_lines_that_do_not_fit_are_left_out_and_that_is_said_once(tmp_path: Path) -> None:
    # The limit of a file's size fails a write where it is reached, in the middle of a line, as a full disk does.
    argv = [sys.executable, "-c", LIMITED]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=patient(60), check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "segue: part.log cannot be written (File too large); lines are left out until it can\n"
    assert (tmp_path / "part.log").read_text().splitlines() == [
        "before",
        "a l",
        "segue: 3 lines are missing here: they could not be written",
        "after",
    ]


def test_a_log_is_appended_to_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    for line in ("one", "two \N{SNOWMAN}"):
        take, close = log_to(log)
        take(line)
        assert log.read_text("utf-8").endswith(f"{line}\n")
        close()
    assert log.read_text("utf-8") == "one\ntwo \N{SNOWMAN}\n"
    assert log.stat().st_mode & 0o777 == 0o600
