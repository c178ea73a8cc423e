"""The rules of the code base that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from contracts.providers.registry import PROVIDERS

ROOT = Path(__file__).resolve().parents[2]

MOST_LINES = 300
MOST_MODULES = 12

RETIRED = re.compile(
    r"\b(Gatekeeper|Gates|Settler|Searcher|Hearing|Happening|happenings?|[Cc]hores?|Housekeeping|[Ff]use|Burial|Door|Blown"
    r"|publish_(?:confirmed|durably)|tell_of_\w+|Legs?|heard_at|deaf_s|Paces|too_dear|nowhere_to_go)\b"
)
"""Names that have been replaced by the terms of the field (ARCHITECTURE, "Glossary")."""

PURE = (
    "contracts/src/contracts",
    "read-model/src/read_model",
    "adapter-kit/src/adapter_kit/attempt",
    "adapter-kit/src/adapter_kit/port",
    "adapter-kit/src/adapter_kit/phrases",
    "adapter-kit/src/adapter_kit/results",
    "adapter-kit/src/adapter_kit/breaker/policy.py",
    "adapter-kit/src/adapter_kit/http/answer.py",
    "adapter-kit/src/adapter_kit/http/bounded_json.py",
    "adapter-kit/src/adapter_kit/http/decoding.py",
    "adapter-kit/src/adapter_kit/http/error_rules.py",
    "adapter-kit/src/adapter_kit/http/sanitize.py",
    "adapter-kit/src/adapter_kit/media/raw_sound.py",
    "services/orchestrator/src/orchestrator/decisions",
    "services/orchestrator/src/orchestrator/routing",
)

SLEEPS = {
    "chassis/src/chassis/kafka/topics.py": "at start, bounded by the caller, nothing runs yet",
    "chassis/src/chassis/postgres/pool.py": "at start, bounded, nothing runs yet",
    "chassis/src/chassis/postgres/migrations.py": "at start, bounded, nothing runs yet",
    "chassis/src/chassis/kafka/records.py": "a sleep of 0 s, so that other tasks run",
    "services/log-sink/src/log_sink/store.py": "a sleep of 0 s, so that a statement is sent",
    "chassis/src/chassis/http/health.py": "its own task, cancelled with its block; it also watches the drain",
    "chassis/src/chassis/delivery/tail.py": "its own task, cancelled with its block",
    "chassis/src/chassis/kafka/consumer_lag.py": "a few looks, bounded by 2 s",
    "adapter-kit/src/adapter_kit/engine/outcome_writer.py": "the answer to a paid POST waits for the database",
    "adapter-kit/src/adapter_kit/engine/claim_loop.py": "the leases are renewed until the last call has ended",
    "adapter-kit/src/adapter_kit/artifacts/download.py": "a few tries, bounded by the time limit of the collection",
}
"""Where a loop of a service may sleep without watching for the stop, and why; all others use the runtime's pause."""

SLEEPS_OF_TESTS = {
    "tests/chassis/toy.py": "the delay that the toy is asked for",
    "tests/chaos/test_proxy.py": "the pace of a client",
    "tests/cli/commands/test_dlq.py": "the pace of a slow broker",
    "tests/cli/demo/test_demo.py": "a moment at which to interrupt it",
    "tests/cli/stack/test_starting.py": "a period without output",
    "tests/e2e/test_crashes.py": "the length of the outage",
    "tests/chassis/http/test_health.py": "its own loop around a condition",
    "tests/e2e/test_topics.py": "its own loop around a condition",
    "tests/flow/test_silent_database.py": "its own loop around a condition",
    "tests/gateway/conftest.py": "the age from which a shared read is repeated",
    "tests/gateway/test_clocks.py": "its own loop around a condition",
    "tests/kafka/test_topics.py": "its own loop around a condition",
    "tests/chassis/http/test_http_limits.py": "the pace of a client",
    "tests/strangers/__main__.py": "the pace of a client",
    "tests/strangers/clients.py": "the pace of a client",
    "tests/strangers/ordinary.py": "the pace of a client",
    "tests/strangers/test_strangers.py": "the pace of a client",
    "tests/kafka/test_offsets.py": "the length of the outage",
    "tests/providers/conftest.py": "the pace of a slow server",
}
"""Where a test may sleep, and why; to wait for a condition, tests use `tests.patience`."""

# In two parts, since the rule holds for this file too.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("repo.maven.apache", "org"),
        ("repo1.maven", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("proxy.golang", "org"),
        ("crates", "io"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
)
MACHINE_FOLDER = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt)/\w")


