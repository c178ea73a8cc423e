"""Concurrent calls that share a statement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.postgres.pool import open_pool
from gateway.context import TENANT
from gateway.queries.database import Database
from gateway.queries.read_model_sql import ReadModel
from gateway.queries.single_flight import Grouped


class Common(Exception):
    """An error that no single item causes."""


class Halves:
    """Halves even numbers; an odd one in a group is an error, and 0 is one that concerns the whole group."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    async def halves(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        await asyncio.sleep(0)
        if 0 in numbers:
            raise Common
        if odd := [n for n in numbers if n % 2]:
            raise ValueError(odd)
        return [n // 2 for n in numbers]


async def outcomes(numbers: Sequence[int]) -> tuple[list[int | BaseException], list[list[int]]]:
    """The outcome of each number, of which the first is there before the others, and the groups."""
    halves = Halves()
    grouped = Grouped(halves.halves, common=(Common,))
    first = asyncio.create_task(grouped.get(numbers[0]))
    for _ in range(2):
        await asyncio.sleep(0)
    others = await asyncio.gather(*(grouped.get(n) for n in numbers[1:]), return_exceptions=True)
    return [*await asyncio.gather(first, return_exceptions=True), *others], halves.groups


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_each_call_has_the_result_or_the_error_of_its_own_item(numbers: list[int]) -> None:
    found, groups = asyncio.run(outcomes(numbers))
    for number, outcome in zip(numbers, found, strict=True):
        assert outcome == number // 2 or (isinstance(outcome, ValueError) and outcome.args == ([number],))
    assert groups[0] == numbers[:1]
    assert groups[1:2] in ([], [numbers[1:]])


def test_calls_that_arrive_during_a_run_share_the_next_one() -> None:
    found, groups = asyncio.run(outcomes([2] * 21))
    assert found == [1] * 21
    assert [len(group) for group in groups] == [1, 20]


def test_an_error_that_no_single_item_causes_is_raised_by_all_at_once() -> None:
    found, groups = asyncio.run(outcomes([2, 0, 4, 6]))
    assert [type(each) for each in found] == [int, Common, Common, Common]
    assert len(groups) == 2


@pytest.mark.asyncio(loop_scope="session")
async def test_a_job_exists_for_its_own_tenant_only(world: Any, story_of: Any) -> None:
    story = story_of(str(uuid4()))
    await world.store(story.accepted())
    asked = [(story.job_id, TENANT), (str(uuid4()), TENANT), (story.job_id, "another")]
    async with open_pool(world.database_url, "gateway") as pool:
        reads = ReadModel(Database(pool))
        assert await asyncio.gather(*(reads.exists(*each) for each in asked)) == [True, False, False]
