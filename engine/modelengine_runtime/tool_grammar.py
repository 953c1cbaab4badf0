"""The grammar of an answer that must call a tool, or else be JSON, from how the model marks its calls. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# How llguidance writes JSON: with at most one space, so that no answer ends in spaces without end. Models differ in
# whether they write it.
JSON_STYLE: Mapping[str, Any] = {
    "item_separator": ", ?",
    "key_separator": ": ?",
    "whitespace_flexible": False,
    "coerce_one_of": False,
    "lenient": False,
    "json_allow_general_unicode_escapes": False,
}
# What a call's JSON is made into, where the template says it in one word.
WHOLE = "{content}"
PLACE = re.compile(r"\{content\.(\w+)\}")
ESCAPED = re.compile(r"\\([^\w\s])")
# How no JSON begins.
IS_NO_JSON = re.compile(r'\[?[^\s\[\]{"\-\dtfn]')
MEANS_MORE = re.compile(r"[\\^$.*+?()\[\]{}|]")


def grammar(
    field: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]],
    is_one: bool,
    symbols: Callable[[str], str],
    otherwise: Mapping[str, Any] | None = None,
) -> str | None:
    """In Lark's notation: calls of these tools with arguments that their schemas allow, one or several; or, where there
    is a schema of what may be said `otherwise`, that.

    `field` is that of the calls in a response template; None where its calls are no JSON between two texts, or can't be
    told from what may be said otherwise. `symbols` writes such a text in Lark's notation.
    """
    begin, end, keys = opening(field), _text(field, "close"), _keys(field.get("transform"))
    if begin is None or end is None or keys is None or field.get("content") != "json" or field.get("content_args"):
        return None
    if otherwise is not None and not IS_NO_JSON.match(begin):
        return None
    rules = [
        f"start: call{'' if is_one else ' (NEWLINE? call)*'}{'' if otherwise is None else ' | said'}",
        f"call: {symbols(begin)} NEWLINE? function NEWLINE? {symbols(end)}",
        f"function: {' | '.join(f'function_{i}' for i in range(len(tools)))}",
        r'NEWLINE: "\n"',
        'SPACE: " "',
    ]
    for i, tool in enumerate(tools):
        function = tool["function"]
        name = json.dumps(function["name"], ensure_ascii=False)
        schema = {"type": "object", **(function.get("parameters") or {})}
        before = f"{_literal(f'{{{json.dumps(keys[0])}:')} SPACE? {_literal(f'{name},')} SPACE?"
        rules += [
            f'function_{i}: {before} {_literal(f"{json.dumps(keys[1])}:")} SPACE? arguments_{i} "}}"',
            f"arguments_{i}: {_json(schema)}",
        ]
    if otherwise is not None:
        rules.append(f"said: {_json(otherwise)}")
    return "\n".join(rules)


def opening(field: Mapping[str, Any]) -> str | None:
    """The text that begins a call; None where it is not always the same."""
    return _text(field, "open")


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': JSON_STYLE}, ensure_ascii=False)}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _text(field: Mapping[str, Any], key: str) -> str | None:
    """The one text that opens or closes a call; None where it is a real pattern, or one of several."""
    literal = field.get(key)
    if isinstance(literal, str):
        return literal
    pattern = field.get(f"{key}_pattern")
    if not isinstance(pattern, str):
        return None
    body = pattern.removeprefix(r"\s*").removesuffix(r"\s*")
    if MEANS_MORE.search(ESCAPED.sub("", body)):
        return None
    return ESCAPED.sub(r"\1", body)


def _keys(transform: Any) -> tuple[str, str] | None:
    """What a call's JSON calls the function's name and its arguments."""
    function = transform.get("function") if isinstance(transform, Mapping) else None
    if function == WHOLE:
        return "name", "arguments"
    if not isinstance(function, Mapping):
        return None
    found = [PLACE.fullmatch(str(function.get(key))) for key in ("name", "arguments")]
    return (found[0][1], found[1][1]) if found[0] and found[1] else None
