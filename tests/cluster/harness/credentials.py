"""Who is who: a certificate authority of the cluster's own, and a kubeconfig for each user. For `control_plane.py`.

By the openssl command: no Python package that we lock makes certificates.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from . import network

SERVER = f"https://{network.NODE_IP}:6443"
_DAYS = "30"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
# Written out because Python 3.13 and later are strict about each of these.
_EXTENSIONS = """
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authority:
    """Signs certificates into `folder`: NAME.crt and NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o700)
        (folder / "openssl.cnf").write_text(_EXTENSIONS)
        self._certificate("ca", "authority", "/CN=modelengine test cluster")
        self._openssl("genrsa", "-out", str(folder / "sa.key"), "2048")
        self._openssl("rsa", "-in", str(folder / "sa.key"), "-pubout", "-out", str(folder / "sa.pub"))

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, name: str, *subject_names: str) -> None:
        self._sign(name, f"/CN={name}", "serverAuth", f"subjectAltName={','.join(subject_names)}")

    def client(self, name: str, user: str, group: str = "") -> None:
        self._sign(name, f"/O={group}/CN={user}" if group else f"/CN={user}", "clientAuth")

    def kubeconfig(self, path: Path, *, certificate: str = "", token: str = "", namespace: str = "default") -> Path:
        """Writes one that stands alone; for a client certificate of this folder, or for a token."""
        if certificate:
            user = {
                "client-certificate-data": self._encoded(f"{certificate}.crt"),
                "client-key-data": self._encoded(f"{certificate}.key"),
            }
        else:
            user = {"token": token}
        cluster = {"server": SERVER, "certificate-authority-data": self._encoded("ca.crt")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1))
        return path

    def _sign(self, name: str, subject: str, usage: str, *extensions: str) -> None:
        extras = [word for text in (f"extendedKeyUsage={usage}", *extensions) for word in ("-addext", text)]
        self._certificate(name, "leaf", subject, "-CA", self.file("ca.crt"), "-CAkey", self.file("ca.key"), *extras)

    def _certificate(self, name: str, kind: str, subject: str, *more: str) -> None:
        settings = ["-config", self.file("openssl.cnf"), "-extensions", kind, "-days", _DAYS, "-subj", subject]
        files = ["-keyout", self.file(f"{name}.key"), "-out", self.file(f"{name}.crt")]
        self._openssl("req", "-x509", *_CURVE, *settings, *files, *more)

    def _encoded(self, name: str) -> str:
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"openssl {words[0]}: {done.stderr.strip()}")
