"""A node for a control plane: containerd, kubelet, kube-proxy, cluster DNS. Used by the tests' fixtures and `up.py`.

Pods are routed, not bridged (the `ptp` plugin), so that Services work between pods of one node on every kernel. Cluster
DNS is a process behind the usual Service. GPUs are only said to be there, which is enough for scheduler and kubelet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from . import binaries, cgroups, containerd, images, network, processes, traces
from .binaries import Say
from .containerd import Containerd
from .control_plane import ControlPlane

NAME = "node0"
# Persistent volumes that wait for claims of the default StorageClass; nothing makes more.
_VOLUMES = 24
_COREFILE = """\
{domain} in-addr.arpa ip6.arpa {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
}}
. {{
    bind {address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


class Node:
    """One that runs, in the control plane's network."""

    def __init__(self, plane: ControlPlane, runtime: Containerd) -> None:
        self._plane = plane
        self.folder = plane.folder
        self.runtime = runtime
        binaries.link(binaries.COREDNS, plane.bin)
        self.kubelet = plane.process("kubelet", *self._kubelet_flags(), PATH=binaries.SEARCH)
        self.proxy = plane.process("kube-proxy", f"--config={self._proxy_settings()}", PATH=binaries.SEARCH)
        self.dns = plane.process("coredns", "-conf", str(self._corefile()))

    def start(self) -> None:
        self._plane.apply(*_dns_objects(), *_storage_objects(self.folder / "volumes"))
        for process in (self.kubelet, self.proxy, self.dns):
            process.start()
        self.kubelet.wait_ready(self.ready)
        self.dns.wait_ready(lambda: processes.answers(f"http://{network.NODE_IP}:8181/ready"))
        self.proxy.wait_ready(lambda: processes.answers("http://127.0.0.1:10256/healthz"))

    def stop(self) -> None:
        for process in (self.kubelet, self.proxy, self.dns):
            process.kill()

    def ready(self) -> bool:
        """Pods may be scheduled."""
        with suppress(AssertionError):
            found = json.loads(self._plane.kubectl("get", "node", NAME, "-o", "json"))
            conditions = {entry["type"]: entry["status"] for entry in found["status"].get("conditions", [])}
            return conditions.get("Ready") == "True" and "taints" not in found["spec"]
        return False

    def advertise_gpus(self, count: int) -> None:
        """Says that the node has so many; 0 takes them away."""
        paths = [f"/status/{part}/nvidia.com~1gpu" for part in ("capacity", "allocatable")]
        patch = [{"op": "add", "path": path, "value": str(count)} for path in paths]
        self._plane.kubectl("patch", "node", NAME, "--subresource=status", "--type=json", "-p", json.dumps(patch))

    def pid_of(self, pod: str, namespace: str, container: str) -> int:
        """The first process of a running container, as this machine numbers it."""
        found = json.loads(self._plane.kubectl("get", "pod", pod, "-n", namespace, "-o", "json"))
        statuses = found["status"].get("containerStatuses", []) + found["status"].get("initContainerStatuses", [])
        wanted = next(entry["containerID"] for entry in statuses if entry["name"] == container)
        return self.runtime.tasks()[wanted.removeprefix("containerd://")]

    def add_image(self, reference: str, content: Path) -> None:
        """An image that has just these files: what an image volume shows."""
        images.add(self.runtime, reference, content)

    def _kubelet_flags(self) -> list[str]:
        file = self._plane.authority.file
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": network.NODE_IP,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": file("ca.crt")}},
            "tlsCertFile": file("kubelet-server.crt"),
            "tlsPrivateKeyFile": file("kubelet-server.key"),
            "clusterDNS": [network.DNS_IP],
            "clusterDomain": network.DNS_DOMAIN,
            "resolvConf": self._file("resolv.conf", ""),
            "containerRuntimeEndpoint": f"unix://{self.runtime.socket}",
            "cgroupDriver": "cgroupfs",
            # One of our own: a kubelet ends what it does not know in its cgroup.
            "cgroupRoot": f"/{cgroups.name(self.folder)}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # The disk may be as full as it likes, and an image that is thrown away cannot be pulled again.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 200,
            "podLogsDir": str(self.folder / "pod-logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # A test of a crash loop need not wait for five minutes.
            "featureGates": {"KubeletCrashLoopBackOffMax": True, "ImageVolume": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        }
        return [
            f"--config={self._file('kubelet.json', json.dumps(settings))}",
            f"--kubeconfig={self._kubeconfig('kubelet')}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.NODE_IP}",
        ]

    def _proxy_settings(self) -> str:
        settings = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": self._kubeconfig("proxy")},
            "mode": "iptables",
            "clusterCIDR": network.POD_CIDR,
            "hostnameOverride": NAME,
            # Limits of the whole machine, which are none of ours.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        return self._file("kube-proxy.json", json.dumps(settings))

    def _corefile(self) -> str:
        kubeconfig = self._kubeconfig("dns")
        text = _COREFILE.format(address=network.NODE_IP, domain=network.DNS_DOMAIN, kubeconfig=kubeconfig)
        return self._file("Corefile", text)

    def _kubeconfig(self, name: str) -> str:
        return str(self._plane.authority.kubeconfig(self.folder / f"{name}.kubeconfig", certificate=name))

    def _file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


def _dns_objects() -> list[dict[str, object]]:
    """The Service that pods ask, in front of the process on the node; and what that process may read."""
    ports = [{"name": name, "port": 53, "protocol": protocol} for name, protocol in (("dns", "UDP"), ("tcp", "TCP"))]
    where = {"namespace": "kube-system", "name": "kube-dns"}
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces", "endpoints"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"}
    user = {"apiGroup": rbac, "kind": "User", "name": "system:coredns"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": where,
            "spec": {"clusterIP": network.DNS_IP, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**where, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [network.NODE_IP], "conditions": {"ready": True}}],
            "ports": ports,
        },
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": role,
            "subjects": [user],
        },
    ]


def claim(name: str, namespace: str) -> dict[str, object]:
    """For one of the volumes below."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def _storage_objects(folder: Path) -> list[dict[str, object]]:
    """A default StorageClass, and volumes for its claims: folders that every user may write to."""
    objects: list[dict[str, object]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "folders", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
        }
    ]
    for number in range(_VOLUMES):
        path = folder / str(number)
        path.mkdir(parents=True)
        path.chmod(0o777)
        spec = {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "storageClassName": "folders",
            "hostPath": {"path": str(path)},
        }
        metadata = {"name": f"folder-{number}"}
        objects.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
    return objects


@contextmanager
def running(plane: ControlPlane, say: Say = print) -> Iterator[Node]:
    """Gives the control plane a node. Images that are missing or old are made first, in the machine's own network."""
    binaries.require(binaries.FOR_NODE)
    with ExitStack() as undo:
        store = plane.folder / "images"
        with containerd.images_held(say) as held:
            with network.outside():
                images.prepare(plane.folder, held, say)
            containerd.copy(held, store)
        runtime = undo.enter_context(containerd.running(plane.folder, store))
        cgroups.make(plane.folder)
        traces.keep_kernel_settings()
        node = Node(plane, runtime)
        undo.callback(node.stop)
        node.start()
        yield node
