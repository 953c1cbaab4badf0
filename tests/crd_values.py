"""A boundary value and a bad one for every field of a ModelEngine's spec, and what is said of the bad one.

The API server is asked about each in tests/cluster/test_crd.py, Python's reading of it in tests/unit/test_spec.py.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAME_MESSAGE = "must be the name of an object"
KEY_MESSAGE = "must be up to 63 letters, digits"
VALUE_MESSAGE = "must be letters, digits"
LONGEST_KEY = f"{'a' * 253}/{'a' * 63}"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODE_TERMS = f"affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
LIKED_NODES = f"affinity.nodeAffinity.{PREFERRED}"
POD_TERMS = f"affinity.podAffinity.{REQUIRED}"
LIKED_PODS = f"affinity.podAffinity.{PREFERRED}"
PODS = f"{POD_TERMS}[0].labelSelector"

_LABELS = {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}
_POD_TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": _LABELS,
    "matchLabelKeys": ["pod-template-hash"],
    "mismatchLabelKeys": ["tier"],
    "namespaces": ["default"],
    "namespaceSelector": {},
}
_PODS = {REQUIRED: [_POD_TERM], PREFERRED: [{"weight": 1, "podAffinityTerm": _POD_TERM}]}
_NODE_TERM = {
    "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}],
    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node0"]}],
}

# Every field has a value here; a row changes one of them.
FULL: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen3", "source": "hf://Qwen/Qwen3-0.6B@main"},
    "protocol": "chat",
    "runtime": {
        "device": "cpu",
        "dtype": "float32",
        "quantization": "int8",
        "maxBatchSize": 1,
        "maxContext": 1,
        "maxQueue": 1,
        "threads": 1,
        "image": "registry.example/engine:1",
        "env": [{"name": "A", "value": "b"}],
    },
    "replicas": 1,
    "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "500m"}},
    "nodeSelector": {"zone": "a"},
    "tolerations": [
        {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoExecute", "tolerationSeconds": 1},
    ],
    "affinity": {
        "nodeAffinity": {
            REQUIRED: {"nodeSelectorTerms": [_NODE_TERM]},
            PREFERRED: [{"weight": 1, "preference": _NODE_TERM}],
        },
        "podAffinity": _PODS,
        "podAntiAffinity": _PODS,
    },
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "login"}],
    "cache": {"size": "1Gi", "storageClass": "fast", "accessMode": "ReadWriteMany"},
    "shmSize": "64Mi",
    "gracePeriodSeconds": 60,
    "startupSeconds": 60,
    "rollout": "Surge",
}


@dataclass(frozen=True)
class Bad:
    """A value that is refused. `where` is the path that the message has, if it is not the row's own."""

    value: Any
    message: str
    where: str = ""
    # A rule that Python leaves to the API server.
    server_only: bool = False


@dataclass(frozen=True)
class Row:
    path: str
    good: Sequence[Any]
    bad: Sequence[Bad]
    # What must not stand beside it.
    without: Sequence[str] = ()

    def specs(self) -> list[dict[str, Any]]:
        return [self._with(value) for value in self.good]

    def bad_specs(self) -> list[tuple[dict[str, Any], Bad]]:
        return [(self._with(bad.value), bad) for bad in self.bad]

    def where(self, bad: Bad) -> str:
        return f"spec.{bad.where or self.path}"

    def _with(self, value: Any) -> dict[str, Any]:
        spec = copy.deepcopy(FULL)
        for path in self.without:
            holder, last = _holder(spec, path)
            del holder[last]
        holder, last = _holder(spec, self.path)
        holder[last] = value
        return spec


def _holder(spec: Any, path: str) -> tuple[Any, Any]:
    *steps, last = (int(step) if step.isdigit() else step for step in re.findall(r"\w+", path))
    for step in steps:
        spec = spec[step]
    return spec, last


def a_record(path: str) -> Row:
    """An object. What may be in it has rows of its own, so the boundary is the one that FULL has there."""
    holder, last = _holder(FULL, path)
    return Row(path, [holder[last]], [Bad("text", "must be of type object")])


def whole(path: str, low: int, high: int) -> Row:
    return Row(
        path,
        [low, high],
        [
            Bad(low - 1, f"should be greater than or equal to {low}"),
            Bad(high + 1, f"should be less than or equal to {high}"),
            Bad(str(low), "must be of type integer"),
        ],
    )


def one_of(path: str, *values: str, without: Sequence[str] = ()) -> Row:
    allowed = ", ".join(f'"{value}"' for value in values)
    return Row(path, values, [Bad(values[0].swapcase(), f"supported values: {allowed}")], without)


