"""The keys of the outputs of jobs in the artifact store, which are the same in a folder on disk and in a bucket.

The key of an attempt's file is `jobs/<shard>/<attempt id>.<name>`. The shard is the last two characters of the job's
id, hexadecimal digits of a hash, so that the files are spread evenly over 256 folders: on disk an output makes no
folder of its own, which would cost more than the file. A job's files are those under `jobs/<shard>/<job id>.`.
"""

from __future__ import annotations

import re
from typing import Final

from contracts.ids import ATTEMPT_PATTERN, AttemptId

JOBS: Final = "jobs"
"""The top-level folder of the outputs of jobs."""
# The number of an attempt ends at the first dot behind it, so that a name may have dots and start with a digit.
_KEY: Final = re.compile(rf"{JOBS}/[^/]+/({ATTEMPT_PATTERN})\.([^/]+)")


def artifact_key(attempt_id: str, name: str) -> str:
    """The key of an attempt's file."""
    job_id = attempt_id.rpartition(".")[0]
    return f"{JOBS}/{job_id[-2:]}/{attempt_id}.{name}"


def attempt_and_name(key: str) -> tuple[AttemptId, str] | None:
    """The attempt and the name of the file of which `artifact_key` makes `key`; None if it makes it of none."""
    if match := _KEY.fullmatch(key):
        attempt_id, name = match.groups()
        if artifact_key(attempt_id, name) == key:
            return AttemptId(attempt_id), name
    return None
