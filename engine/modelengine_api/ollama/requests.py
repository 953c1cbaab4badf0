"""Ollama's chat and generate as native requests. Pure.

What can't be honoured and would make another answer than the one that was asked for is refused; what only asks for
other means (`options.num_gpu`) or hints is listed as ignored.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelengine import errors
from modelengine.chats import ChatRequest, Message
from modelengine_api.ollama import calls, options
from modelengine_api.ollama.calls import Call, ChatCall, GenerateCall
from modelengine_api.ollama.conversation import NO_IMAGES, native_messages


def chat(call: ChatCall, model: str) -> ChatRequest:
    """The call as a question to `model`, the name that is served. Raises InvalidRequest."""
    if call.tools and call.format:
        raise errors.InvalidRequest("format: does not go with tools; leave one of them out")
    return ChatRequest(
        model=model,
        messages=native_messages(call.messages),
        tools=call.tools or None,
        options=options.chat_options(call),
        stream=call.stream,
    )


def generate(call: GenerateCall, model: str) -> ChatRequest:
    """As `chat`, of one prompt, under the model's own chat template."""
    refuse_unsupported(call)
    system = (Message("system", call.system),) if call.system else ()
    return ChatRequest(
        model=model,
        messages=(*system, Message("user", call.prompt)),
        options=options.chat_options(call),
        stream=call.stream,
    )


def refuse_unsupported(call: GenerateCall) -> None:
    """Raises InvalidRequest for what would change the prompt in a way that can't be had here."""
    if call.images:
        raise errors.InvalidRequest(f"images: {NO_IMAGES}")
    if call.raw:
        raise errors.InvalidRequest("raw: must be false; a prompt always goes through the model's chat template")
    if call.template:
        raise errors.InvalidRequest("template: must be empty; the model's own chat template is always used")
    if call.suffix:
        raise errors.InvalidRequest("suffix: must be empty; text is not inserted before a suffix here")
    if call.context:
        raise errors.InvalidRequest("context: must be empty; send the conversation as messages to /api/chat")


def ignored(call: Call) -> Iterator[str]:
    """The names of all that the call asks for and that has no effect."""
    yield from calls.unknown(call)
    yield from options.ignored(call)
    if call.keep_alive is not None:
        yield "keep_alive"
