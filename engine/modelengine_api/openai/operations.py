"""What the description of the API says of OpenAI's routes: the forms of their answers, which only readers need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from modelengine import errors
from modelengine_api import openapi
from modelengine_api.openai.chat import ChatCompletionRequest
from modelengine_api.openai.completion import CompletionRequest
from modelengine_api.openai.response import ResponseRequest


@dataclass(frozen=True, slots=True)
class OpenAIModel:
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@dataclass(frozen=True, slots=True)
class OpenAIModels:
    object: Literal["list"]
    data: list[OpenAIModel]


@dataclass(frozen=True, slots=True)
class OpenAIUsage:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


@dataclass(frozen=True, slots=True)
class OpenAIMessage:
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class OpenAIChoice:
    index: int
    message: OpenAIMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[OpenAIChoice]
    usage: OpenAIUsage


@dataclass(frozen=True, slots=True)
class OpenAIDelta:
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class OpenAIChoicePart:
    index: int
    delta: OpenAIDelta
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


@dataclass(frozen=True, slots=True)
class OpenAIChatPart:
    """The data of an event. The usage comes last, where it was asked for, and `[DONE]` after it."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[OpenAIChoicePart]
    usage: OpenAIUsage | None = None


@dataclass(frozen=True, slots=True)
class OpenAICompletionChoice:
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"] | None
    reasoning_content: str | None = None


@dataclass(frozen=True, slots=True)
class OpenAICompletion:
    """Whole, or the data of an event, which has a reason to end only at the end."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[OpenAICompletionChoice]
    usage: OpenAIUsage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIResponse:
    """It also repeats what it was asked for."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class OpenAIEvent:
    """The data of an event, with the fields of its type."""

    type: str
    sequence_number: int


def _of_model(body: Any, answer: Any, part: Any) -> dict[str, Any]:
    return openapi.operation(body=body, answer=answer, part=part, refusals=openapi.OF_A_MODEL, style=openapi.OPENAI)


LIST_MODELS = openapi.operation(answer=OpenAIModels, style=openapi.OPENAI)
RETRIEVE_MODEL = openapi.operation(answer=OpenAIModel, refusals=(errors.NotFound,), style=openapi.OPENAI)
CHAT = _of_model(ChatCompletionRequest, OpenAIChat, OpenAIChatPart)
COMPLETION = _of_model(CompletionRequest, OpenAICompletion, OpenAICompletion)
RESPONSE = _of_model(ResponseRequest, OpenAIResponse, OpenAIEvent)
