"""Answers taken apart by the real parser: nothing lost, nothing that depends on how the text came."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from demo.tokenizer import RESPONSE_TEMPLATE
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from transformers.cli.serving.utils import get_response_template
from transformers.utils.chat_parsing import ResponseParser

from modelengine.chats import FinishReason
from modelengine_runtime import loader, parsing, response_parser
from modelengine_runtime.answers import Renderer, whole
from modelengine_runtime.parsing import Call, Content, Delta, Thought
from modelengine_runtime.response_parser import ResponseTemplate
from modelengine_runtime.sampling import Likelihood
from modelengine_runtime.sequence import End, Part

TOOLS = [{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}]
CALL = '<tool_call>\n{"name": "get_time", "arguments": {"city": "Köln"}}\n</tool_call>'
CALLED = ("get_time", '{"city": "Köln"}')


def template(spec: dict[str, Any] = RESPONSE_TEMPLATE, prompt: str = "") -> ResponseTemplate:
    return ResponseTemplate(spec, lambda tokens: prompt)


def read(
    text: str, cuts: Sequence[int] = (), tools: Any = TOOLS, prompt: str = "", spec: Any = RESPONSE_TEMPLATE
) -> list[Delta]:
    """The deltas of a text that comes cut at these places, joined."""
    parser = template(spec, prompt).parser([], tools)
    assert parser is not None
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    deltas = [delta for a, b in itertools.pairwise(places) for delta in parser.feed(text[a:b])]
    return joined([*deltas, *parser.end()])


def joined(deltas: list[Delta]) -> list[Delta]:
    whole: list[Delta] = []
    for delta in deltas:
        before = whole[-1] if whole else None
        if isinstance(delta, Content | Thought) and type(delta) is type(before):
            assert isinstance(before, Content | Thought)
            whole[-1] = type(delta)(before.text + delta.text)
        else:
            whole.append(delta)
    return whole


@pytest.mark.parametrize(
    ("text", "deltas"),
    [
        ("Hello", [Content("Hello")]),
        ("  a < b <thin\n", [Content("  a < b <thin\n")]),
        ("<think>\nhm, \n so\n</think>\n\nHello \n", [Thought("hm, \n so"), Content("Hello \n")]),
        ("<think>\n\n</think>\n\nHello", [Content("Hello")]),
        ("<think>hm", [Thought("hm")]),
        (CALL, [Call(0, *CALLED)]),
        (f"Well.\n{CALL}\n{CALL}\n", [Content("Well.\n"), Call(0, *CALLED), Call(1, *CALLED)]),
        (f"<think>{CALL}</think>{CALL}", [Thought(CALL), Call(0, *CALLED)]),
        ('<tool_call>{"name": "get_time"}</tool_call>', [Call(0, "get_time", "{}")]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [Call(0, "f", '{"a": 1}')]),
        # Complete, but for its last mark.
        (CALL.removesuffix("\n</tool_call>"), [Call(0, *CALLED)]),
        ("text <|im_end|> text", [Content("text <|im_end|> text")]),
    ],
)
def test_what_an_answer_says(text: str, deltas: list[Delta]) -> None:
    assert read(text) == deltas
    assert read(text, [*range(len(text))]) == deltas


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>\nget_time(Köln)\n</tool_call>",
        CALL[:-20],
        "<tool_call>",
        "<tool_call>[]</tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "x"}</tool_call>',
        "<tool_call>" + "[" * 5000 + "</tool_call>",
        r'<tool_call>{"name": "f", "arguments": {"half": "\ud83d"}}</tool_call>',
        r'<tool_call>{"name": "\ud83d", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>',
    ],
)
def test_what_is_no_call_after_all_is_text_with_its_marks(broken: str) -> None:
    assert read(f"a {broken}") == [Content(f"a {broken}")]


def likelihoods(pieces: Sequence[str], *, knows_bytes: bool = True) -> tuple[str, list[str]]:
    """The content of an answer whose tokens are these, and which of them are told to be part of it."""

    def spell(token: int) -> tuple[str, bytes | None]:
        return pieces[token], pieces[token].encode() if knows_bytes else None

    renderer = Renderer("demo", 1, 0, parser=template().parser([], TOOLS), spell=spell)
    likely = (Likelihood(-1.0, ()),)
    parts = [Part(i, (i,), piece, i + 1, likely) for i, piece in enumerate(pieces)]
    end = End(FinishReason.STOP, len(pieces), (), len(pieces))
    answer = whole([message for event in (*parts, end) for message in renderer.messages(event)])
    assert [token["token"] for token in answer["logprobs"]] == [*pieces]
    return answer["content"], [token["token"] for token in answer["logprobs"] if token.get("is_content", True)]


@pytest.mark.parametrize(
    ("pieces", "of_content"),
    [
        (["<think>", "\n", "hm", " so", "\n", "</think>", "\n\n", "think", " so"], ["think", " so"]),
        (["<think>", "hm", "</think>", "\n\nHello"], ["\n\nHello"]),
        (["Well", ".", "\n", *CALL.partition("{"), "\n"], ["Well", ".", "\n"]),
        (["a", "<thi", "nk", "er", ">"], ["a", "<thi", "nk", "er", ">"]),
        (["a", " <too"], ["a", " <too"]),
        (["<", "<think>", "hm"], ["<"]),
        (["Köln"], ["Köln"]),
    ],
)
def test_of_each_token_it_is_told_whether_it_stands_in_the_content(pieces: list[str], of_content: list[str]) -> None:
    assert likelihoods(pieces)[1] == of_content


def test_where_the_bytes_of_tokens_are_not_known_all_count_as_content() -> None:
    thought = ["<think>", "hm", "</think>", "\n\nHello"]
    assert likelihoods(thought, knows_bytes=False)[1] == thought


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "\n", "hm", "think", CALL, "<b", "é"]), min_size=1, max_size=12)
)
@settings(max_examples=200, deadline=None)
def test_the_tokens_of_the_content_spell_it(pieces: list[str]) -> None:
    content, of_content = likelihoods(pieces)
    assert "".join(of_content) == content


def test_without_tools_nothing_is_a_call() -> None:
    assert read(CALL, tools=()) == [Content(CALL)]


def test_what_the_chat_template_has_begun_is_known() -> None:
    begun = "<|im_start|>user\n<think><|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert read("hm</think>\nHello", prompt=begun) == [Thought("hm"), Content("Hello")]
    closed = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert read("Hello", prompt=closed) == [Content("Hello")]


def test_a_prompt_whose_turn_began_too_long_ago_says_nothing() -> None:
    assert read("Hello", prompt="<think> is a mark") == [Content("Hello")]


pieces = st.sampled_from(
    ["x", " ", "\n", "<", "<think>", "</think>", "<tool_call>", "</tool_call>", CALL, "{", "}", '{"name": "f"}']
)


def qwen() -> dict[str, Any]:
    """What transformers knows of models without a template of their own."""
    spec: dict[str, Any] = get_response_template(None, SimpleNamespace(config=SimpleNamespace(model_type="qwen3")))
    assert spec["fields"]["tool_calls"]["open_pattern"] == r"\s*<tool_call>"
    return spec


@pytest.mark.parametrize("spec", [RESPONSE_TEMPLATE, qwen()], ids=["literal", "pattern"])
@settings(max_examples=400)
@given(text=st.lists(pieces, max_size=12).map("".join), cuts=st.lists(st.integers(0, 999), max_size=20))
def test_the_same_comes_out_however_the_text_is_cut_and_no_letter_is_lost(
    spec: dict[str, Any], text: str, cuts: list[int]
) -> None:
    whole = read(text, spec=spec)
    assert read(text, cuts, spec=spec) == whole
    said = "".join("" if isinstance(delta, Call) else delta.text for delta in whole)
    names = sum(isinstance(delta, Call) for delta in whole)
    # Calls have no x in them, and a name each.
    assert (said.count("x"), said.count('"name"') + names) == (text.count("x"), text.count('"name"'))


def test_text_without_the_beginning_of_a_mark_goes_past_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    monkeypatch.setattr(ResponseParser, "feed", lambda self, text: searched.append(text) or [])
    for spec in (RESPONSE_TEMPLATE, qwen()):
        parser = template(spec).parser([], TOOLS)
        assert parser is not None
        assert parser.feed("no (marks)\n here") == [Content("no (marks)\n here")]
        parser.feed("a < b")
    assert searched == ["a < b"] * 2
    parser = template(qwen()).parser([], TOOLS)
    assert parser is not None
    parser.feed("space \n")
    assert searched[2:] == ["space \n"]


@pytest.mark.parametrize("pattern", ["(a|b)c", "a|b", "a?b", "a*b", "[ab]", ".a", "(?P<x>a)", ""])
def test_a_pattern_that_may_begin_in_several_ways_is_always_searched_for(pattern: str) -> None:
    spec = copy.deepcopy(qwen())
    spec["fields"]["tool_calls"]["open_pattern"] = pattern or "()"
    _, beginnings = response_parser._compiled(spec)
    assert "content" not in beginnings


GEMMA = {
    "start_anchor": ["<|turn>model\n"],
    "fields": {
        "reasoning_content": {"open": "<|channel>thought\n", "close": "<channel|>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
            "close": "<tool_call|>",
            "repeats": True,
            "content": "json",
            "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close": ["<turn|>", "<eos>"], "content": "text"},
    },
}


def test_the_special_tokens_that_are_marks_are_needed_and_those_that_end_an_answer_are_not() -> None:
    special = ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>', "<turn|>", "<eos>", "<|turn>"]
    assert [token for token in special if template(GEMMA).needs(token)] == special[:5]


def test_calls_that_are_not_quite_json_are_read_as_their_template_says() -> None:
    parser = template(GEMMA).parser([], TOOLS)
    assert parser is not None
    text = '<|tool_call>call:get_time{city:<|"|>a "b"<|"|>,n:3}<tool_call|>'
    assert parser.feed(text) == [Call(0, "get_time", json.dumps({"city": 'a "b"', "n": 3}))]


@pytest.mark.parametrize(
    ("text", "deltas"),
    [
        (f'["{CALL}"]', [Content(f'["{CALL}"]')]),
        (CALL, [Call(0, *CALLED)]),
        (CALL + CALL, [Call(0, *CALLED), Call(1, *CALLED)]),
        ("<tool_", [Content("<tool_")]),
        ("<tool_x", [Content("<tool_x")]),
        ("", []),
    ],
)
def test_beside_a_format_only_an_answer_that_begins_with_a_mark_has_calls(text: str, deltas: list[Delta]) -> None:
    for cut in range(len(text) + 1):
        parser = template().parser([], TOOLS, has_format=True)
        assert parser is not None
        assert joined([*parser.feed(text[:cut]), *parser.feed(text[cut:]), *parser.end()]) == deltas


def test_a_call_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []

    def noted(value: Any) -> list[tuple[str, str]]:
        decoded.append(value)
        return calls(value)

    calls = parsing.calls
    monkeypatch.setattr(parsing, "calls", noted)
    assert read(CALL + CALL) == [Call(0, *CALLED), Call(1, *CALLED)]
    assert len(decoded) == 2


def test_a_model_that_has_no_thoughts_and_is_offered_no_tools_needs_no_parser() -> None:
    fields = {name: RESPONSE_TEMPLATE["fields"][name] for name in ("tool_calls", "content")}  # type: ignore[index]
    of_calls = template({**RESPONSE_TEMPLATE, "fields": fields})
    assert of_calls.parser([], ()) is None
    assert of_calls.parser([], TOOLS) is not None


def test_marks_that_are_special_tokens_stand_in_the_text_and_others_do_not() -> None:
    words = {"get": 0, "{}": 1, "<|tool_call>": 2, "<tool_call|>": 3, "<eos>": 4, "<|image|>": 5}
    backend = Tokenizer(WordLevel(words, unk_token="get"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    tokenizer.add_special_tokens({"additional_special_tokens": [*words][2:]})
    marks = loader._marks(tokenizer, template(GEMMA))
    assert marks == {2, 3}
    assert loader._decoder(tokenizer, marks)([2, 0, 5, 1, 3, 4]) == "<|tool_call> get {} <tool_call|>"
    assert loader._decoder(tokenizer, frozenset())([2, 0, 5, 1, 3, 4]) == "get {}"
