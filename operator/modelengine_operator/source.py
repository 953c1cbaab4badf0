"""The grammar of `spec.model.source`, written once: the API server checks it as CEL, `parse` reads it into parts.

Called by spec.py. Which volumes and containers a source needs is decided where pods are made, not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from modelengine.errors import InvalidRequest
from modelengine_operator.fields import SUBDOMAIN, rule

SCHEMES = "demo://, hf://org/name, pvc://claim/path or oci://image"

_HUB_NAME = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
_REVISION = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
# No part is `.` or `..`: a path stays inside its volume.
_PATH = r"\.?[A-Za-z0-9_+@=-][A-Za-z0-9_.+@=-]*(/\.?[A-Za-z0-9_+@=-][A-Za-z0-9_.+@=-]*)*"
IMAGE = (
    r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[a-f0-9]{64})?"
)

Kind = Literal["demo", "hub", "claim", "image"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files come from. Only the parts of its kind are filled.

    hub: `repository` (org/name) and `revision`, empty for the default branch. claim: the volume `claim` and the
    folder `path` in it, empty for its root. image: `image`, a reference as a container has it.
    """

    kind: Kind
    text: str
    repository: str = ""
    revision: str = ""
    claim: str = ""
    path: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class _Form:
    kind: Kind
    scheme: str
    pattern: str
    message: str


_FORMS = (
    _Form("demo", "demo://", "demo://", "demo:// stands alone: write demo://"),
    _Form(
        "hub",
        "hf://",
        f"hf://(?P<repository>{_HUB_NAME}/{_HUB_NAME})(@(?P<revision>{_REVISION}))?",
        "write hf://org/name or hf://org/name@revision, as in hf://Qwen/Qwen3-0.6B@main",
    ),
    _Form(
        "claim",
        "pvc://",
        f"pvc://(?P<claim>{SUBDOMAIN})(/(?P<path>{_PATH}))?",
        "write pvc://claim or pvc://claim/path, as in pvc://models/qwen3; a path has no '..' and no '/' at its end",
    ),
    _Form(
        "image",
        "oci://",
        f"oci://(?P<image>{IMAGE})",
        "write oci://image, oci://image:tag or oci://image@sha256:..., as in oci://registry.example/models/qwen3:1",
    ),
)
_UNKNOWN = f"must be {SCHEMES}"


def checks() -> tuple[dict[str, str], ...]:
    """The grammar as CEL rules of the field, one readable message for each scheme."""
    known = " || ".join(f"self.startsWith('{form.scheme}')" for form in _FORMS)
    return (
        rule(known, _UNKNOWN),
        *(
            rule(f"!self.startsWith('{form.scheme}') || self.matches(r'^{_unnamed(form.pattern)}$')", form.message)
            for form in _FORMS
        ),
    )


def parse(text: str) -> Source:
    """Raises InvalidRequest that says how the source is to be written."""
    form = next((form for form in _FORMS if text.startswith(form.scheme)), None)
    if form is None:
        raise InvalidRequest(_UNKNOWN)
    found = re.fullmatch(form.pattern, text)
    if found is None:
        raise InvalidRequest(form.message)
    return Source(form.kind, text, **{name: part for name, part in found.groupdict().items() if part})


def _unnamed(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "", pattern)
