"""The CustomResourceDefinition, made from spec.py and status.py. `python -m modelengine_operator.crd` writes it anew.

The chart carries a copy of the file; a test compares the file with what is made here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from modelengine import kinds
from modelengine_operator.fields import rule, rules
from modelengine_operator.schema import structural
from modelengine_operator.spec import NAME, NAME_LENGTH, Spec
from modelengine_operator.status import Status

FILE = Path("crds/modelengines.yaml")
HEADER = "# Made by `python -m modelengine_operator.crd` from its spec.py and status.py: change those.\n"

_NAME_RULE = rule(
    f"self.metadata.name.size() <= {NAME_LENGTH} && self.metadata.name.matches('^{NAME}$')",
    f"metadata.name must start with a letter, have only a-z, 0-9 and '-', not end with '-', "
    f"and be at most {NAME_LENGTH} characters long",
)


def _column(name: str, path: str, description: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "jsonPath": path,
        "description": description,
        # The API server drops a zero, and Helm would take its absence for somebody else's change.
        **({"priority": 1} if wide else {}),
    }


COLUMNS = [
    _column("Model", ".status.servedName", "The name that clients ask for."),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether all wanted replicas answer."),
    _column("Replicas", ".status.ready", "How many engine pods answer, and how many are wanted."),
    _column("Reason", ".status.reason", "Why it is ready or not."),
    _column("Age", ".metadata.creationTimestamp", "How long it has existed.", "date"),
    _column("Protocol", ".spec.protocol", "What it is asked for.", wide=True),
    _column("Source", ".spec.model.source", "Where the model's files come from.", wide=True),
    _column("Device", ".status.model.device", "What it runs on.", wide=True),
    _column("Stage", ".status.loading.stage", "What a pod that is not ready does now.", wide=True),
    _column(
        "Message", '.status.conditions[?(@.type=="Ready")].message', "Why, as a sentence, and what to do.", wide=True
    ),
]


def schema() -> dict[str, Any]:
    """The schema of a whole ModelEngine."""
    return {
        "description": "A model that is served under a name: pods that run it, and the registry entry by which "
        "clients find them.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{kinds.API_VERSION}"},
            "kind": {"type": "string", "description": kinds.KIND},
            "metadata": {"type": "object"},
            "spec": structural(Spec),
            "status": structural(Status),
        },
        **rules(_NAME_RULE),
    }


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kinds.PLURAL}.{kinds.GROUP}"},
        "spec": {
            "group": kinds.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kinds.KIND,
                "listKind": f"{kinds.KIND}List",
                "plural": kinds.PLURAL,
                "singular": kinds.KIND.lower(),
                "shortNames": [kinds.SHORT_NAME],
                "categories": ["all", "modelengine"],
            },
            "versions": [
                {
                    "name": kinds.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": COLUMNS,
                    "selectableFields": [{"jsonPath": ".spec.model.source"}, {"jsonPath": ".status.servedName"}],
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice out twice: a reader of the CRD should not have to follow anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    return HEADER + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
