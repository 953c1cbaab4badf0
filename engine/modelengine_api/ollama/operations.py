"""What the description of the API says of Ollama's routes: the forms of their answers, which only readers need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from modelengine_api import openapi
from modelengine_api.ollama import calls

STYLE = openapi.Style(
    answer=lambda schema: schema,
    error={"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    stream=openapi.NATIVE.stream,
)


@dataclass(frozen=True, slots=True)
class OllamaMessage:
    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaPart:
    """What is more than `done` is said where that is true. Durations are nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaChat(OllamaPart):
    message: OllamaMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaGenerated(OllamaPart):
    response: str
    thinking: str | None = None


@dataclass(frozen=True, slots=True)
class OllamaDetails:
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


@dataclass(frozen=True, slots=True)
class OllamaModel:
    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    modified_at: str | None = None
    expires_at: str | None = None
    size_vram: int | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class OllamaModels:
    models: list[OllamaModel]


@dataclass(frozen=True, slots=True)
class OllamaShown:
    license: str
    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


@dataclass(frozen=True, slots=True)
class OllamaVersion:
    version: str
    modelengine: str


CHAT = openapi.operation(
    body=calls.ChatCall, answer=OllamaChat, part=OllamaChat, refusals=openapi.OF_A_MODEL, style=STYLE
)
GENERATE = openapi.operation(
    body=calls.GenerateCall, answer=OllamaGenerated, part=OllamaGenerated, refusals=openapi.OF_A_MODEL, style=STYLE
)
SHOW = openapi.operation(body=calls.ShowCall, answer=OllamaShown, refusals=openapi.OF_A_MODEL, style=STYLE)
TAGS = PS = openapi.operation(answer=OllamaModels, style=STYLE)
VERSION = openapi.operation(answer=OllamaVersion, style=STYLE)
