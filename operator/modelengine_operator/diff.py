"""Whether an object must be written: the question before every write, so that nothing is written when nothing changed.

Pure. The API server adds defaults to what we wrote and spells quantities its own way, so equality means: all that we
want is there, and what we applied last is what we want now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from modelengine_operator.manifests import ANNOTATION_APPLIED

QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(?:e(\d{1,2}))?([numkMGTPE]|[KMGTPE]i)?$")
FACTORS = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")},
    **{unit: Decimal(1000) ** i for i, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{unit: Decimal(1024) ** i for i, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def needs_write(wanted: Mapping[str, Any], observed: Mapping[str, Any] | None) -> bool:
    """Whether `wanted`, a manifest of ours, must be applied over what is there now."""
    if observed is None:
        return True
    applied = observed["metadata"].get("annotations", {}).get(ANNOTATION_APPLIED)
    return applied != wanted["metadata"]["annotations"][ANNOTATION_APPLIED] or not contains(observed, wanted)


def contains(observed: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in what is observed; lists must be equally long."""
    if observed is None:
        # The API server leaves out what is empty, false or zero where that is what absence means.
        return not wanted
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(contains(observed.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(observed, list) and len(observed) == len(wanted) and all(map(contains, observed, wanted))
    return bool(observed == wanted) or _same_quantity(observed, wanted)


def _same_quantity(one: Any, other: Any) -> bool:
    amounts = [_amount(value) for value in (one, other)]
    return None not in amounts and amounts[0] == amounts[1]


def _amount(value: Any) -> Decimal | None:
    found = QUANTITY.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    number, exponent, unit = found.groups()
    return Decimal(number) * Decimal(10) ** int(exponent or 0) * FACTORS[unit or ""]
