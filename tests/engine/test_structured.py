"""Answers in a form that the request gives, from the demo model: what ends by itself is what was asked for."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import jsonschema
import pytest
from demo import paths
from llguidance import LLMatcher

from demo_backend import asking, backend, streamed
from json_schemas import schema
from modelengine import errors
from modelengine_runtime.app import EngineBackend
from modelengine_runtime.grammars import Grammar, Grammars
from modelengine_runtime.sampling import Guide
from modelengine_runtime.scheduler import Load
from modelengine_runtime.vocabulary import Vocabulary

SCHEMAS = 200
# So many tokens have to do for one; some, with numbers or texts that may go on for ever, are cut.
ENOUGH = 300
QUESTIONS = ("Anna is 31 and lives in Paris.", "Write 5 lines.", "你好", "Count from 1 to 100.", "Give me JSON.")


@pytest.fixture(scope="module")
def demo() -> Iterator[EngineBackend]:
    with backend() as demo:
        yield demo


@pytest.fixture(scope="module")
def short_of_memory() -> Iterator[EngineBackend]:
    with backend(kv_blocks=24) as demo:
        yield demo


def load(backend: EngineBackend) -> Load:
    return backend._lifecycle.engine.loop.load


def shaped(kind: str, value: Any = None) -> dict[str, Any]:
    return {"type": kind} if value is None else {"type": kind, kind: value}


async def asked(demo: EngineBackend, seed: int) -> tuple[str, str]:
    """Why the answer ended, and its content; half of them are sampled, at a temperature that says anything."""
    request = asking(
        QUESTIONS[seed % len(QUESTIONS)],
        response_format=shaped("json_schema", schema(seed)),
        max_new_tokens=ENOUGH,
        temperature=1.5 * (seed % 2),
        seed=seed,
    )
    answer = await demo.whole(request)
    return answer["finish_reason"], answer["content"]


async def test_two_hundred_schemas_are_followed_in_all_answers_that_end(demo: EngineBackend) -> None:
    answers = await asyncio.gather(*(asked(demo, seed) for seed in range(SCHEMAS)))
    for seed, (reason, content) in enumerate(answers):
        if reason == "stop":
            jsonschema.validate(json.loads(content), schema(seed))
    cut = sum(reason == "length" for reason, _ in answers)
    print(f"{cut} of {SCHEMAS} answers were cut")
    assert {reason for reason, _ in answers} <= {"stop", "length"}
    # What is cut is a text without end: the toy falls into counting.
    assert cut < SCHEMAS // 4


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        (shaped("regex", r"[a-c]{3,5}x|中{2}"), r"[a-c]{3,5}x|中{2}"),
        (shaped("choice", ("yes", 'n"o\\', "中")), r'yes|n"o\\|中'),
        (shaped("grammar", 'start: "a" ("," NUMBER)+ "."\nNUMBER: /[0-9]{1,3}/'), r"a(,\d{1,3})+\."),
        (shaped("json_object"), r"\{.*\}"),
        (shaped("text"), r"yes, 1, 2, 3.*|.*"),
    ],
)
@pytest.mark.parametrize("temperature", [0, 2])
async def test_each_type_of_format_is_followed(
    demo: EngineBackend, shape: dict[str, Any], pattern: str, temperature: float
) -> None:
    for seed in range(4):
        answer = await demo.whole(
            asking("Count from 1 to 3.", response_format=shape, temperature=temperature, seed=seed, max_new_tokens=60)
        )
        if answer["finish_reason"] == "stop":
            assert re.fullmatch(pattern, answer["content"], re.DOTALL)


NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


async def test_an_answer_that_is_cut_ends_by_length(demo: EngineBackend) -> None:
    answer = await demo.whole(asking(QUESTIONS[0], response_format=shaped("json_schema", NAMED), max_new_tokens=4))
    assert answer["finish_reason"] == "length"


async def test_a_stop_string_cuts_as_ever(demo: EngineBackend) -> None:
    answer = await demo.whole(asking(QUESTIONS[0], response_format=shaped("json_schema", NAMED), stop="age"))
    assert answer["content"].endswith('"')
    assert "age" not in answer["content"]


async def test_an_answer_that_broke_off_is_followed_to_its_end(demo: EngineBackend) -> None:
    request = {"response_format": shaped("json_schema", NAMED)}
    whole = await streamed(demo, asking(QUESTIONS[0], **request))
    tokens = [token for message in whole for token in message["token_ids"]]
    content = "".join(part["content"] for part in whole[:-1])
    assert jsonschema.validate(json.loads(content), NAMED) is None
    for came in range(len(tokens) + 1):
        rest = await streamed(demo, asking(QUESTIONS[0], **request, resume={"token_ids": tuple(tokens[:came])}))
        assert [token for message in rest for token in message["token_ids"]] == tokens[came:]


async def test_tokens_that_the_format_does_not_allow_are_not_resumed(demo: EngineBackend) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"resume\.token_ids: token 300 is not what the grammar allows"):
        await demo.whole(asking("a", response_format=shaped("json_object"), resume={"token_ids": (300,)}))


async def test_answers_that_lose_their_memory_half_way_follow_their_format(short_of_memory: EngineBackend) -> None:
    requests = [
        asking(
            f"Anna is {n}.", response_format=shaped("json_schema", NAMED), temperature=1.2, seed=n, max_new_tokens=90
        )
        for n in range(8)
    ]
    alone = [await short_of_memory.whole(request) for request in requests]
    filler = asking("Count from 1 to 100.", max_new_tokens=250)
    together = await asyncio.gather(*(short_of_memory.whole(each) for each in [*requests, filler, filler, filler]))
    assert load(short_of_memory).preemptions > 0
    assert [answer["content"] for answer in together[:8]] == [answer["content"] for answer in alone]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (shaped("json_schema", {"type": "strin"}), r"json_schema: Invalid type: strin"),
        (shaped("json_schema", {"not": {"type": "string"}}), r'json_schema: Unimplemented keys: \["not"\]'),
        (shaped("json_schema", {"type": "integer", "minimum": 2, "maximum": 1}), "json_schema: Unsatisfiable schema"),
        (shaped("json_schema", {"$ref": "https://example.com/schema"}), "json_schema: Resource"),
        (shaped("json_schema", {"x-guidance": {"lenient": True}}), "json_schema.x-guidance: is not for requests"),
        (shaped("regex", "[a-"), "regex: .*unclosed character class"),
        (shaped("regex", "(?=a)b"), "regex: .*look-around"),
        (shaped("grammar", "start: nowhere"), 'grammar: .*unknown name: "nowhere"'),
        (shaped("grammar", 'start: "a" <|im_end|> "b"'), "grammar: must be made of text"),
        (shaped("grammar", 'start: "a" <[2]> "b"'), "grammar: must be made of text"),
        ({"type": "json_schema"}, "json_schema: is required where the type is 'json_schema'"),
        ({"type": "json_object", "regex": "a"}, "regex: does not go with the type 'json_object'"),
        ({"type": "regex", "regex": "a", "choice": ("a",)}, "choice: does not go with the type 'regex'"),
    ],
)
async def test_a_format_that_is_none_is_refused_by_its_field(
    demo: EngineBackend, shape: dict[str, Any], says: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=rf"options\.response_format\.{says}") as refused:
        await demo.whole(asking("a", response_format=shape))
    assert str(refused.value.details[0]["loc"]).startswith("options.response_format.")


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return inner


def chained(links: int) -> dict[str, Any]:
    of_links = {f"a{i}": {"type": "array", "items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(links)}
    return {"$ref": "#/$defs/a0", "$defs": {**of_links, f"a{links}": {"type": "string"}}}


async def test_a_schema_that_is_too_deep_or_too_long_is_refused(demo: EngineBackend) -> None:
    for schema_, says in ((nested(100), "at most 64 levels deep"), (chained(3000), "at most 65536 characters")):
        with pytest.raises(errors.InvalidRequest, match=says):
            await demo.whole(asking("a", response_format=shaped("json_schema", schema_)))


async def test_the_deepest_of_what_is_allowed_does_not_end_the_process(demo: EngineBackend) -> None:
    rules = "start: a0\n" + "".join(f"a{i}:a{i + 1}\n" for i in range(5500)) + 'a5500:"x"'
    deep = [shaped("json_schema", chained(1050)), shaped("json_schema", nested(30)), shaped("grammar", rules)]
    for shape in deep:
        answer = await demo.whole(asking("a", response_format=shape, max_new_tokens=20))
        assert answer["content"]


# Few characters, and so many ways to read a text that llguidance gives up after some letters.
BRANCHING = "(" + "|".join(f"[a-z\\p{{L}}]*{letter}.{{0,120}}[^{letter}]" for letter in "abcdefgh") + ")*"


async def rest_of(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [line async for line in stream]


def follow(guide: Guide, tokens: Sequence[int]) -> None:
    for token in tokens:
        guide.mask()
        guide.accept(token)


async def test_a_format_that_comes_to_its_bounds_half_way_ends_that_answer_alone(
    demo: EngineBackend, caplog: pytest.LogCaptureFixture
) -> None:
    alone = await demo.whole(asking("Count from 1 to 20."))
    for _ in range(2):
        beside = asyncio.create_task(demo.whole(asking("Count from 1 to 20.")))
        shape = shaped("regex", BRANCHING)
        stream = demo.stream(asking("a", response_format=shape, temperature=2, seed=1, max_new_tokens=60))
        # Some of it comes, the second time too: nothing is left of the first.
        assert await anext(stream)
        with pytest.raises(errors.InvalidRequest) as ended:
            await rest_of(stream)
        rule = "half-way through the answer it takes more than it may: lexer error: too many expressions constructed"
        assert ended.value.message == f"options.response_format.regex: {rule}"
        assert (await beside)["content"] == alone["content"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_grammar_whose_lexer_has_grown_to_its_bound_is_compiled_anew(
    monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    monkeypatch.setattr("modelengine_runtime.grammars.MOST_LEXER_STATES", 300)
    describe = (paths.MODEL / "tokenizer.json").read_text
    letters = [Vocabulary(describe, [2]).prepare().tokenize_str(letter)[0] for letter in "ab"]
    grammars = Grammars(Vocabulary(describe, [2]))
    await grammars.prepare("a test")
    grammar = Grammar(LLMatcher.grammar_from_regex("(a|b)*a(a|b){30}"), "options.response_format.regex")
    for _ in range(2):
        guide, text = await grammars.guide(grammar), random.Random(0).choices(letters, k=2000)
        follow(guide, text[:20])
        with pytest.raises(errors.InvalidRequest, match=r"regex: half-way .* too many states: 300 >= 300$"):
            follow(guide, text[20:])
    assert len(compiled) == 2
    grammars.close()


async def test_the_grammars_that_are_kept_are_those_that_were_asked_for_last(
    monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    monkeypatch.setattr("modelengine_runtime.grammars.KEPT", 2)
    grammars = Grammars(Vocabulary((paths.MODEL / "tokenizer.json").read_text, [2]))
    await grammars.prepare("a test")
    for word in ("one", "two", "one", "three", "one", "two"):
        await grammars.guide(Grammar(LLMatcher.grammar_from_regex(word), "a test"))
    assert [text.count("two") for text in compiled] == [0, 1, 0, 1]
    grammars.close()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The grammars that were compiled; one with the word `slowly` takes a second."""
    texts: list[str] = []
    compile_it = Grammars._compile

    def counted(self: Grammars, grammar: Grammar) -> LLMatcher:
        texts.append(grammar.text)
        if "slowly" in grammar.text:
            time.sleep(1.0)
        return compile_it(self, grammar)

    monkeypatch.setattr(Grammars, "_compile", counted)
    return texts


