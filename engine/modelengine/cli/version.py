"""`modelengine version`."""

from __future__ import annotations


def version() -> None:
    """Print the version."""
    import modelengine

    print(f"modelengine {modelengine.__version__}")
