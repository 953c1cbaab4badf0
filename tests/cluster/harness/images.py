"""The images: built by buildah from the Dockerfiles that users have, and loaded into a node's containerd.

No image registry is needed: the base is made from Debian packages. All is kept in the cache. What did not change is
neither built nor loaded again, and a change of our code makes one thin layer.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import binaries, containerd, places
from .binaries import Say

SUITE = "bookworm"
# What a base needs: Python, and the one library that torch does not bring.
PACKAGES = ("python3", "python3-venv", "ca-certificates", "libstdc++6")
# What makes the engine's kernels, and a module of Python's, needs besides.
COMPILER_PACKAGES = (*PACKAGES, "g++", "python3-dev")
_UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_STORE = places.CACHE / "buildah"
# Where the machine's certificates and package cache are seen in a build; neither becomes part of an image.
_CERTIFICATES = "/run/build/certificates.crt"
_PACKAGE_CACHE = "/tmp/.cache/uv"
_MOST = 150


@dataclass(frozen=True)
class Image:
    name: str
    # A Dockerfile of the repository; without one the image is made of Debian packages, or of one binary.
    dockerfile: str = ""
    packages: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        return f"localhost/modelengine-{self.name}:test"

    def key(self) -> str:
        """Names what it is made from."""
        if self.name == "pause":
            return places.fingerprint([], str(binaries.PAUSE.folder))
        if not self.dockerfile:
            return places.fingerprint([], SUITE, *self.packages, *_UNREAD)
        sources = [path for folder in ("engine", "operator") for path in (places.ROOT / folder).rglob("*")]
        single = [places.ROOT / name for name in (".dockerignore", "pyproject.toml", "README.md", "LICENSE")]
        files = [*sources, *single, *(places.ROOT / "requirements").iterdir()]
        made = {"__pycache__", ".so"}
        paths = [path for path in files if path.is_file() and not made & {*path.parts, path.suffix}]
        names = [str(path.relative_to(places.ROOT)) for path in sorted(paths)]
        return places.fingerprint(paths, BASE.key(), COMPILER.key(), self.dockerfile, *names)


PAUSE = Image("pause")
BASE = Image("base", packages=PACKAGES)
# No node needs it.
COMPILER = Image("compiler", packages=COMPILER_PACKAGES)
OPERATOR = Image("operator", "operator/Dockerfile")
ENGINE = Image("engine", "engine/Dockerfile")
ALL = (PAUSE, BASE, OPERATOR, ENGINE)


def prepare(folder: Path, store: Path, say: Say = print) -> None:
    """Builds and loads what the store has not as it should be. The machine's own network is needed for that."""
    record = store / "loaded.json"
    loaded = json.loads(record.read_text()) if record.exists() else {}
    old = [(image, key) for image in ALL if loaded.get(image.name) != (key := image.key())]
    if not old:
        return
    for image in [COMPILER, *(image for image, _ in old)]:
        built = _STORE / f"{image.name}.key"
        if not built.exists() or built.read_text() != image.key():
            say(f"building image {image.reference}")
            _build(image, folder)
            built.write_text(image.key())
    _tidy()
    # buildah leaves its store mounted on itself.
    subprocess.run(["umount", str(_STORE / "store" / "overlay")], check=False, capture_output=True)
    with containerd.running(folder, store) as runtime:
        for image, key in old:
            say(f"loading image {image.reference}")
            # Under a name of its own first: while the old image has a name, the layers that both have stay.
            fresh = f"localhost/modelengine-{image.name}:{key}"
            _load(image.reference, runtime, fresh)
            runtime.rename(fresh, image.reference)
            loaded[image.name] = key
            record.write_text(json.dumps(loaded))


def add(runtime: containerd.Containerd, reference: str, content: Path) -> None:
    """Makes an image of a folder's files, for one node only."""
    _buildah_build(reference, content, "FROM scratch\nCOPY . /\n")
    _load(reference, runtime, reference)
    _run([*_buildah(), "rmi", reference])


def _tidy() -> None:
    """Each build leaves some layers without a name: now and then they go, with all that only old lock files need."""
    if len(_run([*_buildah(), "images", "--all", "--quiet"]).split()) > _MOST:
        _run([*_buildah(), "rmi", "--prune"])


