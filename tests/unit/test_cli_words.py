"""What a user types: a name, an option; and what is printed: tables and sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from modelengine import errors
from modelengine.chats import ChatOptions
from modelengine.cli import chat_options, naming, run, tables
from modelengine.cli.options import Format

RECORDS: list[dict[str, Any]] = [{"name": "模型/一", "port": 80}, {"name": "demo [x]", "port": None}]
COLUMNS = [tables.Column("NAME"), tables.Column("PORT"), tables.Column("SIZE", lambda record: "big", is_wide=True)]


def test_a_name_is_matched_exactly_before_it_is_matched_as_a_beginning() -> None:
    assert naming.match("qwen", ["qwen", "qwen3"]) == "qwen"
    assert naming.match("QW", ["demo", "Qwen/Qwen3-8B"]) == "Qwen/Qwen3-8B"


def test_a_beginning_of_two_names_names_both() -> None:
    with pytest.raises(errors.NotFound, match=r"'q' could be any of qwen2, qwen3"):
        naming.match("q", ["qwen3", "demo", "qwen2"])


def test_an_unknown_name_offers_the_nearest_and_lists_the_known() -> None:
    with pytest.raises(errors.NotFound) as unknown:
        naming.match("qven3", ["demo", "qwen3"])
    assert unknown.value.message == "no model 'qven3'; did you mean 'qwen3'? (known: demo, qwen3)"


def test_options_get_the_types_of_the_protocol() -> None:
    given = ["temperature=0.5", "max_new_tokens=7", "seed=3", "stop=END"]
    assert chat_options.parse(given) == ChatOptions(temperature=0.5, max_new_tokens=7, seed=3, stop=("END",))


def test_options_that_are_no_numbers_are_true_false_or_json() -> None:
    given = ["think=True", 'logit_bias={"5": -1}', 'response_format={"type": "json_object"}']
    options = chat_options.parse(given)
    assert (options.think, options.logit_bias) == (True, {"5": -1})
    assert options.response_format == {"type": "json_object"}


def test_a_repeated_stop_adds_up_and_may_hold_an_equals_sign() -> None:
    assert chat_options.parse(["stop=a", "stop=b=c"]).stop_strings == ("a", "b=c")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("temprature=1", "no option 'temprature'; did you mean 'temperature'?"),
        ("temperature=hot", "option temperature: expected a number, got 'hot'"),
        ("seed=1.5", "option seed: expected a whole number, got '1.5'"),
        ("seed", "option 'seed': expected name=value"),
        ("think=yes", "option think: expected true or false, got 'yes'"),
        ("response_format=json", "option response_format: expected JSON of an object, got 'json'"),
        ("logit_bias=[1]", "option logit_bias: expected JSON of an object, got '[1]'"),
    ],
)
def test_a_wrong_option_says_what_is_right(given: str, message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as wrong:
        chat_options.parse([given])
    assert wrong.value.message.startswith(message)


def test_piped_text_comes_before_the_argument() -> None:
    assert run.whole_prompt("summarise this", "a long text\n") == "a long text\nsummarise this"
    assert run.whole_prompt(None, "text\n") == "text"
    assert run.whole_prompt("ask", None) == "ask"
    assert run.whole_prompt(None, "\n") is None


def test_a_table_keeps_brackets_and_never_wraps_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([*RECORDS, {"name": "x" * 300, "port": 1}], COLUMNS, Format.TABLE)
    header, first, second, long = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "PORT"]
    assert first.split() == ["模型/一", "80"]
    assert second.split("  ")[0] == "demo [x]"
    assert second.endswith("-")
    assert long.split() == ["x" * 300, "1"]


def test_wide_shows_the_columns_that_a_table_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(RECORDS, COLUMNS, Format.WIDE)
    assert capsys.readouterr().out.splitlines()[1].split() == ["模型/一", "80", "big"]


def test_json_yaml_and_name_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(RECORDS, COLUMNS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == RECORDS
    tables.show(RECORDS, COLUMNS, Format.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == RECORDS
    tables.show(RECORDS, COLUMNS, Format.NAME)
    assert capsys.readouterr().out == "模型/一\ndemo [x]\n"
    tables.show([], COLUMNS, Format.NAME)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5s"), (119, "119s"), (120, "2m"), (7300, "2h"), (200000, "2d")])
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_sizes_and_counts_are_for_people() -> None:
    assert tables.count(3_443_904) == "3.4M"
    assert tables.count(999) == "999"
    assert tables.size(1.5 * 2**30) == "1.5 GiB"
    assert tables.size(3 * 2**20) == "3.0 MiB"
