"""From messages to the prompt's tokens: the model's chat template, rendered and tokenized in one go.

Tokenizing inside the template call is what keeps a second begin-of-text token out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from modelengine import errors
from modelengine.chats import ChatRequest, Message
from modelengine.protocol import to_json

# The variable by which chat templates let a model think, or not.
SWITCH = "enable_thinking"


def encode(tokenizer: Any, request: ChatRequest) -> list[int]:
    """The tokens of the request's messages and tools, up to where the assistant speaks.

    Raises InvalidRequest where the model's template refuses the messages (an order of roles that it does not know).
    """
    think = thinking(request)
    is_switched = has_switch(tokenizer)
    if think and not is_switched:
        raise errors.InvalidRequest(f"options.think: {request.model!r} has no switch for thinking")
    try:
        tokens: Sequence[int] = tokenizer.apply_chat_template(
            [_plain(message) for message in request.messages],
            tools=list(offered(request)) or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **({} if think is None or not is_switched else {SWITCH: think}),
        )
    except (TemplateError, TypeError, KeyError, ValueError) as refused:
        raise errors.InvalidRequest(f"messages: the model's chat template refuses them: {refused}") from refused
    if not tokens:
        raise errors.InvalidRequest("messages: the model's chat template makes nothing of them")
    return list(tokens)


def has_switch(tokenizer: Any) -> bool:
    """Whether the model can be asked to think, or not to."""
    return SWITCH in str(getattr(tokenizer, "chat_template", ""))


def offered(request: ChatRequest) -> Sequence[Mapping[str, Any]]:
    """The tools that the model may call."""
    return () if request.tool_choice == "none" else request.tools or ()


def must_follow(request: ChatRequest) -> bool:
    """Whether the answer follows a grammar from its first token on."""
    return request.tool_choice == "required" or has_format(request)


def has_format(request: ChatRequest) -> bool:
    """Whether its content is bound to a form."""
    shape = request.options.response_format
    return shape is not None and shape.type != "text"


def thinking(request: ChatRequest) -> bool | None:
    """Whether the model is to think first; None leaves it to the model. A grammar has no place for thoughts."""
    return False if must_follow(request) else request.options.think


def _plain(message: Message) -> dict[str, Any]:
    """The message as templates want it: the arguments of calls as objects."""
    plain = to_json(message)
    if "tool_calls" in plain:
        plain["tool_calls"] = [{**call, "function": _decoded(call["function"])} for call in plain["tool_calls"]]
    return plain


def _decoded(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = json.loads(arguments) if arguments.strip() else {}
    return {**function, "arguments": arguments}


def resumed_tokens(request: ChatRequest, limit: int, vocabulary: int | None) -> Sequence[int]:
    """The tokens of the answer that the caller has already. `limit` is how many the whole answer may have.

    Raises InvalidRequest where this model can't have said them. A `vocabulary` of None is not known, and not checked.
    """
    token_ids = () if request.resume is None else request.resume.token_ids
    if len(token_ids) > limit:
        raise errors.InvalidRequest(
            f"resume.token_ids: must have at most {limit} items, as many as the answer may have tokens, "
            f"got {len(token_ids)}"
        )
    for i, token in enumerate(token_ids):
        if vocabulary is not None and token >= vocabulary:
            raise errors.InvalidRequest(
                f"resume.token_ids[{i}]: must be less than {vocabulary}, the model's vocabulary, got {token}"
            )
    return token_ids


def check_bias(request: ChatRequest, vocabulary: int | None) -> None:
    """Raises InvalidRequest where a score is to be changed of a token that this model does not have."""
    for token in request.options.logit_bias or {}:
        if vocabulary is not None and token >= vocabulary:
            raise errors.InvalidRequest(
                f"options.logit_bias.{token}: must be a token below {vocabulary}, the model's vocabulary",
                details=[{"loc": f"options.logit_bias.{token}"}],
            )


def answer_limit(request: ChatRequest, prompt_length: int, context_length: int) -> int:
    """How many tokens the answer may have: what is asked for, cut to what the context leaves.

    Raises InvalidRequest, with both numbers, where the prompt leaves no room at all.
    """
    if prompt_length >= context_length:
        # Clients that shorten a conversation when it has to be look for these words, or for the type.
        rule = (
            f"the prompt is too long: it has {prompt_length} tokens, the context of {request.model!r} holds "
            f"{context_length} with at least 1 for the answer"
        )
        detail = {"type": "context_length_exceeded", "loc": "messages", "msg": rule}
        raise errors.InvalidRequest(f"messages: {rule}", details=[detail])
    return min(request.options.token_limit, context_length - prompt_length)
