"""docs/openai.md says of every field what becomes of it, and of every code when it comes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from modelengine_api import failures
from modelengine_api.openai.chat import GIVEN_UP, ChatCompletionRequest
from modelengine_api.openai.completion import CompletionRequest
from modelengine_api.openai.fields import MAX_CHOICES, MAX_N, Sampling
from modelengine_api.openai.response import ResponseRequest

TEXT = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()
SECTIONS = dict(
    zip(
        re.findall(r"^### (\w+)$", TEXT, re.MULTILINE),
        re.split(r"^###? .*$", TEXT, flags=re.MULTILINE)[2:],
        strict=False,
    )
)


def named(text: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", text))


@pytest.mark.parametrize(
    ("section", "record", "shared"),
    [
        ("Chats", ChatCompletionRequest, set()),
        ("Completions", CompletionRequest, set(Sampling.model_fields)),
        ("Responses", ResponseRequest, set()),
    ],
)
def test_every_field_is_there(section: str, record: type[BaseModel], shared: set[str]) -> None:
    assert set(record.model_fields) - shared <= named(SECTIONS[section])


def test_what_was_given_up_is_there() -> None:
    assert all(name in named(TEXT) or name.startswith("guided_") for name in GIVEN_UP)


def test_every_code_of_ours_is_there() -> None:
    codes = {*failures.OPENAI_CODES.values(), *failures.OPENAI_KINDS.values(), "unknown_url"}
    assert codes <= named(TEXT)


def test_the_bounds_are_those_of_the_records() -> None:
    assert f"up to {MAX_N} answers at once" in TEXT
    assert f"up to {MAX_CHOICES} of them" in TEXT
