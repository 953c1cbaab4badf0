"""A conversation and its slash commands, without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelengine import errors
from modelengine.chats import ChatOptions, Message
from modelengine.cli import commands
from modelengine.cli.answer import Answer
from modelengine.cli.conversation import Conversation


def names() -> list[str]:
    return ["demo", "qwen3"]


def talked() -> Conversation:
    talk = Conversation("demo")
    talk.answered("hi", "hello")
    return talk


def test_what_was_said_is_sent_again_after_the_system_message() -> None:
    talk = talked()
    talk.system = "be short"
    assert talk.asking("and?") == [
        Message("system", "be short"),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "and?"),
    ]


def test_a_prompt_without_an_answer_is_not_kept_but_can_be_retried() -> None:
    talk = talked()
    talk.answered("and?", "")
    assert len(talk.turns) == 2
    assert commands.obey("/retry", talk, names) == commands.Retry("and?")
    assert len(talk.turns) == 2


def test_retry_takes_the_last_answer_back() -> None:
    talk = talked()
    assert commands.obey("/retry", talk, names) == commands.Retry("hi")
    assert talk.turns == []


def test_retry_needs_something_to_retry() -> None:
    with pytest.raises(errors.InvalidRequest, match="nothing to retry"):
        commands.obey("/retry", Conversation("demo"), names)


def test_clear_forgets_the_turns_and_keeps_the_settings() -> None:
    talk = talked()
    commands.obey("/system be short", talk, names)
    commands.obey("/clear", talk, names)
    assert talk.asking("x") == [Message("system", "be short"), Message("user", "x")]


def test_set_takes_typed_options_and_show_shows_them() -> None:
    talk = Conversation("demo")
    commands.obey("/set temperature 0.5", talk, names)
    commands.obey("/set stop THE END", talk, names)
    assert talk.options == ChatOptions(temperature=0.5, stop="THE END")
    assert '"temperature": 0.5' in str(commands.obey("/show", talk, names))


def test_model_lists_and_switches_by_a_beginning() -> None:
    talk = talked()
    assert commands.obey("/model", talk, names) == "* demo\n  qwen3"
    assert commands.obey("/model q", talk, names) == "talking to qwen3"
    assert talk.model == "qwen3"
    with pytest.raises(errors.NotFound):
        commands.obey("/model gpt", talk, names)


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    talk, path = talked(), tmp_path / "talk.json"
    talk.system, talk.options = "讲中文", ChatOptions(seed=1, stop=("a", "b"))
    commands.obey(f"/save {path}", talk, names)
    other = Conversation("qwen3")
    assert commands.obey(f"/load {path}", other, names) == f"loaded {path}: 2 turns with demo"
    assert other == talk


@pytest.mark.parametrize("content", ["", "[]", '{"model": "x"}', '{"turns": [1]}', None])
def test_loading_what_is_no_conversation_changes_nothing(tmp_path: Path, content: str | None) -> None:
    path, talk = tmp_path / "file", talked()
    if content is not None:
        path.write_text(content)
    with pytest.raises(errors.InvalidRequest, match="file"):
        commands.obey(f"/load {path}", talk, names)
    assert talk == talked()


def test_saving_to_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="can't save"):
        commands.obey(f"/save {tmp_path / 'no' / 'such'}", talked(), names)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/hlep", "no command /hlep; did you mean /help?"),
        ("/xyzzy", "no command /xyzzy; /help lists them"),
        ("/set temperature", "/set wants a name and a value"),
        ("/save", "/save wants a file"),
    ],
)
def test_a_wrong_command_says_what_is_right(line: str, message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as wrong:
        commands.obey(line, Conversation("demo"), names)
    assert wrong.value.message.startswith(message)


def test_help_names_every_command() -> None:
    text = str(commands.obey("/help", Conversation("demo"), names))
    assert all(f"/{command}" in text for command in commands.COMMANDS if command not in ("help", "?"))


def test_bye_leaves() -> None:
    with pytest.raises(commands.Leave):
        commands.obey("/bye", Conversation("demo"), names)


def test_the_numbers_of_an_answer_are_one_line() -> None:
    answer = Answer(started_s=10)
    answer.took("a", 1, None, 10.038)
    answer.took("b", 11, None, 10.088)
    answer.took(None, 11, "stop", 10.088)
    assert answer.numbers == "ttft 38 ms · 11 tokens · 200 tok/s · stop"
    assert answer.text == "ab"


def test_an_answer_that_broke_off_says_so() -> None:
    answer = Answer(started_s=10)
    assert answer.numbers == "no answer"
    answer.took("a", 1, None, 10.5)
    assert answer.numbers == "ttft 500 ms · 1 token · cut off"