SERVING = ("contracts/", "read-model/", "chassis/", "adapter-kit/", "services/")
ASLEEP = re.compile(r"^(asyncio|anyio|time)\.sleep$")
WAITS = re.compile(r"^asyncio\.(timeout|wait_for)$|\.wait$")
CLOCK = re.compile(r"\b(monotonic|perf_counter)$")
IMPURE = re.compile(r"\b(datetime\.(now|utcnow|today)|time\.\w+|monotonic|random\.\w+|uuid[14]|open|print|getenv)$")
TIME_OF_DAY = re.compile(r"\b(datetime\.(now|utcnow|today)|time\.time)$")
UNBOUNDED = re.compile(r"(?:\b|_)pool\.(acquire|release|fetch\w*|execute\w*)$")
READS_SETTINGS = re.compile(r"^\w+Settings$|\b(os\.getenv|os\.environ\.get|load_dotenv)$")


@cache
def tracked() -> tuple[str, ...]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def texts() -> Iterator[tuple[str, str]]:
    for name in tracked():
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def code(*folders: str) -> list[str]:
    """The Python files below these folders, or all but the tests where none is named."""
    named = [name for name in tracked() if name.endswith(".py") and not name.startswith("tests/")]
    return [name for name in named if not folders or name.startswith(folders)]


def lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


