"""The content of a message as text. OpenAI's clients send a string or a list of parts; models here read text only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import MaxLen

from modelengine_api.invalid import refused
from modelengine_api.openai.fields import Fields

MAX_PARTS = 4096
TEXTS = ("text", "input_text", "output_text")
# What each other kind of part is to whoever sent it.
OTHERS = {
    "image_url": "images are",
    "input_image": "images are",
    "input_audio": "audio is",
    "file": "files are",
    "input_file": "files are",
}


class Part(Fields):
    type: str
    text: str | None = None
    refusal: str | None = None
    # What an answer of ours says of its text, and comes back with it; it means nothing to a model.
    annotations: tuple[Any, ...] | None = None
    logprobs: tuple[Any, ...] | None = None


Content = str | Annotated[tuple[Part, ...], MaxLen(MAX_PARTS)]


def text_of(content: Content, loc: str) -> str:
    """The text; that of several parts on lines of its own. Raises InvalidRequest for a part that is no text."""
    if isinstance(content, str):
        return content
    return "\n".join(_texts(content, loc))


def _texts(parts: Sequence[Part], loc: str) -> list[str]:
    return [_text(part, f"{loc}[{i}]") for i, part in enumerate(parts)]


def _text(part: Part, loc: str) -> str:
    if part.type not in (*TEXTS, "refusal"):
        what = OTHERS.get(part.type, "this is")
        raise refused(f"{loc}.type", f"{what} not taken, only text; must be 'text', got {part.type[:64]!r}")
    field = "refusal" if part.type == "refusal" else "text"
    text: str | None = getattr(part, field)
    if text is None:
        raise refused(f"{loc}.{field}", "is required")
    return text
