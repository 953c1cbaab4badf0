"""docs/ollama.md says of every field what becomes of it, and of every call that is refused that it is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from modelengine_api.ollama import calls, options, refusals
from modelengine_api.retrieval.calls import EmbedCall, OldEmbeddingsCall

TEXT = (Path(__file__).parents[2] / "docs" / "ollama.md").read_text()
NAMED = set(re.findall(r"`([\w/]+)`", TEXT))


@pytest.mark.parametrize("call", [calls.ChatCall, calls.GenerateCall, EmbedCall, OldEmbeddingsCall])
def test_every_field_is_there(call: Any) -> None:
    assert {field.name for field in dataclasses.fields(call)} <= NAMED


def test_every_option_that_is_honoured_is_there() -> None:
    assert set(options.NATIVE_NAMES) <= NAMED


def test_every_call_that_is_refused_is_there() -> None:
    assert {path.partition("/{")[0] for path in refusals.INSTEAD} <= NAMED
