"""A control plane: etcd, API server, controller manager, scheduler. Used by the tests' fixtures and `up.py`.

Who enters it is moved into its network namespace until the exit. RBAC, the node authorizer, ServiceAccount tokens and
pod-security admission are on; the audit log has a line for each request (`audit.py` reads it).
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import binaries, leftovers, network, places, processes
from .audit import Audit
from .credentials import SERVER, Authority
from .processes import Process

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]},
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "None", "nonResourceURLs": ["*"]},
        {"level": "Metadata"},
    ],
}
# The identities of the cluster's own parts, as Kubernetes' default roles know them: file name -> (user, group).
_CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": ("system:node:node0", "system:nodes"),
    "apiserver-to-kubelet": ("apiserver", "system:masters"),
    "dns": ("system:coredns", ""),
}


class CommandFailed(AssertionError):
    """kubectl or helm said no; `output` is what it wrote to stderr."""

    def __init__(self, argv: list[str], code: int, output: str) -> None:
        super().__init__(f"{' '.join(argv)} ended with {code}: {output.strip()}")
        self.code = code
        self.output = output


class ControlPlane:
    """One that runs. Its attributes are for tests; starting and stopping it is `running`'s."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = places.CLUSTERS / name
        self.bin = self.folder / "bin"
        self.audit = Audit(self.folder / "logs" / "audit.log")
        self.authority = Authority(self.folder / "certificates")
        self._issue()
        self.kubeconfig = self.authority.kubeconfig(self.folder / "kubeconfig", certificate="admin")
        self._trust = ssl.create_default_context(cafile=self.authority.file("ca.crt"))
        self._trust.load_cert_chain(self.authority.file("admin.crt"), self.authority.file("admin.key"))
        self.etcd = self._etcd()
        self.api_server = self._api_server()
        self.controller_manager = self._controller("controller-manager", "--leader-elect=false", *self._signing())
        self.scheduler = self._controller("scheduler", "--leader-elect=false")

    @property
    def environment(self) -> dict[str, str]:
        """For commands that a test starts: kubectl and helm on the PATH, the admin's kubeconfig, an empty helm home."""
        home = {f"HELM_{kind}_HOME": str(self.folder / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
        path = os.pathsep.join([str(self.bin), binaries.SEARCH])
        return {**os.environ, **home, "PATH": path, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *words: object, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Its stdout; a refusal is CommandFailed."""
        return self._command("kubectl", words, stdin, timeout_s)

    def helm(self, *words: object, stdin: str | None = None, timeout_s: float = 600) -> str:
        return self._command("helm", words, stdin, timeout_s)

    def apply(self, *documents: dict[str, object]) -> None:
        """Server-side, as an administrator; plain dicts."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def create_namespace(self, name: str) -> None:
        """Ready for pods: with the ServiceAccount that each of them needs."""
        self.kubectl("create", "namespace", name)
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        processes.until(lambda: self.alive(path), 30, f"the default ServiceAccount of {name}")

    def kubeconfig_of(self, service_account: str, namespace: str) -> Path:
        """A kubeconfig with the rights of a ServiceAccount: what a pod of it could do."""
        token = self.kubectl("create", "token", service_account, "-n", namespace, "--duration=24h").strip()
        path = self.folder / f"{namespace}.{service_account}.kubeconfig"
        return self.authority.kubeconfig(path, token=token, namespace=namespace)

    def alive(self, path: str = "/readyz") -> bool:
        try:
            with urllib.request.urlopen(SERVER + path, context=self._trust, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def start_api_server(self) -> None:
        self.api_server.start()
        self.api_server.wait_ready(self.alive)

    @contextmanager
    def without_api_server(self, *, kill: bool = True) -> Iterator[None]:
        """It is gone inside the block (killed, or told to stop), and up again after it."""
        self.api_server.kill() if kill else self.api_server.stop(30)
        try:
            yield
        finally:
            self.start_api_server()

    def start(self) -> None:
        for process in (self.etcd, self.api_server):
            process.start()
        self.api_server.wait_ready(self.alive)
        for process in (self.controller_manager, self.scheduler):
            process.start()
        # What every namespace gets and every pod needs comes from the controller manager.
        self.controller_manager.wait_ready(lambda: self.alive("/api/v1/namespaces/default/serviceaccounts/default"))

    def stop(self) -> None:
        # From the top down, so that none logs its grief over a lost server; etcd's data is thrown away.
        for process in (self.scheduler, self.controller_manager, self.api_server, self.etcd):
            process.kill()

    def _command(self, name: str, words: tuple[object, ...], stdin: str | None, timeout_s: float) -> str:
        argv = [name, *map(str, words)]
        done = subprocess.run(
            [str(self.bin / name), *argv[1:]],
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode:
            raise CommandFailed(argv, done.returncode, done.stderr or done.stdout)
        return done.stdout

    def _issue(self) -> None:
        service = network.SERVICE_CIDR.replace(".0/16", ".1")
        names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{network.DNS_DOMAIN}",
        ]
        addresses = [f"IP:{address}" for address in (network.NODE_IP, service, "127.0.0.1")]
        self.authority.server("apiserver", *addresses, *(f"DNS:{name}" for name in names))
        self.authority.server("kubelet-server", f"IP:{network.NODE_IP}", "DNS:node0")
        for name, (user, group) in _CLIENTS.items():
            self.authority.client(name, user, group)

    def _etcd(self) -> Process:
        return self.process(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            # Nothing here need survive a power cut.
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _api_server(self) -> Process:
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        file = self.authority.file
        return self.process(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={network.NODE_IP}",
            "--secure-port=6443",
            f"--tls-cert-file={file('apiserver.crt')}",
            f"--tls-private-key-file={file('apiserver.key')}",
            f"--client-ca-file={file('ca.crt')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Models as images; on by default in later versions.
            "--feature-gates=ImageVolume=true",
            "--allow-privileged=true",
            "--anonymous-auth=false",
            f"--service-account-issuer=https://kubernetes.default.svc.{network.DNS_DOMAIN}",
            f"--service-account-key-file={file('sa.pub')}",
            f"--service-account-signing-key-file={file('sa.key')}",
            f"--service-cluster-ip-range={network.SERVICE_CIDR}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={file('ca.crt')}",
            f"--kubelet-client-certificate={file('apiserver-to-kubelet.crt')}",
            f"--kubelet-client-key={file('apiserver-to-kubelet.key')}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit.path}",
            "--audit-log-maxsize=4096",
            "--profiling=false",
        )

    def _signing(self) -> list[str]:
        file = self.authority.file
        return [
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={file('sa.key')}",
            f"--root-ca-file={file('ca.crt')}",
            f"--cluster-cidr={network.POD_CIDR}",
            f"--flex-volume-plugin-dir={self.folder / 'volume-plugins'}",
        ]

    def _controller(self, name: str, *flags: str) -> Process:
        kubeconfig = self.authority.kubeconfig(self.folder / f"{name}.kubeconfig", certificate=name)
        # Their own rate limits (20 and 50 requests a second) would be what a test of a thousand objects measures.
        limits = ["--kube-api-qps=500", "--kube-api-burst=1000"]
        return self.process(f"kube-{name}", f"--kubeconfig={kubeconfig}", *limits, *flags)

    def process(self, name: str, *flags: str, **env: str) -> Process:
        return Process(self.folder, [str(self.bin / name), *flags], env)


@contextmanager
def running(name: str = "") -> Iterator[ControlPlane]:
    """Brings one up, entered; what an earlier killed run left is removed first."""
    binaries.require(binaries.FOR_CONTROL_PLANE)
    leftovers.clean()
    name = name or f"me-{os.getpid()}"
    with ExitStack() as undo:
        folder = leftovers.claim(name)
        undo.callback(leftovers.remove, name)
        for binary in (binaries.KUBE, binaries.HELM):
            binaries.link(binary, folder / "bin")
        network.make(name)
        undo.enter_context(network.entered(name))
        plane = ControlPlane(name)
        undo.callback(plane.stop)
        plane.start()
        yield plane