async def test_a_grammar_that_takes_too_long_is_refused_and_others_hear_that_they_are_too_many(
    demo: EngineBackend, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    monkeypatch.setattr("modelengine_runtime.grammars.DEADLINE_S", 0.7)
    slow = asyncio.create_task(demo.whole(asking("a", response_format=shaped("regex", "slowly"))))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(demo.whole(asking("a", response_format=shaped("regex", "behind it"))))
    await asyncio.sleep(0.4)
    # Its turn comes before its time is over.
    late = asyncio.create_task(demo.whole(asking("a", response_format=shaped("regex", "late"))))
    outcomes = await asyncio.gather(slow, waiting, late, return_exceptions=True)
    assert isinstance(outcomes[0], errors.InvalidRequest)
    assert outcomes[0].message == "options.response_format.regex: takes longer than 0.7 s to compile"
    assert isinstance(outcomes[1], errors.Busy)
    assert isinstance(outcomes[2], dict)
    assert outcomes[2]["content"] == "late"


async def test_what_many_ask_for_at_once_is_compiled_once(demo: EngineBackend, compiled: list[str]) -> None:
    shape = shaped("regex", "only once")
    answers = await asyncio.gather(*(demo.whole(asking("a", response_format=shape)) for _ in range(10)))
    assert [answer["content"] for answer in answers] == ["only once"] * 10
    assert len(compiled) == 1


async def test_what_was_no_grammar_is_refused_again(demo: EngineBackend, compiled: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest, match=r"options\.response_format\.regex"):
            await demo.whole(asking("a", response_format=shaped("regex", "(never closed")))
    assert len(compiled) == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"think": True}, "options.think: an answer in a response_format begins with it"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "response_format": {"type": "regex", "regex": "a"},
            },
            "options.response_format: goes with tools only as JSON",
        ),
    ],
)
async def test_what_does_not_go_with_a_format_is_refused(demo: EngineBackend, more: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=says):
        await demo.whole(asking("a", **{"response_format": shaped("json_object"), **more}))


