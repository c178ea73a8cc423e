"""KEDA's operator and metrics adapter beside a running node: adapters are scaled up and down by the lag of Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import node_certificates
import validate
from contracts.topics import ADAPTERS
from go_programs import run_go
from node_network import MACHINE
from node_programs import HERE, KEDA, say
from segue_cli.local.process import child
from segue_cli.stack.components import log_to

if TYPE_CHECKING:
    from node_proof import Proof

NAMESPACE: Final = "keda"
METRICS_PORT: Final = 6443
METRICS: Final = "keda-metrics-apiserver"
LAG: Final = 5
"""Messages for each replica: fewer than in production, where this machine would need thousands of jobs."""
MOST: Final = 3
"""Replicas of each adapter, for which the node has processors."""
LOOK_EVERY_S: Final = 1.0
UP_WITHIN_S: Final = 180.0
DOWN_WITHIN_S: Final = 240.0
PROMETHEUS: Final = "prometheus"

Manifest = dict[str, Any]


def metrics_service() -> list[Manifest]:
    """The Service behind the API of external metrics, which leads to a process of this machine."""
    named = {"name": METRICS, "namespace": NAMESPACE}
    service = {"ports": [{"name": "https", "port": 443, "targetPort": METRICS_PORT}]}
    of_service = {**named, "labels": {"kubernetes.io/service-name": METRICS}}
    api = {
        "service": {"name": METRICS, "namespace": NAMESPACE},
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": service},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": of_service,
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": METRICS_PORT}],
            "endpoints": [{"addresses": [MACHINE]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": api,
        },
    ]


def scaled(manifests: list[Manifest]) -> list[Manifest]:
    """The adapters' ScaledObjects of `components/keda`, for the demo: its Kafka, no Prometheus, and down soon."""
    found = [one for one in manifests if one["kind"] == "ScaledObject" and one["metadata"]["name"] in ADAPTERS]
    for each in found:
        spec = each["spec"]
        spec |= {"minReplicaCount": 1, "maxReplicaCount": MOST, "pollingInterval": 5}
        soon = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}}}
        spec["advanced"] = {"horizontalPodAutoscalerConfig": soon}
        spec["triggers"] = [one for one in spec["triggers"] if one["type"] != PROMETHEUS]
        for one in spec["triggers"]:
            one["metadata"] |= {"bootstrapServers": "kafka:9092", "lagThreshold": str(LAG)}
            del one["metadata"]["excludePersistentLag"]
    return found


@contextlib.asynccontextmanager
async def operating(proof: Proof) -> AsyncIterator[None]:
    """KEDA's operator and metrics adapter for the length of the block, as processes that resolve names as pods do."""
    programs = await asyncio.to_thread(KEDA.built, say)
    certificates = proof.folder / "keda"
    names = ("localhost", f"{METRICS}.{NAMESPACE}.svc")
    node_certificates.written(certificates, METRICS, names, ("127.0.0.1", MACHINE))
    kubeconfig = proof.kubeconfig
    operator = [
        str(programs / "keda-operator"), "--enable-webhook-patching=false", "--enable-apiservice-patching=false",
        f"--cert-dir={certificates}", "--metrics-bind-address=127.0.0.1:18080",
        "--health-probe-bind-address=127.0.0.1:18081", "--metrics-service-bind-address=127.0.0.1:19666",
        f"--kubeconfig={kubeconfig}",
    ]  # fmt: skip
    adapter = [
        str(programs / "keda-adapter"), f"--secure-port={METRICS_PORT}", f"--bind-address={MACHINE}", "--port=18082",
        f"--cert-dir={certificates}", f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key", "--metrics-service-address=localhost:19666",
        f"--lister-kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]  # fmt: skip
    resolved = f"mount --bind {proof.folder}/resolv.conf /etc/resolv.conf && exec "
    environ = {**os.environ, "KUBECONFIG": kubeconfig, "WATCH_NAMESPACE": "", "POD_NAMESPACE": NAMESPACE}
    environ |= {"KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE}
    async with contextlib.AsyncExitStack() as stack:
        for name, argv in (("keda-operator", operator), ("keda-adapter", adapter)):
            take, close = log_to(proof.folder / f"{name}.log")
            stack.callback(close)
            enter = ["unshare", "--mount", "sh", "-c", resolved + " ".join(argv)]
            await stack.enter_async_context(child(enter, name=name, env=environ, on_line=take))
        yield


async def prove(proof: Proof) -> None:
    """See both adapters scaled up under load, and down afterwards."""
    module = json.loads(run_go(["go", "list", "-m", "-json", "github.com/kedacore/keda/v2"], HERE / "keda"))
    await proof.kubectl("apply", "--server-side", "-f", str(Path(module["Dir"], "config", "crd", "bases")))
    await proof.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    await proof.apply(metrics_service())
    async with operating(proof):
        k8s = HERE.parent
        rendered = validate.rendered(k8s / "base", components=[k8s / "components" / "keda"])
        await proof.apply(scaled(rendered))
        async with proof.timed("KEDA is ready"):
            await proof.kubectl(
                "wait", "--for=condition=Ready", "scaledobject", "--all", "--namespace=segue", "--timeout=120s"
            )
        watching = asyncio.create_task(_watched(proof))
        try:
            async with proof.under_load("scaling", 25.0, 1500):
                await _until(proof, lambda counts: max(counts.values()) > 1, UP_WITHIN_S, "an adapter was scaled up")
            await _until(proof, lambda counts: max(counts.values()) == 1, DOWN_WITHIN_S, "all were scaled down again")
        finally:
            watching.cancel()
        print(await proof.kubectl("get", "hpa,scaledobject", "--namespace=segue"), flush=True)
        await proof.kubectl("delete", "scaledobject", "--all", "--namespace=segue")
    await proof.restarts()


async def _replicas(proof: Proof) -> dict[str, int]:
    told = json.loads(await proof.kubectl("get", "deployment", *ADAPTERS, "--namespace=segue", "-o", "json"))
    return {each["metadata"]["name"]: each["status"].get("readyReplicas", 0) for each in told["items"]}


async def _watched(proof: Proof) -> None:
    """Say each change of the number of ready replicas."""
    known: dict[str, int] = {}
    while True:
        counts = await _replicas(proof)
        if counts != known:
            proof.say("ready replicas: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
            known = counts
        await asyncio.sleep(LOOK_EVERY_S)


async def _until(proof: Proof, holds: Callable[[dict[str, int]], bool], within_s: float, what: str) -> None:
    began = time.monotonic()
    while not holds(await _replicas(proof)):
        if time.monotonic() - began > within_s:
            proof.broken.append(f"not within {within_s:.0f} s: {what}")
            return
        await asyncio.sleep(LOOK_EVERY_S)
    proof.say(f"{what} after {time.monotonic() - began:.1f} s")
