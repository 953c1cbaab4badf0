"""How the engine runs the model: the part of a ModelEngine's spec that an engine gets as its environment.

Used by spec.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field

from modelengine.errors import InvalidRequest
from modelengine_operator import source
from modelengine_operator.fields import Checked, Int, Record, by_key, form, rule

# The operator sets these itself; the hub's token is in a Secret.
RESERVED_PREFIX = "MODELENGINE_"
RESERVED_ENV = ("HOME", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN")
RESERVED_MESSAGE = (
    "MODELENGINE_*, HOME, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are set by the operator: use the fields of "
    "runtime, and the Secret modelengine-hub-token for the hub's token"
)
IMAGE_MESSAGE = "must be an image, as in registry.example/team/engine:1.0 or registry.example/team/engine@sha256:..."


def _is_free(name: str) -> None:
    if name.startswith(RESERVED_PREFIX) or name in RESERVED_ENV:
        raise InvalidRequest(RESERVED_MESSAGE)


class EnvironmentVariable(Record):
    """One environment variable of the engine."""

    name: Annotated[
        str,
        MinLen(1),
        MaxLen(128),
        form("[A-Za-z_][A-Za-z0-9_]*", "must be letters, digits and '_', with no digit first"),
        Checked(
            _is_free,
            (
                rule(
                    f"!self.startsWith('{RESERVED_PREFIX}') && !(self in [{', '.join(map(repr, RESERVED_ENV))}])",
                    RESERVED_MESSAGE,
                ),
            ),
        ),
    ] = Field(description="Its name. Names that the operator sets itself are refused, MODELENGINE_* among them.")
    value: Annotated[str, MaxLen(4096)] = Field(
        default="", description="Its value. Default: empty. It is readable by all who may read this object: no secrets."
    )


class Runtime(Record):
    """How the engine runs the model."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="What the model runs on. Default: auto, a GPU where the pod has one, else the CPU."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="The numbers that the weights are kept in. Default: auto, what suits the device."
    )
    quantization: Literal["none", "int8", "int4"] = Field(
        default="none",
        description="Narrower weights: on a CPU int8 is faster and takes half the memory of bfloat16, for a little "
        "precision; int4 takes half of that again. Default: none.",
    )
    max_batch_size: Annotated[Int, Ge(1), Le(1024)] = Field(
        default=32, description="How many requests are answered at the same time by one replica. Default: 32."
    )
    max_context: Annotated[Int, Ge(0), Le(10_000_000)] = Field(
        default=0,
        description="The most tokens of prompt and answer together; less takes less memory. "
        "Default: 0, what the model was made for.",
    )
    max_queue: Annotated[Int, Ge(0), Le(100_000)] = Field(
        default=256,
        description="How many requests may wait in one replica before it answers that it is busy. Default: 256.",
    )
    threads: Annotated[Int, Ge(0), Le(1024)] = Field(
        default=0, description="CPU threads of the engine. Default: 0, what suits the model and the CPUs it has."
    )
    image: Annotated[str, MinLen(1), MaxLen(512), form(source.IMAGE, IMAGE_MESSAGE)] | None = Field(
        default=None,
        description="Another image for the engine. The operator's allowed images must have it. "
        "Default: the operator's engine image.",
    )
    env: Annotated[tuple[EnvironmentVariable, ...], MaxLen(64)] = Field(
        default=(),
        description="More environment variables for the engine, at most 64.",
        json_schema_extra=by_key("name"),
    )
