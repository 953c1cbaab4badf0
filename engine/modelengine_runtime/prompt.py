"""From messages to the prompt's tokens: the model's chat template, rendered and tokenized in one go.

Tokenizing inside the template call is what keeps a second begin-of-text token out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from modelengine import errors
from modelengine.protocol import ChatRequest, to_json


def encode(tokenizer: Any, request: ChatRequest) -> list[int]:
    """The tokens of the request's messages and tools, up to where the assistant speaks.

    Raises InvalidRequest where the model's template refuses the messages (an order of roles that it does not know).
    """
    try:
        tokens: Sequence[int] = tokenizer.apply_chat_template(
            [to_json(message) for message in request.messages],
            tools=None if request.tools is None else list(request.tools),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, TypeError, KeyError, ValueError) as refused:
        raise errors.InvalidRequest(f"messages: the model's chat template refuses them: {refused}") from refused
    if not tokens:
        raise errors.InvalidRequest("messages: the model's chat template makes nothing of them")
    return list(tokens)


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
