"""The keys of artifacts: each is read back as what it was made of, and nothing else is read as a key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.artifact_keys import artifact_key, attempt_and_name
from contracts.ids import AttemptId, attempt_id_for, job_id_for, job_of
from contracts.messages.attempts import Artifact
from contracts.modalities.registry import MODALITIES

JOB = job_id_for("default", "one job")
OTHER = job_id_for("default", "another job")
SHARD = JOB[-2:]
NAME = re.compile(next(each.pattern for each in Artifact.model_fields["name"].metadata if hasattr(each, "pattern")))

attempts = st.builds(
    attempt_id_for, st.builds(job_id_for, st.just("default"), st.uuids().map(str)), st.integers(1, 9999)
)
names = st.from_regex(NAME, fullmatch=True)


def test_the_layout_is_the_documented_one() -> None:
    # Literal values, so that a change of the layout is found: files that are stored already would be lost.
    key = "jobs/bf/c29694d4-3682-5ab8-9506-d707a0debebf.2.audio.mp3"
    assert artifact_key(attempt_id_for(JOB, 2), "audio.mp3") == key


@given(attempts, names | names.map("{}#1".format))
def test_a_key_is_read_back_as_what_it_was_made_of(attempt_id: AttemptId, name: str) -> None:
    key = artifact_key(attempt_id, name)
    assert attempt_and_name(key) == (attempt_id, name)
    assert key.startswith(f"jobs/{job_of(attempt_id)[-2:]}/{job_of(attempt_id)}.")
    assert key.count("/") == 2


@pytest.mark.parametrize("name", ["2.mp3", "2", "2.3.mp3", "a..mp3", "1-2.mp3"])
def test_a_name_with_dots_and_digits_is_no_part_of_the_attempt(name: str) -> None:
    for n in (1, 12, 9999):
        assert attempt_and_name(artifact_key(attempt_id_for(JOB, n), name)) == (attempt_id_for(JOB, n), name)


def test_the_names_of_all_modalities_are_read_back() -> None:
    for spec in MODALITIES.values():
        for name in (f"{spec.named(n)}.mp3" for n in (1, 2, 10)):
            assert attempt_and_name(artifact_key(attempt_id_for(JOB, 1), name)) == (attempt_id_for(JOB, 1), name)


def test_two_files_never_have_the_same_key() -> None:
    files = [(attempt_id_for(job, n), name) for job in (JOB, OTHER) for n in (1, 11) for name in ("1.a", "a", "1.1.a")]
    assert len({artifact_key(*file) for file in files}) == len(files)


@given(st.text() | st.from_regex(rf"\A(jobs|\.\.)/[0-9a-f./]{{2}}/{JOB}[.][0-9./]{{0,5}}[.][a-z./#]{{0,5}}\Z"))
def test_what_is_read_as_a_key_is_the_key_of_that_file(text: str) -> None:
    found = attempt_and_name(text)
    assert found is None or (artifact_key(*found) == text and ".." not in text.split("/") and job_of(found[0]))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "jobs",
        f"jobs/{SHARD}",
        f"jobs/{SHARD}/",
        f"jobs/{SHARD}/{JOB}",
        f"jobs/{SHARD}/{JOB}.1",
        f"jobs/{SHARD}/{JOB}.1.",
        f"jobs/{SHARD}/{JOB}.audio.mp3",
        f"jobs/{SHARD}/{JOB}.0.audio.mp3",
        f"jobs/{SHARD}/{JOB}.01.audio.mp3",
        f"jobs/{SHARD}/{JOB}.10000.audio.mp3",
        f"jobs/{SHARD}/{JOB}.\u0661.audio.mp3",
        f"jobs/{SHARD}/{JOB.upper()}.1.audio.mp3",
        f"jobs/{SHARD.upper()}/{JOB}.1.audio.mp3",
        f"jobs/{OTHER[-2:]}/{JOB}.1.audio.mp3",
        f"jobs/{SHARD}/{OTHER}.1.audio.mp3",
        f"jobs/{JOB}/{JOB}.1.audio.mp3",
        f"jobs/{JOB}/{JOB}.1/audio.mp3",
        f"jobs//{JOB}.1.audio.mp3",
        f"jobs/../{JOB}.1.audio.mp3",
        f"jobs/{SHARD}/../{SHARD}/{JOB}.1.audio.mp3",
        f"jobs/{SHARD}/{JOB}.1.audio/../../audio.mp3",
        f"jobs/{SHARD}/{JOB}.1.audio/audio.mp3",
        f"jobs/{SHARD}/{JOB}.1/audio.mp3",
        f"jobs/{SHARD}/{SHARD}/{JOB}.1.audio.mp3",
        f"/jobs/{SHARD}/{JOB}.1.audio.mp3",
        f"doctor/{SHARD}/{JOB}.1.audio.mp3",
        f"x/jobs/{SHARD}/{JOB}.1.audio.mp3",
        f"jobs/{SHARD}/ {JOB}.1.audio.mp3",
        f"jobs/{SHARD}/{JOB}x.1.audio.mp3",
    ],
)
def test_other_keys_are_not_read(key: str) -> None:
    assert attempt_and_name(key) is None


def test_jobs_are_spread_over_256_folders() -> None:
    folders = [artifact_key(attempt_id_for(job_id_for("default", str(n)), 1), "a").split("/")[1] for n in range(5000)]
    assert len(set(folders)) == 256
    assert max(folders.count(each) for each in set(folders)) < 50
