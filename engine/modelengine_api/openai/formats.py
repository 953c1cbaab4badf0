"""What an answer must look like, as OpenAI's two APIs and vLLM's extension ask for it, as the native record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic import Field

from modelengine.chats import MAX_GRAMMAR_CHARACTERS, ResponseFormat
from modelengine_api.invalid import refused
from modelengine_api.openai.fields import Fields, Sampling
from modelengine_api.openai.wording import Names

GUIDED = {
    "guided_json": "was given up by vLLM; use response_format",
    "guided_regex": "was given up by vLLM; use structured_outputs.regex",
    "guided_choice": "was given up by vLLM; use structured_outputs.choice",
    "guided_grammar": "was given up by vLLM; use structured_outputs.grammar",
}
SCHEMA = "response_format.json_schema.schema"
Grammar = Annotated[str, MinLen(1), MaxLen(MAX_GRAMMAR_CHARACTERS)]


class JsonSchema(Fields):
    """`name` is a label. `strict` changes nothing: an answer always follows its schema."""

    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class Format(Fields):
    """`response_format` of Chat Completions, where the schema is in an object of its own."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def native(self, loc: str) -> ResponseFormat | None:
        if self.type != "json_schema":
            return _unless_text(self.type)
        return _of_schema(None if self.json_schema is None else self.json_schema.schema_, f"{loc}.json_schema.schema")


class FlatFormat(JsonSchema):
    """`text.format` of Responses."""

    type: Literal["text", "json_object", "json_schema"]

    def native(self, loc: str) -> ResponseFormat | None:
        return _of_schema(self.schema_, f"{loc}.schema") if self.type == "json_schema" else _unless_text(self.type)


class StructuredOutputs(Fields):
    """vLLM's `structured_outputs`: one of these. A grammar is in Lark's notation."""

    json_: dict[str, Any] | None = Field(None, alias="json")
    regex: Grammar | None = None
    choice: Annotated[tuple[Annotated[str, MinLen(1), MaxLen(4096)], ...], MinLen(1), MaxLen(256)] | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None

    def native(self, loc: str) -> ResponseFormat | None:
        formats = [
            None if self.json_ is None else ResponseFormat("json_schema", json_schema=self.json_),
            None if self.regex is None else ResponseFormat("regex", regex=self.regex),
            None if self.choice is None else ResponseFormat("choice", choice=self.choice),
            None if self.grammar is None else ResponseFormat("grammar", grammar=self.grammar),
            ResponseFormat("json_object") if self.json_object else None,
        ]
        asked = [given for given in formats if given is not None]
        if len(asked) > 1:
            raise refused(loc, "must have one of json, regex, choice, grammar and json_object, got several")
        return asked[0] if asked else None


class Formatted(Sampling):
    """A request whose answer may have to be in a format: OpenAI's for chats, or vLLM's for completions too."""

    response_format: Format | None = None
    structured_outputs: StructuredOutputs | None = None

    def native_format(self) -> ResponseFormat | None:
        """Raises InvalidRequest."""
        self.refuse(GUIDED)
        form = None if self.response_format is None else self.response_format.native("response_format")
        structured = self._structured()
        if form is not None and structured is not None:
            raise refused("structured_outputs", "is only allowed where response_format asks for nothing")
        return structured or form

    def format_names(self) -> Names:
        """What the request calls the native format, by which of its fields asks for one."""
        is_structured = self._structured() is not None
        return {
            r"options\.response_format\.json_schema": "structured_outputs.json" if is_structured else SCHEMA,
            r"options\.response_format\.(regex|choice|grammar)": r"structured_outputs.\1",
            r"options\.response_format": "structured_outputs" if is_structured else "response_format",
        }

    def _structured(self) -> ResponseFormat | None:
        return None if self.structured_outputs is None else self.structured_outputs.native("structured_outputs")


def _unless_text(kind: Literal["text", "json_object"]) -> ResponseFormat | None:
    return ResponseFormat("json_object") if kind == "json_object" else None


def _of_schema(schema: dict[str, Any] | None, loc: str) -> ResponseFormat:
    if schema is None:
        raise refused(loc, "is required")
    return ResponseFormat("json_schema", json_schema=schema)