async def test_a_mark_inside_of_a_text_stays_there(demo: EngineBackend) -> None:
    marked = shaped("regex", r'\{"a": "<think>x</think> y"\}')
    answer = await demo.whole(asking("a", response_format=marked))
    assert json.loads(answer["content"]) == {"a": "<think>x</think> y"}


async def test_a_number_comes_to_an_end_though_the_model_would_go_on(demo: EngineBackend) -> None:
    grammars = demo._lifecycle.engine.model.grammars
    assert grammars is not None
    digits = {token: 100.0 for token in range(4096) if grammars.vocabulary.digits() >> token & 1}
    named = {
        **NAMED,
        "properties": {"name": {"type": "string", "pattern": "^[0-9]{10,60}$"}, "age": {"type": "number"}},
    }
    answer = await demo.whole(asking("a", response_format=shaped("json_schema", named), logit_bias=digits))
    assert answer["finish_reason"] == "stop"
    said = json.loads(answer["content"])
    # In a text there may be as many as the schema asks for.
    assert len(said["name"]) == 60
    assert 24 <= len(re.findall(r"\d+", answer["content"])[-1]) < 30


async def test_a_letter_that_ends_an_answer_is_none_in_a_text(demo: EngineBackend) -> None:
    describe = (paths.MODEL / "tokenizer.json").read_text
    letters = {letter: Vocabulary(describe, [2]).prepare().tokenize_str(letter)[0] for letter in "abx"}
    grammars = Grammars(Vocabulary(describe, [letters["x"]]))
    await grammars.prepare("a test")
    guide = await grammars.guide(Grammar(LLMatcher.grammar_from_regex("a(x|b)"), "a test"))
    guide.accept(letters["a"])
    allowed = int.from_bytes(guide.mask(), "little")
    assert allowed >> letters["b"] & 1
    assert not allowed >> letters["x"] & 1
    guide.accept(letters["b"])
    # And now it may end.
    assert int.from_bytes(guide.mask(), "little") == 1 << letters["x"]
    grammars.close()


async def test_a_tokenizer_that_nobody_can_read_is_told_by_the_field_that_needs_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grammars = Grammars(Vocabulary(lambda: "{}", [2]))
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest, match=r"options\.response_format: this model's tokens can't be read"):
            await grammars.prepare("options.response_format")
    assert caplog.text.count("the vocabulary can't be read") == 1
    grammars.close()
