"""How long partitions stand still, from the waits of their records."""

from __future__ import annotations

from chaos.rows.services.pauses import Wait, longest


def test_the_longest_wait_of_each_partition_counts_longest_first() -> None:
    waits = [Wait(0, 10, 10.5), Wait(0, 11, 14), Wait(1, 10, 10.25), Wait(2, 12, 20)]
    assert longest(waits, 10, 30) == [8, 3, 0.25]


def test_a_wait_that_overlaps_with_the_period_counts_and_others_do_not() -> None:
    waits = [Wait(0, 1, 9), Wait(1, 8, 12), Wait(2, 29, 40), Wait(3, 31, 60)]
    assert longest(waits, 10, 30) == [11, 4]
