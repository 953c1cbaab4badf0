"""The slash commands of a conversation. Each takes what stands behind it, and gives what to say back."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelengine import errors
from modelengine.cli import chat_options, naming
from modelengine.cli.conversation import Conversation
from modelengine.protocol import to_json


class Leave(Exception):
    """The user says good-bye."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask this prompt again."""

    prompt: str


Reply = str | Retry
Names = Callable[[], Sequence[str]]


def obey(line: str, talk: Conversation, names: Names) -> Reply:
    """Carries out `/command argument`. Raises InvalidRequest for what is none, Leave for /bye."""
    command, _, argument = line[1:].partition(" ")
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean /{near[0]}?" if near else "; /help lists them"
        raise errors.InvalidRequest(f"no command /{command}{hint}")
    return COMMANDS[command](argument.strip(), talk, names)


def _help(argument: str, talk: Conversation, names: Names) -> Reply:
    return HELP


def _clear(argument: str, talk: Conversation, names: Names) -> Reply:
    talk.clear()
    return "forgotten; the system message and the options stay"


def _system(argument: str, talk: Conversation, names: Names) -> Reply:
    talk.system = argument or None
    return "system message set" if argument else "no system message"


def _set(argument: str, talk: Conversation, names: Names) -> Reply:
    name, _, value = argument.partition(" ")
    if not value:
        raise errors.InvalidRequest("/set wants a name and a value, as in /set temperature 0.5")
    talk.options = chat_options.with_option(talk.options, name, value.strip())
    return _options(talk)


def _show(argument: str, talk: Conversation, names: Names) -> Reply:
    lines = [f"model: {talk.model}", f"system: {talk.system or '(none)'}", _options(talk), f"turns: {len(talk.turns)}"]
    return "\n".join(lines)


def _retry(argument: str, talk: Conversation, names: Names) -> Reply:
    return Retry(talk.take_back())


def _model(argument: str, talk: Conversation, names: Names) -> Reply:
    served = names()
    if not argument:
        return "\n".join(f"{'*' if name == talk.model else ' '} {name}" for name in served)
    talk.model = naming.match(argument, served)
    return f"talking to {talk.model}"


def _save(argument: str, talk: Conversation, names: Names) -> Reply:
    path = _file("/save", argument)
    talk.save(path)
    return f"saved to {path}"


def _load(argument: str, talk: Conversation, names: Names) -> Reply:
    path = _file("/load", argument)
    talk.load(path)
    return f"loaded {path}: {len(talk.turns)} turns with {talk.model}"


def _bye(argument: str, talk: Conversation, names: Names) -> Reply:
    raise Leave


def _file(command: str, argument: str) -> Path:
    if not argument:
        raise errors.InvalidRequest(f"{command} wants a file, as in {command} talk.json")
    return Path(argument)


def _options(talk: Conversation) -> str:
    return f"options: {json.dumps(to_json(talk.options), ensure_ascii=False)}"


COMMANDS: Mapping[str, Callable[[str, Conversation, Names], Reply]] = {
    "help": _help,
    "?": _help,
    "clear": _clear,
    "system": _system,
    "set": _set,
    "show": _show,
    "retry": _retry,
    "model": _model,
    "save": _save,
    "load": _load,
    "bye": _bye,
}

HELP = '''\
/clear             forget what was said
/system TEXT       set the system message; without TEXT, none
/set NAME VALUE    set an option: temperature, max_new_tokens, seed, top_p ...
/show              show the model, the system message and the options
/retry             ask the last prompt again
/model [NAME]      talk to another model; without NAME, list them
/save FILE         write the conversation to a file
/load FILE         go on with a saved one
/bye               leave (or Ctrl-D)
"""                begin and end a message of several lines
Ctrl-C             stop the answer'''
