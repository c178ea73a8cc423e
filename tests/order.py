"""Which tests run in one worker, and in which order: slowest first, so that workers end at about the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

TOGETHER: Final = ("tests/e2e", "tests/gateway")
"""Folders whose files share a fixture that is slow to start, and that each worker would start anew."""
APART: Final = frozenset(
    {"tests/e2e/test_traces.py", "tests/gateway/test_callbacks.py", "tests/gateway/test_outages.py"}
)
"""Files of those folders that do not use the shared fixture."""
SECOND: Final = "tests/e2e, second half"
SECOND_HALF: Final = frozenset(
    f"tests/e2e/test_{name}.py" for name in ("crashes", "failing_fetches", "odd_results", "silent_adapter")
)
"""Files that share a fixture of their own: all of that folder in one worker would take longer than all other tests."""
SECONDS: Final[Mapping[str, float]] = {
    "tests/e2e": 440,
    SECOND: 440,
    "tests/gateway": 124,
    "tests/chaos/test_crash_points.py": 70,
    "tests/cli/commands/test_up.py": 60,
    "tests/kafka/test_topics.py": 59,
    "tests/cli/doctor/test_doctor.py": 57,
    "tests/chassis/http/test_http_limits.py": 54,
    "tests/flow/test_silent_database.py": 50,
    "tests/strangers/test_strangers.py": 50,
    "tests/chassis/runtime/test_runtime.py": 44,
    "tests/chassis/delivery/test_dlq_limit.py": 41,
    "tests/cli/demo/test_demo.py": 30,
    "tests/kafka/test_launcher.py": 28,
    "tests/kafka/test_offsets.py": 26,
    "tests/adapter-kit/artifacts/test_collector.py": 25,
    "tests/chassis/postgres/test_limits.py": 24,
    "tests/providers/test_large_answers.py": 23,
    "tests/chassis/delivery/test_consumer.py": 19,
    "tests/chassis/delivery/test_progress.py": 19,
    "tests/gateway/test_callbacks.py": 19,
    "tests/cli/commands/test_topics.py": 17,
    "tests/adapter-kit/media/test_inspect.py": 16,
    "tests/flow/test_hostile_messages.py": 16,
    "tests/kafka/test_clocks.py": 15,
    "tests/kafka/test_tail.py": 15,
    "tests/chassis/postgres/test_pool.py": 14,
    "tests/e2e/test_traces.py": 14,
    "tests/flow/test_house_rules.py": 14,
    "tests/kafka/test_rebalance.py": 14,
    "tests/chassis/delivery/test_batch_size.py": 13,
    "tests/flow/test_start.py": 13,
    "tests/log-sink/projection/test_state.py": 12,
    "tests/providers/test_one_post.py": 12,
    "tests/adapter-kit/http/test_bounded_json.py": 11,
    "tests/cli/commands/test_artifacts.py": 11,
    "tests/local/test_postgres.py": 11,
    "tests/providers/test_providers.py": 11,
    "tests/cli/commands/test_submit.py": 10,
    "tests/flow/test_paid_once.py": 10,
    "tests/gateway/test_outages.py": 10,
    "tests/kafka/test_markers.py": 9,
    "tests/cli/views/test_console.py": 8,
    "tests/chassis/kafka/test_outbox.py": 7,
    "tests/cli/commands/test_attempts.py": 7,
    "tests/local/test_kafka.py": 7,
    "tests/sandbox/test_fal_sdk.py": 6,
    "tests/chassis/kafka/test_membership.py": 5,
    "tests/chassis/kafka/test_topic_watch.py": 5,
    "tests/cli/commands/test_providers_command.py": 5,
    "tests/contracts/documents/test_schemas.py": 5,
    "tests/log-sink/test_memory.py": 5,
    "tests/sandbox/test_faults.py": 5,
}
"""Seconds of slow units on an idle machine with two cores; any other test takes `OTHERS_S`."""
OTHERS_S: Final = 0.08


def file_of(nodeid: str) -> str:
    """The path of a test's file."""
    return nodeid.partition("::")[0]


def unit_of(nodeid: str) -> str:
    """The unit that one worker runs as a whole: a file, or the files of a folder that share a fixture."""
    file = file_of(nodeid)
    if file in SECOND_HALF:
        return SECOND
    folder = file.rpartition("/")[0]
    return folder if folder in TOGETHER and file not in APART else file


def expected_s(nodeids: Iterable[str], recorded: Mapping[str, float]) -> dict[str, float]:
    """The expected seconds of each test: as recorded, else its share of the seconds of its unit."""
    ids = list(nodeids)
    sizes = Counter(map(unit_of, ids))

    def guessed(nodeid: str) -> float:
        unit = unit_of(nodeid)
        return SECONDS[unit] / sizes[unit] if unit in SECONDS else OTHERS_S

    return {nodeid: recorded.get(nodeid, guessed(nodeid)) for nodeid in ids}


def slowest_first(items: list[pytest.Item]) -> None:
    """Sort in place by the expected seconds of units; xdist requires the same order in every worker."""
    sizes = Counter(unit_of(item.nodeid) for item in items)
    takes = {unit: SECONDS.get(unit, OTHERS_S * size) for unit, size in sizes.items()}
    items.sort(key=lambda item: (-takes[unit_of(item.nodeid)], unit_of(item.nodeid)))


class UnitScheduling(LoadScopeScheduling):
    """Assigns units to workers in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
