"""What the README repeats of the code is the same there."""

import dataclasses
import re
import typing
from pathlib import Path

import annotated_types
import pytest

import transcript
from modelengine import flows
from modelengine.chats import DEFAULT_MAX_NEW_TOKENS, MAX_SEED, ChatOptions
from modelengine.cli.main import app
from modelengine_gateway import settings as gateway_settings
from modelengine_runtime import settings as runtime_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def rows(heading):
    """The table's rows below its heading line, as lists of cells."""
    lines = README[README.index(heading) :].splitlines()[2:]
    table = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def bounds(annotation):
    """The numbers that bound a field, as the README writes them: '0 to 5', 'over 0 to 1', 'from 1'."""
    [annotated] = [kind for kind in typing.get_args(annotation) if hasattr(kind, "__metadata__")]
    low = high = ""
    for limit in annotated.__metadata__:
        if isinstance(limit, annotated_types.Ge):
            low = f"{limit.ge}"
        elif isinstance(limit, annotated_types.Gt):
            low = f"over {limit.gt}"
        elif isinstance(limit, annotated_types.Le) and limit.le != MAX_SEED:
            high = f"{limit.le}"
    return f"{low} to {high}" if high else f"from {low}"


def test_the_readme_s_options_are_the_protocol_s_with_their_bounds():
    hints = typing.get_type_hints(ChatOptions, include_extras=True)
    fields = [field.name for field in dataclasses.fields(ChatOptions)]
    listed = {name: cells[1] for cells in rows("| Option |") for name in re.findall(r"`(\w+)`", cells[0])}
    assert sorted(listed) == sorted(fields)
    numeric = [name for name in fields if name not in ("stop", "logit_bias", "response_format", "think")]
    assert {name: listed[name] for name in numeric} == {name: bounds(hints[name]) for name in numeric}
    assert f"default {DEFAULT_MAX_NEW_TOKENS};" in README


class Recorder(dict):
    """An empty environment that remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return default


def test_the_readme_s_settings_are_those_that_the_servers_and_the_clients_read():
    environments = {"gateway": Recorder(), "runtime": Recorder()}
    gateway_settings.from_env(environments["gateway"])
    runtime_settings.from_env(environments["runtime"])
    read = environments["gateway"].asked | environments["runtime"].asked | {flows.RELAYED_VARIABLE, flows.KEY_VARIABLE}
    assert {cells[0].strip("`") for cells in rows("| Variable |")} == read


@pytest.mark.parametrize(("variable", "field"), [("MAX_BATCH_SIZE", "max_batch_size"), ("MAX_QUEUE", "max_queue")])
def test_the_readme_s_defaults_are_the_engine_s(variable, field):
    [default] = [cells[2] for cells in rows("| Variable |") if cells[0] == f"`MODELENGINE_{variable}`"]
    assert default == str(getattr(runtime_settings.from_env({}), field))


def test_the_readme_s_transcript_is_the_one_that_the_demo_is_tested_for():
    windows = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    first = next(block for block in windows if block.startswith("$ .venv/bin/modelengine up"))
    second = next(block for block in windows if block.startswith("$ .venv/bin/modelengine demo"))
    end = next(block for block in windows if "clean_up!" in block)
    assert re.fullmatch(r"ModelEngineNameServer: in memory, running! port: 9527", first.splitlines()[1])
    assert re.fullmatch(r"ModelEngineInferenceEngine: demo is running! port: \d+", first.splitlines()[2])
    lines = second.splitlines()[1:]
    # The README leaves out the middle of the stream, and says so.
    assert lines.count("...") == 1
    transcript.check([line for line in lines if line != "..."], int(first.rsplit(" ", 1)[1]))
    assert end.splitlines() == ["ModelEngineNameServer clean_up!", "ModelEngineInferenceEngine clean_up!"]


def test_the_readme_s_commands_exist():
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = set(re.findall(r"^(?:.*\| )?(?:\$ \.venv/bin/)?modelengine (\w+)", README, re.MULTILINE))
    assert used <= verbs
    assert len(used) > 5
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= targets


def test_what_the_readme_and_the_architecture_point_to_is_there():
    for name in ("README.md", "docs/architecture.md"):
        text = (ROOT / name).read_text()
        links = re.findall(r"\]\(([^)#:]+)\)", text)
        paths = [(ROOT / name).parent / link for link in links]
        paths += [ROOT / path for path in re.findall(r"`((?:tests|docs|bench)/[\w./]+)`", text)]
        assert [str(path) for path in paths if not path.exists()] == []


def test_every_file_that_the_architecture_names_exists():
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`(?:[\w]+/)*(\w+\.py)`", text))
    known = {path.name for root in ("engine", "operator") for path in (ROOT / root).rglob("*.py")}
    assert named - known == set()
    assert len(named) > 20