def parsed(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def calls(tree: ast.AST, wanted: re.Pattern[str]) -> list[str]:
    """The calls in the tree whose function matches."""
    called = (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [name for name in called if wanted.search(name)]


def sleeping_loops(tree: ast.AST) -> list[str]:
    """Sleeps in loops and between retries that do not watch for the stop."""
    nodes = list(ast.walk(tree))
    loops = (node for node in nodes if isinstance(node, ast.While | ast.For | ast.AsyncFor))
    retries = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "retry")
    unstoppable = ["retry" for call in retries if all(given.arg != "sleep" for given in call.keywords)]
    return [called for loop in loops for called in calls(loop, ASLEEP)] + unstoppable


def is_test(name: str) -> bool:
    """Whether the file is one of the tests."""
    return name.startswith("tests/") and name.endswith(".py")


def is_number(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value != 0


def sleeps(tree: ast.AST) -> list[str]:
    """Sleeps of more than 0 s."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ASLEEP.search(ast.unparse(node.func))]
    return [ast.unparse(node) for node in found if ast.unparse(node.args[0]) != "0"]


def fixed_limits(tree: ast.AST) -> list[str]:
    """Limits in seconds that do not scale on a slow machine, and loops that compare clock readings."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                limits = [each.value for each in node.keywords if each.arg == "timeout"]
                limits += node.args[-1:] if WAITS.search(ast.unparse(node.func)) else []
                found += [node] if any(map(is_number, limits)) else []
            case ast.Compare(ops=[*_, ast.Lt() | ast.LtE()]) if calls(node, CLOCK):
                found += [node] if is_number(node.comparators[-1]) else []
            case ast.While():
                found += [each for each in ast.walk(node) if isinstance(each, ast.Compare) and calls(each, CLOCK)]
    return [ast.unparse(node) for node in found]


def test_a_test_waits_for_conditions_and_its_limits_scale() -> None:
    tests = [name for name in tracked() if is_test(name) and name != "tests/patience.py"]
    assert {name: found for name in tests if name not in SLEEPS_OF_TESTS and (found := sleeps(parsed(name)))} == {}
    loops = {"tests/chassis/http/test_health.py", "tests/flow/test_silent_database.py"}
    assert {name: found for name in tests if name not in loops and (found := fixed_limits(parsed(name)))} == {}


def test_no_module_exceeds_the_line_limit() -> None:
    assert {name: lines(name) for name in code() if lines(name) > MOST_LINES} == {}


def test_no_retired_name_is_used() -> None:
    named = {name: sorted(set(RETIRED.findall((ROOT / name).read_text(encoding="utf-8")))) for name in code()}
    assert {name: found for name, found in named.items() if found} == {}


def test_no_provider_is_a_special_case() -> None:
    """Everything particular to a provider is in its spec and its adapter; URLs of its pages may be named as sources."""
    named = re.compile(rf"(?<![a-z])({'|'.join(PROVIDERS)})(?![a-z])", re.IGNORECASE)
    shared = ("chassis/", "adapter-kit/", "services/gateway/", "services/orchestrator/", "services/log-sink/")
    found = {
        name: [match[0] for match in named.finditer(re.sub(r"https://\S+", "", text))]
        for name, text in texts()
        if name.startswith(shared) and "/static/vendor/" not in name
    }
    assert {name: words for name, words in found.items() if words} == {}


def test_what_is_queried_is_a_column() -> None:
    """No SQL reads fields of a serialized Python object: renaming a field would break the SQL."""
    assert [name for name in code() if re.search(r"\bbody *->", (ROOT / name).read_text(encoding="utf-8"))] == []


OF_A_SESSION = re.compile(
    r"pg_(?:try_)?advisory_(?:lock|unlock)|\"(?:LISTEN|PREPARE|DISCARD|RESET) |SET SESSION|CREATE TEMP"
    r"|\"SET (?!LOCAL )\w+ ?(?:=|TO )"
)
"""SQL that changes the state of a session beyond its transaction."""


def test_no_statement_changes_the_state_of_its_session() -> None:
    """A connection goes back to the pool as it is, and the next user would find what was changed."""
    assert OF_A_SESSION.search("SELECT pg_advisory_lock(1)")
    assert OF_A_SESSION.search('"SET lock_timeout = 0"')
    assert not OF_A_SESSION.search('"SET LOCAL lock_timeout = 0"')
    services = [name for name in code() if "/src/" in name and not name.startswith("chaos/")]
    assert [name for name in services if OF_A_SESSION.search((ROOT / name).read_text(encoding="utf-8"))] == []


def test_no_folder_exceeds_the_module_limit() -> None:
    modules = [name for name in code() if not name.endswith("/__init__.py")]
    folders = Counter(name.rpartition("/")[0] for name in modules)
    assert {folder: count for folder, count in folders.items() if count > MOST_MODULES} == {}


def test_every_exception_is_still_needed() -> None:
    assert [name for name in SLEEPS if not sleeping_loops(parsed(name))] == []
    assert [name for name in SLEEPS_OF_TESTS if not sleeps(parsed(name))] == []


def test_a_file_is_named_for_what_it_holds() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
    assert [name for name in tracked() if vague & set(re.split(r"[/_.-]", name.lower()))] == []


def test_a_pure_module_ignores_no_type_error() -> None:
    assert [name for name in code(*PURE) if "type: ignore" in (ROOT / name).read_text(encoding="utf-8")] == []


def test_a_pure_module_reads_no_clock_and_uses_no_randomness() -> None:
    assert {name: found for name in code(*PURE[1:]) if (found := calls(parsed(name), IMPURE))} == {}


def test_a_loop_that_waits_watches_for_the_stop() -> None:
    asleep = {name for name in code(*SERVING) if sleeping_loops(parsed(name))}
    assert asleep - SLEEPS.keys() == set()


def test_settings_are_read_in_one_place_and_passed_down() -> None:
    readers = {name: found for name in code(*SERVING) if (found := calls(parsed(name), READS_SETTINGS))}
    assert readers.keys() == {"chassis/src/chassis/settings/service.py"}


def test_no_service_reads_the_time_of_day() -> None:
    assert {name: found for name in code(*SERVING) if (found := calls(parsed(name), TIME_OF_DAY))} == {}


def test_a_database_connection_is_used_for_a_limited_time() -> None:
    asking = {name: found for name in code(*SERVING) if (found := calls(parsed(name), UNBOUNDED))}
    assert asking.keys() == {"chassis/src/chassis/postgres/limits.py"}


def test_no_file_names_a_package_registry() -> None:
    assert [(name, host) for name, text in texts() for host in REGISTRIES if host in text] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    assert [(name, match[0]) for name, text in texts() for match in MACHINE_FOLDER.finditer(text)] == []


def test_a_violation_of_a_rule_is_found() -> None:
    bad = ast.parse("while True:\n    await asyncio.sleep(datetime.now())\n    GatewaySettings(port=1)")
    assert sleeping_loops(bad) == ["asyncio.sleep"]
    assert sleeping_loops(ast.parse("await retry(work, OSError, pause_s=1)")) == ["retry"]
    assert sleeping_loops(ast.parse("await retry(work, OSError, pause_s=1, sleep=self._hold)")) == []
    assert calls(bad, IMPURE) == ["datetime.now"]
    assert calls(bad, TIME_OF_DAY) == ["datetime.now"]
    assert calls(bad, READS_SETTINGS) == ["GatewaySettings"]
    assert calls(ast.parse("await self._pool.fetchrow(sql)"), UNBOUNDED) == ["self._pool.fetchrow"]
    assert MACHINE_FOLDER.findall("see " + "/ho" + "me/me/notes") != []


@pytest.mark.parametrize(
    ("fixed", "scaled"),
    [
        ("asyncio.timeout(30)", "asyncio.timeout(patient(30))"),
        ("asyncio.wait_for(told, 5)", "asyncio.wait_for(told, patient(5))"),
        ("process.wait(40)", "process.wait(patient(40))"),
        ("httpx.Client(timeout=5)", "httpx.Client(timeout=patient(5))"),
        ("time.monotonic() - began < 2", "time.monotonic() - began < patient(2)"),
        ("0.9 < time.monotonic() - began < 4", "0.9 < time.monotonic() - began < patient(4)"),
        ("while time.monotonic() < deadline: pass", "await eventually(condition)"),
    ],
)
def test_a_limit_that_does_not_scale_is_found(fixed: str, scaled: str) -> None:
    assert fixed_limits(ast.parse(fixed)) != []
    assert fixed_limits(ast.parse(scaled)) == []


def test_a_sleep_is_found() -> None:
    assert sleeps(ast.parse("await asyncio.sleep(0)")) == []
    assert sleeps(ast.parse("time.sleep(patient(1))")) == ["time.sleep(patient(1))"]
