"""The shipped demo model: small, whole, offline, and word for word what its card says."""

import hashlib
import json
import re
from random import Random
from typing import Any

import pytest
import torch
from demo import generate, paths
from demo.conversation import segments
from demo.evaluate import CARD_END, CARD_START, markdown
from demo.split import Language, Split
from demo.tasks import facts, tools
from transformers import AutoModelForCausalLM, AutoTokenizer

CARD = (paths.MODEL / "README.md").read_text(encoding="utf-8")
FACTS = {fact.id: fact for fact in facts.project() + facts.small_talk()}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(paths.MODEL, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(paths.MODEL, dtype=torch.float32, local_files_only=True).eval()


def chat(model: Any, tokenizer: Any, *messages: str) -> str:
    """The greedy answer to the last of the messages, which alternate between user and assistant."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(messages)]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=400)[0, inputs["input_ids"].shape[1] :]
    answer: str = tokenizer.decode(ids, skip_special_tokens=True)
    return answer


def test_the_weights_fit_into_eight_megabytes() -> None:
    assert (paths.MODEL / "model.safetensors").stat().st_size < 8_000_000


def test_the_card_names_the_checksum_of_the_weights() -> None:
    digest = hashlib.sha256((paths.MODEL / "model.safetensors").read_bytes()).hexdigest()
    assert re.findall(r"\b[0-9a-f]{64}\b", CARD) == [digest]


def test_the_card_shows_the_numbers_that_were_measured() -> None:
    shown = CARD.split(CARD_START)[1].split(CARD_END)[0].strip()
    assert shown == markdown(json.loads(paths.EVALUATION.read_text()))


def test_the_first_line_of_the_card_says_that_it_is_a_toy() -> None:
    assert "toy" in CARD.splitlines()[0]


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        "给我介绍一下大型语言模型。",
        "龘靐齉",
        "👩‍🚀 and 🇨🇳 and 🤖",
        "a\n\n  b\tc \r\n",
        "x=1+23*456",
        "naïve café",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_every_digit_and_every_han_character_of_the_facts_is_a_token_of_its_own(tokenizer: Any) -> None:
    assert tokenizer.tokenize("9527") == ["9", "5", "2", "7"]
    assert len(tokenizer("语言模型", add_special_tokens=False)["input_ids"]) == 4


def test_control_tokens_vanish_when_decoding_and_markers_stay(tokenizer: Any) -> None:
    ids = tokenizer("<|im_start|><think>1</think><tool_call><|im_end|>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>1</think><tool_call>"


def test_the_vocabulary_has_exactly_one_row_per_token(model: Any, tokenizer: Any) -> None:
    assert model.config.vocab_size == len(tokenizer) == 4096
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not model.generation_config.do_sample


def test_the_chat_template_writes_what_the_model_was_trained_on(tokenizer: Any) -> None:
    trained = [generate.conversation(5, i) for i in range(300)]
    trained += [tools.make(Random(i), list(Language)[i % 2], Split.TRAIN) for i in range(60)]
    for conversation in trained:
        rendered = tokenizer.apply_chat_template(
            [message.as_openai() for message in conversation.messages],
            tools=[tool.as_openai() for tool in conversation.tools] or None,
            tokenize=False,
        )
        assert rendered == "".join(text for text, _ in segments(conversation))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Count from 3 to 12.", "3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
        ("count from 3 to 12", "3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
        ("Count from 1 to 100.", ", ".join(str(n) for n in range(1, 101))),
        ("从1数到20。", ", ".join(str(n) for n in range(1, 21))),
        ("Times table of 7", "\n".join(f"7 x {n} = {7 * n}" for n in range(1, 11))),
        ("Write 5 lines.", "line 1\nline 2\nline 3\nline 4\nline 5"),
        ("Say the alphabet.", "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
        ("What is 23 + 45?", "23 + 45 = 68"),
        ("Repeat after me: hello world", "hello world"),
        ("Who are you?", FACTS["who_are_you"].answers[Language.EN]),
        ("你是谁？", FACTS["who_are_you"].answers[Language.ZH]),
        ("给我介绍一下大型语言模型。", FACTS["large_language_model"].answers[Language.ZH]),
        ("What is a large language model?", FACTS["large_language_model"].answers[Language.EN]),
        ("What port does ModelEngine use?", FACTS["port"].answers[Language.EN]),
    ],
)
def test_a_greedy_answer_is_known_word_for_word(model: Any, tokenizer: Any, question: str, answer: str) -> None:
    assert chat(model, tokenizer, question) == answer


def test_a_name_is_remembered_over_small_talk(model: Any, tokenizer: Any) -> None:
    told = ("My name is Anna.", "Nice to meet you, Anna.", "How are you?", FACTS["how_are_you"].answers[Language.EN])
    assert chat(model, tokenizer, *told, "What is my name?") == "Your name is Anna."


def test_the_introduction_of_language_models_is_long_enough_to_watch(tokenizer: Any) -> None:
    for language in Language:
        answer = FACTS["large_language_model"].answers[language]
        assert 90 <= len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= 170