def a_name(path: str, without: Sequence[str] = ()) -> Row:
    return Row(
        path,
        ["a", "9.a-b", "a" * 253],
        [Bad("A", NAME_MESSAGE), Bad("a_b", NAME_MESSAGE), Bad("a" * 254, "253")],
        without,
    )


def a_key(path: str) -> Row:
    return Row(
        path,
        ["a", "example.com/a_b.c", LONGEST_KEY],
        [Bad("-a", KEY_MESSAGE), Bad("a b", KEY_MESSAGE), Bad("a" * 64, KEY_MESSAGE), Bad("a" * 318, "317")],
    )


def a_label(path: str) -> Row:
    return Row(path, ["", "A", "a" * 63], [Bad("a b", VALUE_MESSAGE), Bad("a" * 64, "63")])


def a_list(path: str, item: Any, most: int, *, least: int = 0) -> Row:
    """`item` has a `%d` where its items differ, if they must."""
    too_few = [Bad([], "should have at least 1 items")] if least else []
    return Row(
        path,
        [_items(item, least), _items(item, most)],
        [Bad(_items(item, most + 1), f"must have at most {most} items"), *too_few],
    )


def labels_of(path: str, item: str) -> Row:
    return Row(
        path,
        [[item], [item] * 32],
        [Bad([item] * 33, "must have at most 32 items"), Bad(["a b"], "must be", f"{path}[0]")],
    )


def a_map(path: str, most: int, value: str, bad_value: str, message: str) -> Row:
    return Row(
        path,
        [{}, {f"k{i}": value for i in range(most)}, {"example.com/a-b": "1"}, {LONGEST_KEY: value}],
        [
            Bad({f"k{i}": value for i in range(most + 1)}, f"must have at most {most} items"),
            Bad({"a b": value}, f"a key {KEY_MESSAGE}"),
            Bad({"a" * 64: value}, f"a key {KEY_MESSAGE}"),
            Bad({"k": bad_value}, message, f"{path}[k]"),
        ],
    )


def _items(item: Any, count: int) -> list[Any]:
    if isinstance(item, dict):
        return [
            {key: v % i if isinstance(v, str) and "%d" in v else v for key, v in item.items()} for i in range(count)
        ]
    return [item] * count


_SOURCES = [
    "demo://",
    "hf://a/b",
    "hf://Qwen/Qwen1.5-0.5B-Chat@4d14e384a4b037942bb3f3016665157c8bcb70ea",
    "hf://a_b/c.d-e@refs/pr/1",
    "pvc://models",
    "pvc://models/a/b.c",
    "pvc://models/.cache/models--a--b@1",
    "oci://a",
    "oci://registry.example:5000/team/model:v1",
    f"oci://registry.example/model@sha256:{'0' * 64}",
    f"pvc://models/{'a' * 499}",
]
_HUB, _CLAIM, _IMAGE = "write hf://org/name or hf://org/name@revision", "write pvc://claim", "write oci://image"
_BAD_SOURCES = [
    Bad("s3://bucket/model", "must be demo://, hf://org/name, pvc://claim/path or oci://image"),
    Bad("HF://a/b", "must be demo://"),
    Bad("a/b", "must be demo://"),
    Bad("", "should be at least 1 chars long"),
    Bad("demo://x", "demo:// stands alone"),
    Bad("hf://a", _HUB),
    Bad("hf://a/b/c", _HUB),
    Bad("hf://a/b@", _HUB),
    Bad("hf://a/b@../x", _HUB),
    Bad("hf://a--b/c", _HUB),
    Bad("hf://a/b\n", _HUB),
    Bad("pvc://", _CLAIM),
    Bad("pvc://Models/a", _CLAIM),
    Bad("pvc://models/../secret", _CLAIM),
    Bad("pvc://models/..", _CLAIM),
    Bad("pvc://models//a", _CLAIM),
    Bad("pvc://models/a/", _CLAIM),
    Bad("oci://", _IMAGE),
    Bad("oci://a b", _IMAGE),
    Bad("oci://a@sha256:0", _IMAGE),
    Bad(f"pvc://models/{'a' * 500}", "512"),
]
_RESERVED = "are set by the operator"
_ONE_OF_TWO = "set exactly one of claim"
_BYTES = "must be a number of bytes"
_QUANTITY = "must be a quantity"
_DEVICES = "has the same number in limits and requests"

