"""Orphans: files in the artifact store without a row, left by a collection that was killed or given up.

A file is an orphan only if its job is in the read model and has ended, its attempt has ended, it has no row, and it was
not written recently. An attempt whose output an operator can still have fetched again keeps what it has stored already:
the adapter counts on it for as long as it has the attempt's row.

If the job is not in the read model, it may belong to another installation, or the read model may have been created
anew: its files are counted, and not deleted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from chassis.artifact_keys import JOBS, attempt_and_name
from chassis.artifacts import ArtifactStore, ListedFile
from chassis.postgres.pool import Connection
from contracts.failures import COLLECTABLE
from contracts.ids import job_of

Standing = Literal["kept", "orphan", "young", "foreign"]
"""kept: it has a row. orphan: it has none and gets none. young: it may still get a row. foreign: its job is unknown."""

_STANDINGS: Final = """
SELECT CASE
    WHEN a.removed_at IS NULL AND a.attempt_id IS NOT NULL THEN 'kept'
    WHEN j.job_id IS NULL THEN 'foreign'
    WHEN t.state = 'failed' AND t.error_kind = ANY($4::text[]) AND t.finished_at > now() - $5::interval THEN 'young'
    WHEN j.status IN ('succeeded', 'failed', 'cancelled')
         AND coalesce(t.state IN ('succeeded', 'failed', 'cancelled'), true) THEN 'orphan'
    ELSE 'young' END AS standing
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS file (job_id, attempt_id, name, place)
LEFT JOIN artifacts a ON (a.attempt_id, a.name) = (file.attempt_id, file.name)
LEFT JOIN jobs j ON j.job_id = file.job_id
LEFT JOIN attempts t ON t.attempt_id = file.attempt_id
ORDER BY place
"""

Standings = list[tuple[ListedFile, Standing]]


async def standings(
    connection: Connection,
    store: ArtifactStore,
    older_than: timedelta,
    keep_rows: timedelta,
    folder: str = JOBS,
    only: Container[str] | None = None,
) -> AsyncGenerator[Standings, None]:
    """All files of jobs below `folder`, each with its standing; files with other keys are skipped.

    A file younger than `older_than` is never an orphan. `keep_rows` is how long adapters keep the rows of attempts.
    With `only`, files with keys that are not in it are skipped as well.
    """
    async for listed in store.listed(folder):
        asked = listed if only is None else [file for file in listed if file.key in only]
        files = [(file, of) for file in asked if (of := attempt_and_name(file.key))]
        if not files:
            continue
        attempts, names = [attempt_id for _, (attempt_id, _) in files], [name for _, (_, name) in files]
        jobs = [job_of(attempt_id) for attempt_id in attempts]
        rows = await connection.fetch(_STANDINGS, jobs, attempts, names, sorted(COLLECTABLE), keep_rows)
        since = await connection.fetchval("SELECT now()") - older_than
        yield [(file, _standing(file, row["standing"], since)) for (file, _), row in zip(files, rows, strict=True)]


async def orphans_again(
    connection: Connection,
    store: ArtifactStore,
    older_than: timedelta,
    keep_rows: timedelta,
    found: Sequence[ListedFile],
) -> AsyncGenerator[list[ListedFile], None]:
    """Those files of `found` that are orphans now, in batches.

    Their folders are listed again, with the files of other jobs in them: to ask for each file by its key would need the
    right to read it, which the log sink does not have in a bucket.
    """
    keys = {file.key for file in found}
    for folder in sorted({key.rpartition("/")[0] for key in keys}):
        async for files in standings(connection, store, older_than, keep_rows, folder, keys):
            yield [file for file, standing in files if standing == "orphan"]


def _standing(file: ListedFile, by_rows: Standing, since: datetime) -> Standing:
    return "young" if by_rows == "orphan" and file.written_at > since else by_rows
