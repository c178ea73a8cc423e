"""How statements are counted from PostgreSQL's log."""

from __future__ import annotations

from collections import Counter

from bench.accounts import Statements, counted
from bench.job_cost import median

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

INSERT_AND_DELETE = ("INSERT INTO t VALUES ($1)", "DELETE FROM u")


def test_statements_and_commits_are_counted_by_service_and_text() -> None:
    found = counted(LOG)
    assert found.committed == {("gateway", ("SELECT 1",)): 1, ("gateway", INSERT_AND_DELETE): 1}
    assert found.rolled_back == {("log_sink", ("SELECT 2",)): 1}
    assert found.statements() == {"gateway": 3, "log_sink": 1}
    assert found.commits() == {"gateway": 2}


def test_what_also_runs_without_a_job_is_left_out() -> None:
    job = Statements(Counter({("gateway", ("SELECT 1",)): 5, ("gateway", INSERT_AND_DELETE): 1}))
    assert job.without(Statements(Counter({("gateway", ("SELECT 1",)): 1}))).statements() == {"gateway": 2}


def test_the_count_of_a_job_is_the_median_of_all() -> None:
    assert median([{"job": 2, "rare": 1}, {"job": 2}, {"job": 3}, {"job": 3}]) == {"job": 2}


def test_what_all_jobs_but_one_cause_is_counted() -> None:
    assert median([{"job": 1}, *[{"job": 3, "more": 1}] * 9]) == {"job": 3, "more": 1}
