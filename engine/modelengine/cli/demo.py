"""`modelengine demo`: the second window of the first example, against a running system or one that it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from modelengine.cli.reach import Door, Reach
from modelengine.protocol import DEFAULT_PORT

RULER = "=" * 80
PROMPT = "给我介绍一下大型语言模型。"


def demo(
    reach: Reach,
    model: Annotated[str, typer.Option(help="A served name; with --up also what to serve.")] = "demo",
    prompt: Annotated[str, typer.Option(help="What to ask.")] = PROMPT,
    up: Annotated[bool, typer.Option("--up", help="Start the whole system first, and stop it at the end.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"With --up: the name server's. Default {DEFAULT_PORT}.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the model.")] = 600.0,
) -> None:
    """Show a first conversation; --up starts all it needs."""
    if up and (reach.host is not None or reach.cluster is not None):
        given = "--host" if reach.cluster is None else "a cluster"
        raise typer.BadParameter(f"{given} is of a running system; --up starts its own")
    if port is not None and not up:
        raise typer.BadParameter("--port goes with --up")
    if not up:
        with reach.opened() as door:
            return conversation(door, model, prompt, timeout)
    from modelengine.cli import first_window

    with first_window.opened(model, DEFAULT_PORT if port is None else port) as window:
        return conversation(Door(window.address, False), window.name, prompt, timeout)


def conversation(door: Door, model: str, prompt: str, timeout: float) -> None:
    """The transcript, in the order and the shape that the first example had."""
    from modelengine.chats import Message
    from modelengine.client import ChatClient
    from modelengine.protocol import ServerResponse

    messages = [Message("user", prompt)]
    with ChatClient(door.host, relayed=door.relayed) as client:
        print(RULER)
        print(f"Wait {model} available", flush=True)
        print(client.wait_service_available(model, timeout))
        print(RULER)
        print("ModelEngineInferenceEngine support_methods")
        print(f"state='ok' msg={ {'support_methods': client.support_methods(model)} }")
        print(RULER)
        print("stream == False", flush=True)
        answer = client.chat(model, messages)
        print(answer.content)
        print(f"response_length: {answer.response_length}")
        print(RULER)
        print("stream == True", flush=True)
        with client.chat(model, messages, stream=True) as parts:
            for part in parts:
                print(ServerResponse("ok", part), flush=True)
