"""The checks of the doctor: each takes the settings and returns its findings. None of them costs money."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from chassis.artifacts import STORE_ERRORS, ArtifactStore
from chassis.errors import CannotStart, cannot_use
from chassis.http.egress import EgressPolicy, tls_context
from chassis.kafka.metadata import TopicState
from chassis.kafka.topic_watch import too_few
from chassis.settings.header_values import credential_faults
from chassis.settings.kafka.cluster import KafkaCluster
from chassis.settings.kafka.settings import KafkaSettings
from chassis.settings.providers import enabled_providers, first_provider
from chassis.settings.service import settings_of
from contracts.catalogue import CatalogueError, default_catalogue_path, load_catalogue
from contracts.topics import TOPICS
from orchestrator.policy_file import PolicyError, load_policies
from segue_cli.doctor.advice import Finding, fal_key, left_out, probed, replicate_token
from segue_cli.doctor.copies import copies
from segue_cli.doctor.database import database
from segue_cli.doctor.egress import output_hosts
from segue_cli.doctor.running import running_services
from segue_cli.stack import providers
from segue_cli.stack.migrations import SCHEMAS
from segue_cli.stack.run import PLACEHOLDERS
from segue_cli.stack.service_settings import problems
from segue_cli.stack.topics import BrokerAway, cluster_of, sorted_out, topics_there

LIMIT_S: Final = 5.0
SDKS: Final = {"fal-client": "1.0", "replicate": "1.0"}
"""The releases of the SDKs that the adapters' transports are written for."""

_STORE_TROUBLE: Final[tuple[type[Exception], ...]] = (*STORE_ERRORS, TimeoutError)

_PROVIDERS: Final = (providers.SETTING, "MUSIC_PROVIDER")
_TOLD_ELSEWHERE: Final = (
    "FAL_KEY",
    "FAL_API_KEY",
    "REPLICATE_API_TOKEN",
    *_PROVIDERS,
    "KAFKA_",
    "DATABASE_URL",
    "AWS_",
    "AZURE_",
)

Settings = Mapping[str, str]


def import_all() -> None:
    """Import the modules that the checks need; fal's SDK reads its hosts from the environment when it is imported."""
    for module in ("fal_adapter.provider", "replicate_adapter.provider", *SCHEMAS.values()):
        import_module(module)


async def keys(env: Settings) -> list[Finding]:
    """Check the form of the keys and, if it is right, whether the providers accept them.

    A provider that is not enabled is skipped. One key is enough: a missing one is a failure if there is no other, or if
    SEGUE_PROVIDERS names its provider.
    """
    tls_context()
    told = env.get(providers.SETTING)
    forms = {
        "fal": fal_key(env.get("FAL_KEY"), env.get("FAL_API_KEY")),
        "replicate": replicate_token(env.get("REPLICATE_API_TOKEN")),
    }
    wanted = [name for name in forms if told is None or name in told.replace(" ", "").split(",")]
    with_key = [name for name in wanted if providers.has_key(name, env)]
    found = [
        forms[name] if name in with_key or told is not None or not with_key else left_out(forms[name], name)
        for name in wanted
    ]
    ask = {"fal": _fal, "replicate": _replicate}
    asked = await asyncio.gather(*(ask[name](env) for name in with_key if forms[name].verdict != "fail"))
    return [*found, *asked]


async def _fal(env: Settings) -> Finding:
    # The SDK reads its hosts from the environment when it is imported.
    from fal_adapter.app import PROBE_ENDPOINT
    from fal_adapter.provider import FAL_API_URL, fal_provider

    url = env.get("FAL_API_URL", FAL_API_URL)
    async with fal_provider(env.get("FAL_KEY") or env["FAL_API_KEY"], api_url=url) as provider:
        return probed("fal", await provider.probe(PROBE_ENDPOINT), url)


async def _replicate(env: Settings) -> Finding:
    from replicate_adapter.app import PROBE_ENDPOINT
    from replicate_adapter.provider import REPLICATE_URL, replicate_provider

    url = env.get("REPLICATE_BASE_URL", REPLICATE_URL)
    async with replicate_provider(env["REPLICATE_API_TOKEN"], base_url=url) as provider:
        return probed("replicate", await provider.probe(PROBE_ENDPOINT), url)


async def settings(env: Settings) -> list[Finding]:
    """Report settings that services would refuse, except missing ones and those with a check of their own."""
    wrong = [line for line in problems(env, PLACEHOLDERS) if not line.startswith(_TOLD_ELSEWHERE)]
    todo = "Correct it in the environment or in .env: services exit with 78 until then."
    return [Finding("settings", "fail", line, todo) for line in wrong]


async def sdks(_env: Settings) -> list[Finding]:
    """Check the versions of the providers' SDKs."""
    return [_sdk(name, version(name), supported) for name, supported in SDKS.items()]


def _sdk(name: str, installed: str, supported: str) -> Finding:
    if installed.startswith(f"{supported}."):
        return Finding(f"{name} (SDK)", "ok", installed)
    todo = f"The adapter is made for {supported}.x: install what requirements.lock says."
    return Finding(f"{name} (SDK)", "warn", installed, todo)


