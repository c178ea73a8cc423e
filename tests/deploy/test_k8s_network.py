"""What may reach what in the namespace of Segue, as a network plugin would decide it by the policies."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from tests.deploy.manifests import Manifest, overlay, pods

from contracts.providers.registry import PROVIDERS
from contracts.topics import SERVICES

PUBLIC, PRIVATE = "8.8.8.8", "10.1.2.3"
OUTSIDE = {
    "kafka.production": ("kafka", {}),
    "prometheus": ("monitoring", {}),
    "proxy": ("gateway-system", {}),
    "stranger": ("default", {}),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}),
}


class Network:
    """The policies of an overlay, and its pods by name: their namespace, labels and named ports."""

    def __init__(self, name: str) -> None:
        self.policies = [each["spec"] for each in overlay(name) if each["kind"] == "NetworkPolicy"]
        self.pods = {
            what.split()[1]: ("segue", pod["metadata"]["labels"], _named_ports(pod)) for what, pod in pods(name)
        } | {who: (place, labels, {}) for who, (place, labels) in OUTSIDE.items()}

    def allows(self, source: str, target: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection passes the policies at both of its ends; `target` is a pod or an address."""
        leaves = self._passes("Egress", source, target, target, port, protocol)
        return leaves and (target not in self.pods or self._passes("Ingress", target, source, target, port, protocol))

    def _passes(self, way: str, subject: str, other: str, target: str, port: int, protocol: str) -> bool:
        place, labels, _ = self.pods[subject]
        if place != "segue":
            return True
        chosen = [
            each for each in self.policies if way in each["policyTypes"] and _selects(each["podSelector"], labels)
        ]
        rules = [rule for each in chosen for rule in each.get(way.lower(), [])]
        peers = "to" if way == "Egress" else "from"
        return not chosen or any(
            any(self._is(peer, other) for peer in rule[peers]) and self._port(rule["ports"], target, port, protocol)
            for rule in rules
        )

    def _is(self, peer: Manifest, who: str) -> bool:
        if "ipBlock" in peer:
            return who not in self.pods and _within(peer["ipBlock"], who)
        if who not in self.pods:
            return False
        place, labels, _ = self.pods[who]
        namespace = {"kubernetes.io/metadata.name": place}
        here = _selects(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else place == "segue"
        return here and _selects(peer.get("podSelector", {}), labels)

    def _port(self, ports: list[Manifest], target: str, port: int, protocol: str) -> bool:
        named = self.pods[target][2] if target in self.pods else {}
        return any(
            named.get(each["port"], each["port"]) == port and each.get("protocol", "TCP") == protocol for each in ports
        )


def _named_ports(pod: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c.get("ports", [])}


def _selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    wanted = {name: [value] for name, value in selector.get("matchLabels", {}).items()}
    wanted |= {each["key"]: each["values"] for each in selector.get("matchExpressions", [])}
    return all(labels.get(name) in values for name, values in wanted.items())


def _within(block: Manifest, address: str) -> bool:
    inside = ip_address(address) in ip_network(block["cidr"])
    return inside and not any(ip_address(address) in ip_network(each) for each in block.get("except", []))


def test_in_the_demo_each_reaches_what_it_needs_and_nothing_else() -> None:
    net = Network("demo")
    ports = {"kafka": 9092, "postgres": 5432, "gateway": 8080, "sandbox": 8443, "sandbox-control": 8446}
    ours = (*SERVICES, "setup")
    adapters = [spec.service for spec in PROVIDERS.values()]
    needed = {(who, what) for who in ours for what in ("kafka", "postgres")}
    needed |= {(who, "sandbox") for who in adapters} | {("demo", "gateway")}
    found = {
        (who, what)
        for who in net.pods
        for what, port in ports.items()
        if who != what and net.allows(who, what.removesuffix("-control"), port)
    }
    assert found == needed
    assert all(net.allows(who, "dns", 53, "UDP") for who in (*ours, "demo"))
    assert not [who for who in net.pods if net.pods[who][0] == "segue" and net.allows(who, PUBLIC, 443)]


def test_in_production_each_reaches_what_it_needs_and_nothing_else() -> None:
    net = Network("production")
    ours = (*SERVICES, "setup")
    targets = {"kafka.production": 9092, "192.0.2.10": 5432, PUBLIC: 443, PRIVATE: 443, "gateway": 8080}
    calls_out = {"gateway", "log-sink", *(spec.service for spec in PROVIDERS.values())}
    needed = {(who, what) for who in ours for what in ("kafka.production", "192.0.2.10")}
    needed |= {(who, PUBLIC) for who in calls_out}
    found = {(who, what) for who in ours for what, port in targets.items() if net.allows(who, what, port)}
    assert found == needed
    assert {who for who in OUTSIDE if net.allows(who, "gateway", 8080)} == {"proxy"}
    assert {who for who in OUTSIDE if net.allows(who, "gateway", 8081)} == {"prometheus"}
    assert all(net.allows("prometheus", service, 8080) for service in SERVICES if service != "gateway")
