"""The conversation at the terminal, for `run` without a prompt.

Ctrl-C stops an answer, on the server as well, and the session goes on; Ctrl-D ends it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory

from modelengine import errors
from modelengine.cli import answer, commands, exits
from modelengine.cli.conversation import Conversation
from modelengine.client import ChatClient

PROMPT = ">>> "
MORE = "... "
QUOTES = '"""'

ReadLine = Callable[[str], str]


def talk(client: ChatClient, model: str, system: str | None, how: answer.Asking, verbose: bool) -> None:
    """Prompts and answers, until the user leaves."""
    conversation = Conversation(model, system, how.options)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history_file())),
        completer=WordCompleter([f"/{command}" for command in commands.COMMANDS], sentence=True),
        complete_while_typing=False,
    )
    print(f"talking to {model}; /help for help, Ctrl-D to leave", file=sys.stderr)
    while True:
        try:
            message = read_message(session.prompt)
            if message.strip():
                respond(client, conversation, message, how, verbose)
        except KeyboardInterrupt:
            continue
        except (EOFError, commands.Leave):
            return
        except errors.ModelEngineError as failure:
            exits.tell_error(failure.message)


def read_message(read_line: ReadLine) -> str:
    """One line, or everything between triple quotes."""
    line = read_line(PROMPT)
    if not line.lstrip().startswith(QUOTES):
        return line
    text = line.lstrip().removeprefix(QUOTES)
    while not text.rstrip().endswith(QUOTES):
        text += "\n" + read_line(MORE)
    return text.rstrip().removesuffix(QUOTES).strip("\n")


def respond(client: ChatClient, conversation: Conversation, message: str, how: answer.Asking, verbose: bool) -> None:
    """Carries out a command, or asks the model."""
    if message.startswith("/"):
        reply = commands.obey(message, conversation, client.get_service_names)
        if isinstance(reply, str):
            print(reply, file=sys.stderr)
            return
        message = reply.prompt
    got = answer.begin()
    asking = replace(how, options=conversation.options)
    try:
        answer.ask(client, conversation.model, conversation.asking(message), asking, got, time.perf_counter)
    finally:
        conversation.answered(message, got.text)
        if verbose:
            print(got.numbers, file=sys.stderr)


def history_file() -> Path:
    """Where typed lines are remembered: state, in the sense of the XDG base directories."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / "modelengine"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "history"
