"""`python deploy/grafana/generate.py` writes the dashboards into dashboards/; `--check` fails on drift.

They are made by plain functions that write Grafana's JSON (`boards/`). Grafana's own SDK for Python knows no query of
PostgreSQL, and its versions have to be pinned by hand to those of Grafana.
"""

from __future__ import annotations

import argparse
import sys

from boards.files import stale, write


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    check, names = parser.parse_args().check, stale()
    for name in names:
        if not check:
            write(name)
        sys.stdout.write(f"{'stale' if check else 'written'}: deploy/grafana/dashboards/{name}\n")
    return 1 if names and check else 0


if __name__ == "__main__":
    sys.exit(main())