async def music_provider(env: Settings) -> list[Finding]:
    """Which providers are enabled, and which is tried first for music."""
    todo = "Correct it, and give the gateway and the orchestrator the same."
    try:
        enabled = enabled_providers(env.get(providers.SETTING))
    except ValueError as error:
        return [Finding(providers.SETTING, "fail", str(error), todo)]
    found = [Finding(providers.SETTING, "ok", ", ".join(enabled))]
    told = env.get("MUSIC_PROVIDER")
    try:
        first = first_provider(told, enabled)
    except ValueError as error:
        return [*found, Finding("MUSIC_PROVIDER", "fail", str(error), todo)]
    return [*found, Finding("MUSIC_PROVIDER", "ok", first if told else f"not set: {first}")]


async def broker(env: Settings) -> list[Finding]:
    """Check that a broker answers, takes the login, and has the topics with enough copies."""
    servers = env.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        todo = "`segue run` needs it; `segue up` brings an embedded one."
        return [Finding("broker", "warn", "KAFKA_BOOTSTRAP_SERVERS is not set", todo)]
    try:
        cluster = cluster_of(env)
        there = await topics_there(cluster, LIMIT_S)
        safe = await copies(cluster, there, LIMIT_S)
    except BrokerAway as error:
        todo = "Start the broker, or correct the setting: docs/settings.md tells what each is."
        return [Finding("broker", "fail", str(error), todo)]
    notes = [Finding("broker", "warn", note) for note in settings_of(KafkaSettings, env).kafka_notes]
    return [Finding("broker", "ok", str(cluster)), *notes, _topics(cluster, there), *safe]


def _topics(cluster: KafkaCluster, there: Mapping[str, TopicState]) -> Finding:
    missing, hidden = sorted_out(cluster.names, there)
    if missing:
        todo = "Create them: segue topics --replication 3, or fewer if the cluster has fewer brokers."
        return Finding("topics", "fail", f"missing: {', '.join(missing)}", todo)
    if few := too_few(there, there, cluster.names.partitions):
        return Finding("topics", "fail", "; ".join(few.values()), "Add partitions to all topics alike.")
    if hidden:
        what = f"{len(TOPICS) - len(hidden)} are there; {cluster.principal} may not see {', '.join(hidden)}"
        todo = "Nothing if one service has this login; `segue topics --acls` prints what each needs."
        return Finding("topics", "warn", what, todo)
    return Finding("topics", "ok", f"all {len(TOPICS)} are there")


async def catalogue(env: Settings) -> list[Finding]:
    """Check that the catalogue can be read."""
    try:
        told = env.get("SEGUE_CATALOGUE")
        path = Path(told) if told else default_catalogue_path()
        models = load_catalogue(path).models.values()
    except CatalogueError as error:
        told = str(cannot_use("SEGUE_CATALOGUE", error))
        return [Finding("catalogue", "fail", told, "Correct the lines that it names; no service starts before that.")]
    routes = sum(len(model.routes) for model in models)
    return [Finding("catalogue", "ok", f"{len(models)} models with {routes} routes, from {path}")]


async def rules(env: Settings) -> list[Finding]:
    """Check that the routing rules and the egress rules can be read."""
    found = []
    try:
        EgressPolicy.parse(env.get("SEGUE_EGRESS_ALLOW", ""))
    except ValueError as error:
        found.append(Finding("egress", "fail", f"SEGUE_EGRESS_ALLOW: {error}", "Hosts, addresses or networks."))
    try:
        told = env.get("SEGUE_CATALOGUE")
        models = load_catalogue(Path(told) if told else default_catalogue_path())
        if path := env.get("SEGUE_ROUTING"):
            load_policies(Path(path), models)
            found.append(Finding("routing", "ok", path))
    except CatalogueError:
        pass  # The catalogue has a check of its own.
    except PolicyError as error:
        found.append(
            Finding("routing", "fail", str(cannot_use("SEGUE_ROUTING", error)), "Correct the lines that it names.")
        )
    return found


async def artifact_store(env: Settings) -> list[Finding]:
    """Check that the artifact store can write, read and delete a small file."""
    what, url = "artifact store", env.get("ARTIFACT_STORE_URL")
    if not url:
        todo = "The gateway and the adapters need it, all the same one; `segue up` keeps files in .segue/artifacts."
        return [Finding(what, "warn", "ARTIFACT_STORE_URL is not set", todo)]
    if faults := credential_faults(url, env):
        return [Finding(what, "fail", fault, "Copy it again.") for fault in faults]
    shown, sent, key = url.partition("?")[0], b"segue doctor", f"doctor/{uuid4()}"
    try:
        async with asyncio.timeout(LIMIT_S):
            store = ArtifactStore.open(url)
            await store.put_file(_bytes(sent), key, content_type="text/plain")
            got = b"".join([chunk async for chunk in await store.get(key)])
            await store.delete(key)
    except CannotStart as error:
        return [Finding(what, "fail", str(error), "file:///path, s3://bucket, gs://bucket or az://container.")]
    except _STORE_TROUBLE as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        todo = "Check that it exists, and that we may write, read and delete there."
        return [Finding(what, "fail", f"{shown}: {why}", todo)]
    if got != sent:
        return [Finding(what, "fail", f"{shown} returned other bytes than were stored", "Use another store.")]
    return [Finding(what, "ok", f"{shown}: written, read and deleted a small file")]


async def _bytes(data: bytes) -> AsyncIterator[bytes]:
    yield data


CHECKS: Final = (
    settings,
    keys,
    sdks,
    music_provider,
    broker,
    database,
    catalogue,
    rules,
    artifact_store,
    output_hosts,
    running_services,
)
"""All checks, in the order in which they are printed."""
