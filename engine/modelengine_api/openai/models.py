"""The models that can be asked for, as `/v1/models` lists them: those without a ready replica too. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelengine import errors
from modelengine_api.backend import ModelCard

OWNER = "modelengine"


def listing(cards: Sequence[ModelCard], created: int) -> dict[str, Any]:
    """Every name once. When a model was made is not known: `created` is when the server started."""
    names = dict.fromkeys(card.name for card in cards)
    return {"object": "list", "data": [_model(name, created) for name in names]}


def one(cards: Sequence[ModelCard], name: str, created: int) -> dict[str, Any]:
    """The model of this name. Raises NotFound with the nearest one."""
    names = {card.name for card in cards}
    if name not in names:
        raise errors.unknown_name("model", name, names)
    return _model(name, created)


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}
