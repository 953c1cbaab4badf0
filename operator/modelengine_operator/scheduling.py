"""Where pods may run, as in a pod's own spec: tolerations and affinity, typed and bounded.

The CRD needs them in full: a schema that keeps unknown fields would take a misspelt one without a word. Used by
spec.py; the operator copies them into pods unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict, Field

from modelengine_operator.fields import ATOMIC, KEYED, WHOLE, Int, LabelKey, LabelValue, Name, Record, rule, rules

Weight = Annotated[Int, Ge(1), Le(100)]
Labels = Annotated[Mapping[LabelKey, LabelValue], MaxLen(32)]
Values = Annotated[tuple[LabelValue, ...], MaxLen(32)]


class Toleration(Record):
    """A taint of nodes that does not keep these pods away."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "without a key, set operator: Exists, which tolerates every taint",
            ),
            rule(
                "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
                "operator Exists takes no value: remove value, or set operator: Equal",
            ),
            rule(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds needs effect: NoExecute",
            ),
        )
    )

    key: LabelKey | None = Field(default=None, description="The taint's key. Without it, every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists: any value. Equal: the value given here. Without it, Equal."
    )
    value: LabelValue | None = Field(default=None, description="The taint's value, for operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect. Without it, every effect."
    )
    toleration_seconds: Annotated[Int, Ge(0), Le(31_536_000)] | None = Field(
        default=None,
        description="For effect NoExecute: seconds that a pod stays after the taint came. Without it, for ever.",
    )


class NodeRequirement(Record):
    """One condition on a node's labels or fields."""

    key: LabelKey = Field(description="The label's key, or the field's name.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How the node's value is compared with values."
    )
    values: Annotated[tuple[LabelValue, ...], MaxLen(32)] | None = Field(
        default=None,
        description="What it is compared with: at least one for In and NotIn, one whole number for Gt and Lt.",
        json_schema_extra=ATOMIC,
    )


Requirements = Annotated[tuple[NodeRequirement, ...], MaxLen(16)]


class NodeTerm(Record):
    """Conditions that a node must meet all."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    match_expressions: Requirements | None = Field(
        default=None, description="Conditions on the node's labels.", json_schema_extra=ATOMIC
    )
    match_fields: Requirements | None = Field(
        default=None,
        description="Conditions on the node's fields; only metadata.name exists.",
        json_schema_extra=ATOMIC,
    )


class NodeSelector(Record):
    """Nodes that meet at least one of the terms."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    node_selector_terms: Annotated[tuple[NodeTerm, ...], MinLen(1), MaxLen(16)] = Field(
        description="A node is taken when it meets any of these.", json_schema_extra=ATOMIC
    )


class WeightedNodeTerm(Record):
    """Nodes that are liked better, and how much."""

    weight: Weight = Field(description="How much it counts, 1 to 100.")
    preference: NodeTerm = Field(description="The nodes that are liked better.")


class NodeAffinity(Record):
    """Nodes by their labels."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="A pod runs on these nodes only."
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[tuple[WeightedNodeTerm, ...], MaxLen(16)] | None = (
        Field(None, description="These nodes are liked better.", json_schema_extra=ATOMIC)
    )


class LabelRequirement(Record):
    """One condition on labels."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value is compared with values."
    )
    values: Values | None = Field(
        default=None,
        description="What it is compared with: one or more for In and NotIn, else none.",
        json_schema_extra=ATOMIC,
    )


class LabelSelector(Record):
    """What has all of these labels. An empty one selects everything."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    match_labels: Labels | None = Field(
        default=None, description="Labels with exactly these values.", json_schema_extra=KEYED
    )
    match_expressions: Annotated[tuple[LabelRequirement, ...], MaxLen(16)] | None = Field(
        default=None, description="Conditions on labels.", json_schema_extra=ATOMIC
    )


class PodTerm(Record):
    """Pods near which, or away from which, these pods run."""

    topology_key: LabelKey = Field(
        description="Label of nodes that says what near is: nodes with the same value are one place."
    )
    label_selector: LabelSelector | None = Field(
        default=None, description="The pods, by their labels. Without it, none."
    )
    match_label_keys: Annotated[tuple[LabelKey, ...], MaxLen(16)] | None = Field(
        default=None, description="Labels whose value must be the new pod's own.", json_schema_extra=ATOMIC
    )
    mismatch_label_keys: Annotated[tuple[LabelKey, ...], MaxLen(16)] | None = Field(
        default=None, description="Labels whose value must not be the new pod's own.", json_schema_extra=ATOMIC
    )
    namespaces: Annotated[tuple[Name, ...], MaxLen(32)] | None = Field(
        default=None, description="The namespaces of the pods. Without it, this one.", json_schema_extra=ATOMIC
    )
    namespace_selector: LabelSelector | None = Field(
        default=None, description="The namespaces of the pods, by their labels; an empty one is all."
    )


class WeightedPodTerm(Record):
    """Pods whose nearness counts, and how much."""

    weight: Weight = Field(description="How much it counts, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The pods that count.")


class PodAffinity(Record):
    """Pods by their labels."""

    required_during_scheduling_ignored_during_execution: Annotated[tuple[PodTerm, ...], MaxLen(16)] | None = Field(
        default=None, description="Must hold for a pod to be placed.", json_schema_extra=ATOMIC
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[tuple[WeightedPodTerm, ...], MaxLen(16)] | None = (
        Field(None, description="Is liked better where it holds.", json_schema_extra=ATOMIC)
    )


class Affinity(Record):
    """Nodes and other pods that these pods keep to, or keep away from."""

    node_affinity: NodeAffinity | None = Field(default=None, description="The nodes to keep to.")
    pod_affinity: PodAffinity | None = Field(default=None, description="The pods to be near.")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="The pods to be away from.")