def _build(image: Image, scratch: Path) -> None:
    if image is PAUSE:
        context = binaries.find(binaries.PAUSE).parent
        _buildah_build(image.reference, context, 'FROM scratch\nCOPY pause /pause\nCMD ["/pause"]\n')
    elif image.packages:
        with _debian(scratch / image.name, image.packages) as folder:
            _buildah_build(image.reference, folder, 'FROM scratch\nADD base.tar /\nCMD ["sh"]\n')
    else:
        _buildah_build(image.reference, places.ROOT, "", "--file", image.dockerfile, *_settings())


@contextmanager
def _debian(folder: Path, wanted: tuple[str, ...]) -> Iterator[Path]:
    """The folder with base.tar in it: a root file system of Debian packages."""
    folder.mkdir()
    unread = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD]
    packages = f"--include={','.join(wanted)}"
    argv = ["mmdebstrap", "--variant=essential", *unread, packages, SUITE, str(folder / "base.tar")]
    try:
        _run(argv)
        yield folder
    finally:
        shutil.rmtree(folder)


def _settings() -> list[str]:
    """What the build needs of this machine: its certificates, its package index, the packages that it already has."""
    words = [f"--build-arg=BASE={BASE.reference}", f"--build-arg=COMPILER={COMPILER.reference}"]
    words += [f"--build-arg={name}" for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX") if os.environ.get(name)]
    if bundle := os.environ.get("SSL_CERT_FILE"):
        words += [f"--build-arg={name}={_CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
        words += [f"--volume={bundle}:{_CERTIFICATES}:ro"]
    cache = Path(os.environ.get("UV_CACHE_DIR") or places.CACHE.parents[1] / "uv")
    cache.mkdir(parents=True, exist_ok=True)
    return [*words, f"--volume={cache}:{_PACKAGE_CACHE}"]


def _buildah_build(reference: str, context: Path, recipe: str, *words: str) -> None:
    source = ["--file", "-"] if recipe else []
    options = ["--isolation", "chroot", "--layers", "--force-rm", "--quiet", "--tag", reference]
    _run([*_buildah(), "build", *options, *words, *source, str(context)], recipe)


def _load(built: str, runtime: containerd.Containerd, name: str) -> None:
    """Only what the store lacks is written and read."""
    layout = runtime.folder / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    known = runtime.layers()
    for content in known:
        # buildah takes a layer that is there for written, and looks no further.
        (blobs / content.removeprefix("sha256:")).touch()
    # gzip takes minutes for an engine's layers.
    fast = ["--compression-format", "zstd", "--compression-level", "1"]
    _run([*_buildah(), "push", "--quiet", "--format", "oci", *fast, built, f"oci:{layout}"])
    described = json.loads((layout / "index.json").read_text())["manifests"][0]
    pushed = blobs / described["digest"].removeprefix("sha256:")
    manifest = json.loads(pushed.read_text())
    pushed.unlink()
    manifest["layers"] = [known.get(layer["digest"], layer) for layer in manifest["layers"]]
    with runtime.importing() as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for member, data in _layout_files(name, manifest).items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for path in blobs.iterdir():
            if path.stat().st_size:
                archive.add(path, arcname=f"blobs/sha256/{path.name}")
    shutil.rmtree(layout)


def _layout_files(reference: str, manifest: dict[str, object]) -> dict[str, bytes]:
    """What makes an OCI archive of a manifest, beside the blobs that it names."""
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    described = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(data),
        "annotations": {"io.containerd.image.name": reference},
    }
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [described]}).encode(),
        f"blobs/sha256/{digest}": data,
    }


def _buildah() -> list[str]:
    driver = os.environ.get("STORAGE_DRIVER", "overlay")
    return ["buildah", "--root", str(_STORE / "store"), "--runroot", str(_STORE / "run"), "--storage-driver", driver]


def _run(argv: list[str], stdin: str = "") -> str:
    env = {**os.environ, "PATH": binaries.SEARCH}
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} {argv[-1]} failed:\n{(done.stderr or done.stdout)[-4000:]}")
    return done.stdout