ROWS = [
    a_record("model"),
    Row(
        "model.name",
        ["a", "通义/千问-7b", "a" * 256],
        [Bad("a b", "no spaces"), Bad("a\x01", "no spaces"), Bad("", "at least 1 chars"), Bad("a" * 257, "256")],
    ),
    Row("model.source", _SOURCES, _BAD_SOURCES, ["cache"]),
    one_of("protocol", "chat", "embed", "rerank"),
    a_record("runtime"),
    one_of("runtime.device", "auto", "cpu", "cuda"),
    one_of("runtime.dtype", "auto", "float32", "bfloat16", "float16"),
    one_of("runtime.quantization", "none", "int8", "int4"),
    whole("runtime.maxBatchSize", 1, 1024),
    whole("runtime.maxContext", 0, 10_000_000),
    whole("runtime.maxQueue", 0, 100_000),
    whole("runtime.threads", 0, 1024),
    Row(
        "runtime.image",
        ["a", f"registry.example:5000/team/engine:1@sha256:{'0' * 64}", "a" * 512],
        [Bad("a b", "must be an image"), Bad("-a", "must be an image"), Bad("a" * 513, "512")],
    ),
    a_list("runtime.env", {"name": "A%d", "value": ""}, 64),
    Row("runtime.env", [], [Bad([{"name": "A"}] * 2, "Duplicate value", "runtime.env[1]", server_only=True)]),
    Row(
        "runtime.env[0].name",
        ["_", "A" * 128, "MODELENGINE", "HF_TOKENIZER"],
        [
            Bad("MODELENGINE_MODEL_SOURCE", _RESERVED),
            Bad("HF_TOKEN", _RESERVED),
            Bad("HOME", _RESERVED),
            Bad("9A", "no digit first"),
            Bad("A-B", "must be letters, digits and '_'"),
            Bad("", "at least 1 chars"),
            Bad("A" * 129, "128"),
        ],
    ),
    Row("runtime.env[0].value", ["", "x" * 4096], [Bad("x" * 4097, "4096"), Bad(1, "must be of type string")]),
    whole("replicas", 0, 1000),
    a_record("resources"),
    Row(
        "resources.limits",
        [
            *a_map("resources.limits", 16, "1", "-1", _QUANTITY).good,
            {"cpu": 1, "memory": "1.5Gi", "nvidia.com/gpu": 1},
            {"cpu": "500m", "memory": "1e9"},
        ],
        [
            *a_map("resources.limits", 16, "1", "-1", _QUANTITY).bad,
            Bad({"cpu": "1core"}, _QUANTITY, "resources.limits[cpu]"),
            Bad({"cpu": -1}, _QUANTITY, "resources.limits[cpu]"),
            Bad({"cpu": "1" * 25}, "24", "resources.limits.cpu"),
            Bad({"nvidia.com/gpu": "500m"}, "counted in whole numbers", server_only=True),
        ],
    ),
    Row(
        "resources.requests",
        [{}, {"cpu": "1"}, {"cpu": 1, "memory": "1Gi"}],
        [
            *a_map("resources.requests", 16, "1", "-1", _QUANTITY).bad,
            Bad({"nvidia.com/gpu": 1}, _DEVICES, server_only=True),
        ],
    ),
    Row(
        "resources",
        [
            {"limits": {"nvidia.com/gpu": 2}, "requests": {"nvidia.com/gpu": "2"}},
            {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "1"}},
            {},
        ],
        [
            Bad(
                {"limits": {"nvidia.com/gpu": 2}, "requests": {"nvidia.com/gpu": 1}},
                _DEVICES,
                "resources.requests",
                server_only=True,
            )
        ],
    ),
    a_map("nodeSelector", 32, "a", "a b", VALUE_MESSAGE),
    a_list("tolerations", {"key": "k", "operator": "Exists"}, 32),
    a_key("tolerations[0].key"),
    one_of("tolerations[0].operator", "Exists", "Equal", without=["tolerations[0].value"]),
    a_label("tolerations[0].value"),
    one_of(
        "tolerations[0].effect",
        "NoSchedule",
        "PreferNoSchedule",
        "NoExecute",
        without=["tolerations[0].tolerationSeconds"],
    ),
    whole("tolerations[0].tolerationSeconds", 0, 31_536_000),
    Row(
        "tolerations[0]",
        [
            {"operator": "Exists"},
            {"key": "k"},
            {"key": "k", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "k", "value": "v", "effect": "PreferNoSchedule"},
        ],
        [
            Bad({}, "without a key, set operator: Exists", server_only=True),
            Bad({"key": "k", "operator": "Exists", "value": "v"}, "operator Exists takes no value", server_only=True),
            Bad({"key": "k", "tolerationSeconds": 1}, "tolerationSeconds needs effect: NoExecute", server_only=True),
        ],
    ),
    a_record("affinity"),
    a_record("affinity.nodeAffinity"),
    a_record(f"affinity.nodeAffinity.{REQUIRED}"),
    a_list(NODE_TERMS, {}, 16, least=1),
    a_list(f"{NODE_TERMS}[0].matchExpressions", {"key": "k", "operator": "Exists"}, 16),
    a_list(f"{NODE_TERMS}[0].matchFields", {"key": "k", "operator": "Exists"}, 16),
    a_key(f"{NODE_TERMS}[0].matchExpressions[0].key"),
    one_of(f"{NODE_TERMS}[0].matchExpressions[0].operator", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"),
    labels_of(f"{NODE_TERMS}[0].matchExpressions[0].values", "a"),
    a_list(LIKED_NODES, {"weight": 1, "preference": {}}, 16),
    whole(f"{LIKED_NODES}[0].weight", 1, 100),
    a_record(f"{LIKED_NODES}[0].preference"),
    a_record("affinity.podAffinity"),
    a_record("affinity.podAntiAffinity"),
    a_list(POD_TERMS, {"topologyKey": "zone"}, 16),
    a_list(LIKED_PODS, {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}, 16),
    whole(f"{LIKED_PODS}[0].weight", 1, 100),
    a_record(f"{LIKED_PODS}[0].podAffinityTerm"),
    a_key(f"{POD_TERMS}[0].topologyKey"),
    a_record(PODS),
    a_map(f"{PODS}.matchLabels", 32, "a", "a b", VALUE_MESSAGE),
    a_list(f"{PODS}.matchExpressions", {"key": "k", "operator": "Exists"}, 16),
    a_key(f"{PODS}.matchExpressions[0].key"),
    one_of(f"{PODS}.matchExpressions[0].operator", "In", "NotIn", "Exists", "DoesNotExist"),
    labels_of(f"{PODS}.matchExpressions[0].values", "a"),
    a_list(f"{POD_TERMS}[0].matchLabelKeys", "k", 16),
    a_list(f"{POD_TERMS}[0].mismatchLabelKeys", "k", 16),
    labels_of(f"{POD_TERMS}[0].namespaces", "a"),
    a_record(f"{POD_TERMS}[0].namespaceSelector"),
    a_name("priorityClassName"),
    a_list("imagePullSecrets", {"name": "a%d"}, 16),
    a_name("imagePullSecrets[0].name"),
    a_record("cache"),
    Row(
        "cache",
        [{"claim": "models"}, {"size": "1"}],
        [Bad({}, _ONE_OF_TWO), Bad({"accessMode": "ReadWriteOnce"}, _ONE_OF_TWO)],
    ),
    a_name("cache.claim", ["cache.size", "cache.storageClass"]),
    Row("cache.claim", [], [Bad("models", _ONE_OF_TWO, "cache")]),
    Row(
        "cache.claim",
        [],
        [Bad("models", "storageClass is for a claim that is made", "cache.storageClass", server_only=True)],
        ["cache.size"],
    ),
    Row(
        "cache.size",
        ["1", "1.5Ti", "20Gi", "1" * 24],
        [
            Bad("20GB", _BYTES),
            Bad("500m", _BYTES),
            Bad("-1Gi", _BYTES),
            # The API server would work at this one for minutes.
            Bad("2e60000000", _BYTES),
            Bad("", "at least 1 chars"),
            Bad("1" * 25, "24"),
        ],
    ),
    a_name("cache.storageClass"),
    one_of("cache.accessMode", "ReadWriteOnce", "ReadWriteMany"),
    Row("model.source", [], [Bad("demo://", "only an hf:// source is downloaded and needs a cache", "cache")]),
    Row(
        "shmSize",
        ["1Mi", "1Ti", "1048576", "0.001Gi"],
        [
            Bad("1023Ki", "must be from 1Mi to 1Ti"),
            Bad("1025Gi", "must be from 1Mi to 1Ti"),
            Bad("0", "must be from 1Mi to 1Ti"),
            Bad("1GB", _BYTES),
            Bad("2e60000000", _BYTES),
            Bad("1" * 25, "24"),
            Bad(1, "must be of type string"),
        ],
    ),
    whole("gracePeriodSeconds", 0, 3600),
    whole("startupSeconds", 10, 86_400),
    one_of("rollout", "Surge", "InPlace"),
]
