"""The parts that a base install does not have: they are named here as text, and looked for before they are used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from modelengine import errors

NEEDS = {
    "gateway": ("fastapi", "uvicorn", "aiohttp", "prometheus_client", "modelengine_gateway"),
    "engine": (
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "torch",
        "transformers",
        "huggingface_hub",
        "modelengine_runtime",
    ),
}


def missing(extra: str) -> list[str]:
    """The modules that this extra of the package would bring. Imports nothing."""
    return [module for module in NEEDS[extra] if importlib.util.find_spec(module) is None]


def require(*extras: str) -> None:
    """Raises an error that says what to install."""
    for extra in extras:
        if absent := missing(extra):
            raise errors.ModelEngineError(
                f"{absent[0]} is not installed; pip install 'modelengine[{','.join(extras)}]'"
            )


def load(extra: str, module: str) -> Any:
    """A module of an optional part. By name: this package may not depend on those that stand on it."""
    require(extra)
    return importlib.import_module(module)
