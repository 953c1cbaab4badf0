"""`make chart`: makes what comes from the chart's sources: its copy of the CRD, plain manifests, the table of values.

The tests in tests/chart compare each with what this makes, so none can be forgotten.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "modelengine"
CRD = ROOT / "crds" / "modelengines.yaml"
CRD_COPY = CHART / "files" / "modelengines.yaml"
PLAIN = ROOT / "manifests" / "install.yaml"
VALUES = CHART / "values.yaml"
INSTALL = ROOT / "docs" / "install.md"

NAMESPACE = "modelengine"
HEAD = f"""\
# ModelEngine without Helm: kubectl apply --server-side -f install.yaml
# Made from charts/modelengine by `make chart`; the chart has the choices. See docs/install.md.
---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
# What is true of a release of Helm's only.
OF_HELM = re.compile(r"^(# Source: .*| *helm\.sh/.*| *app\.kubernetes\.io/managed-by: Helm)\n", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- values: made by `make chart` -->\n).*?(?=<!-- end of values -->)", re.DOTALL)
LONGEST_DEFAULT = 60


def plain(helm: Path) -> str:
    """The chart with its default values as manifests for kubectl; hooks are Helm's alone and left out."""
    words = ["template", "modelengine", str(CHART), "--namespace", NAMESPACE, "--no-hooks", "--set", "crds.keep=false"]
    rendered = subprocess.run([str(helm), *words], check=True, capture_output=True, text=True).stdout
    return HEAD + re.sub(r"\n\n+---", "\n---", OF_HELM.sub("", rendered))


def values(text: str) -> Iterator[tuple[str, Any, str]]:
    """Each value that has a comment: its dotted name, its default, and the comment. The rest must be groups of such."""
    defaults = yaml.safe_load(text)
    lines = text.splitlines()

    def below(node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
        for key, value in node.value:
            name = (*path, key.value)
            above = lines[key.start_mark.line - 1].strip()
            if above.startswith("# -- "):
                default = defaults
                for part in name:
                    default = default[part]
                yield ".".join(name), default, above.removeprefix("# -- ")
            elif isinstance(value, yaml.MappingNode) and value.value:
                yield from below(value, name)
            else:
                raise ValueError(f"{'.'.join(name)} in values.yaml has no `# --` comment")

    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return below(root, ())


def table(text: str) -> str:
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    for name, default, meaning in values(text):
        shown = json.dumps(default)
        rows.append(
            f"| `{name}` | {f'`{shown}`' if len(shown) <= LONGEST_DEFAULT else 'see values.yaml'} | {meaning} |"
        )
    return "\n".join([*rows, ""])


def install_page() -> str:
    """docs/install.md with its table as values.yaml has it."""
    fresh = table(VALUES.read_text())
    return TABLE.sub(lambda _: fresh, INSTALL.read_text())


def main() -> None:
    from cluster.harness import binaries

    CRD_COPY.write_bytes(CRD.read_bytes())
    PLAIN.parent.mkdir(exist_ok=True)
    PLAIN.write_text(plain(binaries.find(binaries.HELM)))
    INSTALL.write_text(install_page())


if __name__ == "__main__":
    main()
