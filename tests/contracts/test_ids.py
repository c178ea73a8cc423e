"""Ids: a repeat gets the same id, and nothing else does."""

from __future__ import annotations

from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import (
    JOB_NAMESPACE,
    TRACK_NAMESPACE,
    AttemptId,
    attempt_id_for,
    event_id_for,
    job_id_for,
    job_of,
    track_id_for,
)

JOB = job_id_for("default", "key-1")


def test_ids_never_change_because_they_are_stored_and_in_the_log() -> None:
    # Literal values, so that a change of the derivation is found.
    assert JOB == "87fde794-98fd-57d6-aba1-a40f57881512"
    assert track_id_for(JOB) == "3ac294ff-bd83-58ea-b38a-7dd538b173b6"
    assert str(event_id_for(JOB, "segue.job.started.v1", 3)) == "af935c5f-45b1-5818-958d-33e7ed631bbf"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_are_those_of_rfc_9562(tenant: str, key: str) -> None:
    job_id = job_id_for(tenant, key)
    assert job_id == str(uuid5(JOB_NAMESPACE, f"{tenant}\0{key}"))
    assert track_id_for(job_id) == str(uuid5(TRACK_NAMESPACE, job_id))


def test_job_ids_differ_by_tenant_and_key() -> None:
    pairs = [("a", "b"), ("b", "a"), ("a|b", "c"), ("a", "b|c"), ("a", "b|"), ("a|", "b"), ("", "a|b")]
    assert len({job_id_for(tenant, key) for tenant, key in pairs}) == len(pairs)


@pytest.mark.parametrize("n", [1, 9, 10, 9999])
def test_an_attempt_id_contains_the_job_id(n: int) -> None:
    assert attempt_id_for(JOB, n) == f"{JOB}.{n}"
    assert job_of(attempt_id_for(JOB, n)) == JOB


@pytest.mark.parametrize("ending", ["", ".", ".0", ".01", ".10000", ".-1", ".1.2", ".1 ", ".1\n", ".\u0661"])
def test_an_invalid_attempt_id_is_refused(ending: str) -> None:
    with pytest.raises(ValueError, match="not an attempt id"):
        job_of(AttemptId(f"{JOB}{ending}"))


def test_event_ids_differ_by_subject_type_and_version() -> None:
    ids = {
        event_id_for(subject, kind, version)
        for subject in (JOB, attempt_id_for(JOB, 1))
        for kind in ("segue.attempt.failed.v1", "segue.attempt.submitted.v1")
        for version in (1, 2)
    }
    assert len(ids) == 8
