"""The first process of the node, in namespaces of its own for mounts and processes: `python node_init.py FOLDER`.

What the node's programs write outside of their folder is in memory, and gone with them: so this machine keeps its
settings, and no mount and no process of the node outlives this one. Prints one JSON line when all is mounted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

KEPT: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Settings of the kernel that the kubelet changes: here it changes files in their place."""
IN_MEMORY: Final = ("/run", "/var/lib", "/var/log")
IDLE_S: Final = 1.0


def mounted(folder: Path) -> None:
    """Mount what the programs of the node are to find."""
    for name in KEPT:
        setting = Path("/proc/sys") / name
        stand_in = folder / "sysctl" / name
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(setting.read_text())
        subprocess.run(["mount", "--bind", stand_in, setting], check=True)
    for path in IN_MEMORY:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)


def reap() -> None:
    """Take leave of every process that has ended; those of containers come here when their parents end."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(IDLE_S)


def main() -> None:
    """Run until SIGTERM. As the first process of its namespace it takes all others with it."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mounted(Path(sys.argv[1]))
    print(json.dumps({"mounted": True}), flush=True)
    reap()


if __name__ == "__main__":
    main()
