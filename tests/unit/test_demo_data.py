"""The conversations the demo model is trained on: repeatable, right, complete, and free of what is held back."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from demo import generate, words
from demo.conversation import Conversation, segments
from demo.split import Language, Split, draw, is_held_out
from demo.tasks import arithmetic, counting, extraction, facts, memory, tools, transform

SIGNS = {"+": "+", "plus": "+", "加": "+", "-": "-", "minus": "-", "减": "-"}
TIMES = {"x", "*", "×", "times", "乘", "乘以"}


def training(task: generate.Task, count: int = 400) -> list[Conversation]:
    """Training conversations of one task, half in each language."""
    return [task(Random(i), list(Language)[i % 2], Split.TRAIN) for i in range(count)]


def question(conversation: Conversation) -> str:
    return conversation.messages[0].content


def final(conversation: Conversation) -> str:
    return conversation.messages[-1].content


def independent_result(text: str) -> int:
    """Works a sum out from the words of the question, without the generator's own idea of it."""
    match = re.search(r"(\d+)\s*(plus|minus|times|乘以|[-+x*×加减乘])\s*(\d+)", text)
    assert match, text
    a, sign, b = int(match[1]), match[2], int(match[3])
    if sign in TIMES:
        return sum(a for _ in range(b))
    return a + b if SIGNS[sign] == "+" else a - b


def test_the_same_seed_makes_the_same_conversations() -> None:
    first = [generate.conversation(7, i) for i in range(50)]
    assert first == [generate.conversation(7, i) for i in range(50)]
    assert first != [generate.conversation(8, i) for i in range(50)]


def test_a_stream_can_be_entered_in_the_middle() -> None:
    stream = generate.stream(7, start=20)
    assert [next(stream) for _ in range(3)] == [generate.conversation(7, i) for i in (20, 21, 22)]


def test_every_sum_is_right() -> None:
    for conversation in training(arithmetic.make):
        assert int(final(conversation).split("=")[1]) == independent_result(question(conversation)), conversation


def test_thinking_arrives_at_the_same_sum() -> None:
    thought = [c for c in training(arithmetic.make, 1000) if c.messages[-1].reasoning]
    assert thought
    for conversation in thought:
        ones, tens = conversation.messages[-1].reasoning.split("\n")
        columns = int(tens.split("= ")[1]) * 10 + int(re.findall(r"\d+", ones)[2]) % 10
        assert columns == independent_result(question(conversation))


def test_every_count_goes_up_or_down_by_one_between_the_numbers_asked_for() -> None:
    counted = [c for c in training(counting.make, 600) if c.task in ("count", "down")]
    assert {c.task for c in counted} == {"count", "down"}
    for conversation in counted:
        first, last = (int(n) for n in re.findall(r"\d+", question(conversation)))
        numbers = [int(n) for n in final(conversation).split(", ")]
        assert (numbers[0], numbers[-1]) == (first, last)
        assert {b - a for a, b in pairwise(numbers)} == {1 if last > first else -1}


def test_tables_and_lines_have_the_length_asked_for() -> None:
    made = training(counting.make, 800)
    for conversation in (c for c in made if c.task == "lines"):
        assert len(final(conversation).splitlines()) == int(re.findall(r"\d+", question(conversation))[0])
    for conversation in (c for c in made if c.task == "table"):
        number = int(re.findall(r"\d+", question(conversation))[0])
        results = [int(line.split(" = ")[1]) for line in final(conversation).splitlines()]
        assert results == list(range(number, 10 * number + 1, number))


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("echo", lambda said, answer: said.endswith(answer)),
        ("reverse", lambda said, answer: said.split("：")[-1].split(": ")[-1].split() == answer.split()[::-1]),
        ("spell", lambda said, answer: answer.replace("-", "") in said),
        ("upper", lambda said, answer: answer.isupper() and answer.lower() in said),
        ("last", lambda said, answer: said.split("：")[-1].split()[-1] == answer),
    ],
)
def test_every_transformation_is_right(kind: str, right: Callable[[str, str], bool]) -> None:
    made = [c for c in training(transform.make, 1200) if c.task == kind]
    assert len(made) > 20
    for conversation in made:
        assert right(question(conversation), final(conversation)), conversation


def test_every_answer_from_memory_was_told_before() -> None:
    for conversation in training(memory.make):
        told = [message.content for message in conversation.messages[:-1] if message.role == "user"]
        assert any(conversation.value in text for text in told), conversation
        assert conversation.value in final(conversation)


def test_every_tool_call_parses_and_takes_its_argument_from_the_question() -> None:
    called = [c for c in training(tools.make) if c.task == "tool_call"]
    assert called
    for conversation in called:
        body = conversation.answer.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
        call = json.loads(body)
        assert call["name"] in {tool.name for tool in conversation.tools}
        assert all(value in question(conversation) for value in call["arguments"].values())


def test_every_extracted_value_stands_in_the_sentence() -> None:
    for conversation in training(extraction.make):
        found = json.loads(final(conversation))
        assert len(found) == 2
        assert all(str(value) in question(conversation) for value in found.values()), conversation


def test_every_fact_is_used_in_both_languages() -> None:
    known = {fact.answers[language] for fact in facts.project() + facts.small_talk() for language in Language}
    said = {
        message.content
        for i in range(6000)
        for message in generate.conversation(1, i).messages
        if message.role == "assistant"
    }
    assert known <= said


def test_no_two_facts_are_asked_the_same_way() -> None:
    for language in Language:
        asked = [
            text
            for fact in facts.project() + facts.small_talk()
            for text in (*fact.questions[language].train, *fact.questions[language].held_out)
        ]
        assert sorted(asked) == sorted(set(asked))


def test_held_out_values_never_occur_in_training() -> None:
    values = [generate.conversation(1, i).value for i in range(6000)]
    assert sum(bool(value) for value in values) > 1000
    assert not [value for value in values if value and is_held_out(value) and value not in words.LISTED]


def test_held_out_questions_never_occur_in_training() -> None:
    held_out = {
        text
        for fact in facts.project() + facts.small_talk()
        for language in Language
        for text in fact.questions[language].held_out
    }
    said = {message.content for i in range(6000) for message in generate.conversation(1, i).messages}
    assert held_out
    assert not held_out & said


def test_about_one_value_in_ten_is_held_out() -> None:
    share = sum(is_held_out(f"{a} + {b}") for a in range(100) for b in range(100)) / 10_000
    assert 0.08 < share < 0.12
    rng = Random(1)
    assert is_held_out(draw(lambda: str(rng.random()), Split.HELD_OUT))


def test_the_assistant_learns_its_own_words_and_no_others() -> None:
    for i in range(300):
        conversation = generate.conversation(3, i)
        learnt = [text for text, own in segments(conversation) if own]
        spoken = [message.body() + "<|im_end|>" for message in conversation.messages if message.role == "assistant"]
        assert learnt == spoken
