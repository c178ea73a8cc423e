"""The end of a process that may have used the artifact store."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Never


def leave(ended: SystemExit) -> Never:
    """End the process with the exit code of `ended`, as if it had been raised, but never with an abort.

    A thread of obstore that lets go of a Python object while the interpreter is finalized aborts the process: one exit
    in a hundred of a busy machine then has the code 134, whatever the process has done. So a process that has imported
    obstore ends without being finalized. https://github.com/PyO3/pyo3-async-runtimes/issues/40
    """
    if "obstore" not in sys.modules:
        raise ended
    code = ended.code
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    atexit._run_exitfuncs()  # Temporary folders are removed, as at any exit.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)
