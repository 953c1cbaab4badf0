"""`modelengine run NAME [PROMPT]`: one answer for a prompt, or a conversation when there is none.

Only the answer goes to stdout, so that it can be piped on; everything else goes to stderr.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from modelengine import errors
from modelengine.cli import naming, options
from modelengine.cli.reach import Reach

if TYPE_CHECKING:
    from modelengine.client import ChatClient


def run(
    reach: Reach,
    name: options.Name,
    prompt: Annotated[str | None, typer.Argument(help="What to ask; piped input comes before it.")] = None,
    system: Annotated[str | None, typer.Option("-s", "--system", help="A system message.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("-o", "--option", metavar="NAME=VALUE", help="temperature=0.5, seed=7, stop=END ... (repeatable)"),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Show the answer while it comes.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The protocol's envelopes, one per line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The answer's numbers on stderr.")] = False,
    wait: Annotated[float | None, typer.Option(min=0, help="Seconds to wait until the name is served.")] = None,
) -> None:
    """Chat: one answer for a prompt, else a conversation."""
    from modelengine.chats import Message
    from modelengine.cli import answer, chat_options
    from modelengine.client import ChatClient

    how = answer.Asking(chat_options.parse(option or ()), stream, as_json)
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    asked = whole_prompt(prompt, None if is_terminal else piped())
    if asked is None and not is_terminal:
        raise typer.BadParameter("no prompt; give one as an argument or on stdin")
    with reach.opened() as door, ChatClient(door.host, relayed=door.relayed) as client:
        model = served(client, name, wait)
        if asked is None:
            from modelengine.cli import repl

            repl.talk(client, model, system, how, verbose)
            return
        messages = [Message("system", system)] * (system is not None) + [Message("user", asked)]
        got = answer.begin()
        try:
            answer.ask(client, model, messages, how, got, time.perf_counter)
        finally:
            if verbose:
                print(got.numbers, file=sys.stderr)


def piped() -> str:
    """All of stdin. Raises InvalidRequest where it is no text."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as failure:
        raise errors.InvalidRequest(f"stdin is not UTF-8 text (byte {failure.start})") from failure


def whole_prompt(argument: str | None, piped: str | None) -> str | None:
    """What was piped, then the argument, as in `cat file | modelengine run demo "summarise this"`."""
    parts = [part for part in ((piped or "").rstrip("\n"), argument) if part]
    return "\n".join(parts) or None


def served(client: ChatClient, typed: str, wait_s: float | None) -> str:
    """The served name that is meant, waited for where the user says so."""
    try:
        return naming.match(typed, client.get_service_names())
    except (errors.NotFound, errors.ConnectionFailed) as failure:
        if wait_s is None:
            if isinstance(failure, errors.NotFound):
                why = client.why_not_served(typed)
                raise why if isinstance(why, errors.InvalidRequest) else failure from None
            raise
    client.wait_service_available(typed, wait_s)
    return typed
