"""The configuration files of a node's programs. Pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from node_network import NODE, PODS

NAME: Final = "node"
DOMAIN: Final = "cluster.local"
PAUSE: Final = "localhost/segue-pause:1"
RUNC: Final = "/usr/sbin/runc"
CNI_PLUGINS: Final = "/usr/lib/cni"


def kubelet(folder: Path) -> str:
    """The kubelet without what needs a host of its own: the groups of QoS, and the settings of the kernel."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "featureGates": {"KubeletInUserNamespace": True},
        "clusterDNS": [NODE],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "podLogsDir": f"{folder}/logs",
        "resolvConf": "",
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
    }
    return yaml.safe_dump(config)


def proxy(kubeconfig: Path) -> str:
    """kube-proxy, which leaves the limits of connection tracking alone: they are the machine's."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": PODS,
        "hostnameOverride": NAME,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"localhostNodePorts": False},
        "healthzBindAddress": f"{NODE}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
    return yaml.safe_dump(config)


def containerd(folder: Path) -> str:
    """containerd with runc, and each pod on an interface of its own."""
    images, runtime = "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
    return f"""version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins.'{images}']
  snapshotter = "overlayfs"
  [plugins.'{images}'.pinned_images]
    sandbox = "{PAUSE}"
[plugins.'{runtime}']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'{runtime}'.containerd]
    default_runtime_name = "runc"
    [plugins.'{runtime}'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'{runtime}'.containerd.runtimes.runc.options]
        BinaryName = "{RUNC}"
        SystemdCgroup = false
  [plugins.'{runtime}'.cni]
    bin_dirs = ["{CNI_PLUGINS}"]
    conf_dir = "{folder}/cni"
"""


def pod_network(folder: Path) -> str:
    """Each pod has its own link to the node, so that every packet passes through kube-proxy's rules.

    On a bridge an answer between two pods would not, unless the kernel filters bridges too.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{folder}/addresses",
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": addresses}]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})


def dnsmasq(folder: Path) -> list[str]:
    """The name server of the Services, which reads their names from files in `hosts`."""
    return [
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--hostsdir={folder}/hosts",
        "--conf-file=/dev/null", f"--local=/{DOMAIN}/", f"--listen-address={NODE}", "--bind-interfaces",
        "--user=root", "--pid-file=",
    ]  # fmt: skip


def resolver(namespace: str) -> str:
    """The file by which a process outside resolves names as a pod of the namespace does."""
    return f"nameserver {NODE}\nsearch {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n"


def hosts(services: list[dict[str, Any]]) -> str:
    """The addresses and names of Services, as lines of a hosts file."""
    found = ((each["spec"].get("clusterIP"), each["metadata"]) for each in services)
    lines = (
        f"{address} {named['name']}.{named['namespace']}.svc.{DOMAIN}\n"
        for address, named in found
        if address not in (None, "", "None")
    )
    return "".join(lines)
