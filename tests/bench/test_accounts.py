"""How statements are counted from PostgreSQL's log."""

from __future__ import annotations

from bench.accounts import counted
from bench.job_cost import least

LOG = """
segue-gateway|7|LOG:  statement: BEGIN;
segue-gateway|8|LOG:  execute __asyncpg_stmt_1__: SELECT 1
segue-gateway|7|LOG:  execute <unnamed>:
\t    INSERT INTO t
\t    VALUES ($1)
segue-gateway|7|DETAIL:  parameters: $1 = 'a
\tb'
segue-gateway|7|LOG:  statement: DELETE FROM u
segue-gateway|7|LOG:  statement: COMMIT;
segue-log_sink|9|LOG:  statement: BEGIN;
segue-log_sink|9|LOG:  statement: SELECT 2
segue-log_sink|9|LOG:  statement: ROLLBACK;
segue-log_sink|9|LOG:  statement: BEGIN;
segue-log_sink|9|LOG:  statement: COMMIT;
psql|10|LOG:  statement: SELECT 3
|11|LOG:  checkpoint starting: time
segue-log_sink|9|ERROR:  canceling statement due to user request
""".splitlines()


def test_statements_and_commits_are_counted_by_service_and_text() -> None:
    found = counted(LOG)
    assert found.statements == {
        ("gateway", "SELECT 1"): 1,
        ("gateway", "INSERT INTO t VALUES ($1)"): 1,
        ("gateway", "DELETE FROM u"): 1,
        ("log_sink", "SELECT 2"): 1,
    }
    assert found.commits == {("gateway", "SELECT 1"): 1, ("gateway", "INSERT INTO t VALUES ($1)"): 1}


def test_the_least_of_all_jobs_is_without_what_is_periodic() -> None:
    assert least([{"job": 2, "sweep": 1}, {"job": 2}, {"job": 3, "sweep": 2}]) == {"job": 2}
