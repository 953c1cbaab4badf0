"""Whether an object must be written: the question before every write, so that nothing is written when nothing changed.

Pure. The API server adds defaults to what we wrote and spells quantities its own way, so equality means: all that we
want is there, and what we applied last is what we want now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from typing import Any

from modelengine_operator.manifests import ANNOTATION_APPLIED

# Lists whose items have owners of their own: what others add there stays, and the server may keep another order.
SHARED_LISTS = {
    "containers",
    "env",
    "imagePullSecrets",
    "initContainers",
    "ownerReferences",
    "ports",
    "topologySpreadConstraints",
    "volumeMounts",
    "volumes",
}
# Where quantities are. Anywhere else `1000m` is no other way to write `1`.
AMOUNTS = {"limits", "requests", "sizeLimit"}
QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(?:e(\d{1,2}))?([numkMGTPE]|[KMGTPE]i)?$")
FACTORS = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")},
    **{unit: Decimal(1000) ** i for i, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{unit: Decimal(1024) ** i for i, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
# The API server keeps nothing finer and nothing larger.
FINEST, LARGEST = Decimal("0.001"), Decimal(2**63 - 1)


def needs_write(wanted: Mapping[str, Any], observed: Mapping[str, Any] | None) -> bool:
    """Whether `wanted`, a manifest of ours, must be applied over what is there now."""
    if observed is None:
        return True
    applied = observed["metadata"].get("annotations", {}).get(ANNOTATION_APPLIED)
    return applied != wanted["metadata"]["annotations"][ANNOTATION_APPLIED] or not contains(observed, wanted)


def contains(observed: Any, wanted: Any, field: str = "") -> bool:
    """Whether all that is wanted is in what is observed, the value of `field`."""
    if observed is None:
        # The API server leaves out what is empty. False and 0 it keeps: there, absence may mean something else.
        return wanted in (None, "", [], {})
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(
            contains(observed.get(key), value, field if field in AMOUNTS else key) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(observed, list) and _contains_all(observed, wanted, field)
    return bool(observed == wanted) or (field in AMOUNTS and _same_quantity(observed, wanted))


def _contains_all(observed: list[Any], wanted: list[Any], field: str) -> bool:
    if field in SHARED_LISTS:
        return all(any(contains(item, one, field) for item in observed) for one in wanted)
    return len(observed) == len(wanted) and all(contains(*pair, field) for pair in zip(observed, wanted, strict=True))


def _same_quantity(one: Any, other: Any) -> bool:
    amounts = [_amount(value) for value in (one, other)]
    return None not in amounts and amounts[0] == amounts[1]


def _amount(value: Any) -> Decimal | None:
    found = QUANTITY.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    number, exponent, unit = found.groups()
    amount = Decimal(number) * Decimal(10) ** int(exponent or 0) * FACTORS[unit or ""]
    return LARGEST if amount > LARGEST else amount.quantize(FINEST, rounding=ROUND_UP)
