"""What the operator writes in a ModelEngine's status, in full: a field that is not here is dropped by the API server
without an error.

`crd.py` makes the schema from these records. A status that is over one bound is refused as a whole, so the writer cuts,
and there are bounds but no further rules.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field

from modelengine_operator.fields import Int, Record, by_key

MAX_MESSAGE = 4096
MAX_REASON = 128
MAX_ENDPOINTS = 2000
MAX_WORD = 128
MAX_READY = 16

Count = Annotated[Int, Ge(0), Le(1_000_000)]
# The API server reads a bound as a float, and takes 2**63 - 1 for a negative number.
MAX_NUMBER = 2**53
Large = Annotated[Int, Ge(0), Le(MAX_NUMBER)]
Word = Annotated[str, MaxLen(MAX_WORD)]
Address = Annotated[str, MinLen(1), MaxLen(253)]


class Condition(Record):
    """One thing that is so, or not, and why."""

    type: Annotated[str, MinLen(1), MaxLen(MAX_WORD)] = Field(description="What it is about, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Annotated[str, MinLen(1), MaxLen(MAX_REASON)] = Field(description="Why, as one word to search for.")
    message: Annotated[str, MaxLen(MAX_MESSAGE)] = Field(description="Why, as a sentence, and what to do.")
    last_transition_time: datetime = Field(description="Since when the status is this one.")
    observed_generation: Large | None = Field(default=None, description="The generation of the spec it was found for.")


class Endpoint(Record):
    """One pod that answers for the served name."""

    uid: Address = Field(description="The pod's uid.")
    pod: Address = Field(description="The pod's name.")
    host: Address = Field(description="The pod's address.")
    port: Annotated[Int, Ge(1), Le(65_535)] = Field(description="The port that it answers on.")


class ModelFacts(Record):
    """What a ready engine says of its model."""

    parameters: Large | None = Field(default=None, description="How many parameters the model has.")
    context_length: Large | None = Field(
        default=None, description="The most tokens of prompt and answer together, as the engine runs it."
    )
    architecture: Word | None = Field(default=None, description="The kind of model, as its config names it.")
    dtype: Word | None = Field(default=None, description="The numbers that its weights are kept in.")
    device: Word | None = Field(default=None, description="What it runs on.")


class Loading(Record):
    """How far the newest pod that is not ready has come."""

    stage: Word = Field(description="What it does now: downloading, loading, warming up.")
    bytes: Large | None = Field(default=None, description="How many bytes are done, where that is known.")
    total: Large | None = Field(default=None, description="How many bytes there are, where that is known.")


class Status(Record):
    """What the operator found. Written by the operator alone."""

    observed_generation: Large | None = Field(
        default=None, description="The generation of the spec that this status is for."
    )
    conditions: Annotated[tuple[Condition, ...], MaxLen(16)] | None = Field(
        default=None,
        description="What is so and what is not. Ready is the one to wait for.",
        json_schema_extra=by_key("type"),
    )
    served_name: Annotated[str, MaxLen(256)] | None = Field(default=None, description="The name that clients ask for.")
    reason: Annotated[str, MaxLen(MAX_REASON)] | None = Field(
        default=None, description="Why it is ready or not: the reason of the condition Ready."
    )
    replicas: Count | None = Field(default=None, description="How many engine pods there are.")
    ready_replicas: Count | None = Field(default=None, description="How many of them answer.")
    ready: Annotated[str, MaxLen(MAX_READY)] | None = Field(
        default=None, description="How many engine pods answer, and how many are wanted, as in 1/2."
    )
    selector: Annotated[str, MaxLen(1024)] | None = Field(
        default=None, description="The labels of the engine pods, for autoscalers."
    )
    endpoints: Annotated[tuple[Endpoint, ...], MaxLen(MAX_ENDPOINTS)] | None = Field(
        default=None, description="The pods that answer for the served name.", json_schema_extra=by_key("uid")
    )
    model: ModelFacts | None = Field(default=None, description="What a ready engine says of its model.")
    loading: Loading | None = Field(
        default=None, description="How far the newest pod that is not ready has come; absent when all are."
    )
