"""The models that there are, as Ollama's clients list them, checked with the types of their own package."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import ollama
import pytest

from fakes import Informants
from modelengine_api.backend import ModelCard
from modelengine_api.ollama import facts, listings
from modelengine_api.ollama.listings import Told

INFO = {
    "name": "demo",
    "protocol": "chat",
    "architecture": "Qwen3ForCausalLM",
    "parameters": 3_377_088,
    "context_length": 1024,
    "dtype": "bfloat16",
    "device": "cpu",
    "uptime_s": 60.4,
}
# 2026-11-26 17:13:52.
TOLD = Told(INFO, 1_795_713_232.0)
CARDS = [ModelCard("away", "chat", 0, "no replica"), ModelCard("demo", "chat", 2), ModelCard("org/b", "embed", 1)]
DETAILS = {
    "parent_model": "",
    "format": "safetensors",
    "family": "qwen3",
    "families": ["qwen3"],
    "parameter_size": "3.4M",
    "quantization_level": "BF16",
}


def test_tags_list_every_name_and_what_is_known_of_it() -> None:
    body = listings.tags(CARDS, {"demo": TOLD})
    assert [model["name"] for model in body["models"]] == ["away", "demo", "org/b"]
    assert body["models"][1] == {
        "name": "demo",
        "model": "demo",
        "modified_at": "2026-11-26T17:12:51Z",
        "size": 0,
        "digest": hashlib.sha256(b"demo").hexdigest(),
        "details": DETAILS,
    }
    assert body["models"][0]["modified_at"] == "0001-01-01T00:00:00Z"
    parsed = ollama.ListResponse(**body)
    assert [model.model for model in parsed.models] == ["away", "demo", "org/b"]
    assert parsed.models[1].modified_at is not None


def test_each_name_has_a_digest_that_a_command_line_can_cut() -> None:
    listed = [listings.tags(CARDS, {})["models"], listings.ps(CARDS, {})["models"]]
    of_name = [{model["name"]: model["digest"] for model in models} for models in listed]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in of_name[0].values())
    assert len(set(of_name[0].values())) == 3
    assert of_name[1].items() <= of_name[0].items()


def test_ps_lists_what_has_a_replica() -> None:
    body = listings.ps(CARDS, {"demo": TOLD})
    assert [model["name"] for model in body["models"]] == ["demo", "org/b"]
    parsed = ollama.ProcessResponse(**body)
    assert parsed.models[0].context_length == 1024
    assert parsed.models[0].expires_at is not None
    assert parsed.models[0].expires_at.year > 2200


def test_show_says_what_the_engine_knows() -> None:
    body = listings.show(TOLD)
    assert body["model_info"] == {
        "general.architecture": "qwen3",
        "general.parameter_count": 3_377_088,
        "qwen3.context_length": 1024,
    }
    assert (body["details"], body["capabilities"]) == (DETAILS, ["completion"])
    parsed = ollama.ShowResponse(**body)
    assert parsed.modelinfo == body["model_info"]


def test_show_of_an_engine_that_tells_nothing_makes_nothing_up() -> None:
    body = listings.show(Told({}, 0.0))
    assert body["model_info"] == {}
    assert not any(body["details"].values())
    ollama.ShowResponse(**body)


def test_what_a_model_can_do_is_what_clients_choose_it_by() -> None:
    chats = Told({"protocol": "chat", "capabilities": ["tools", "thinking"]}, 0.0)
    assert listings.show(chats)["capabilities"] == ["completion", "tools", "thinking"]
    embeds = listings.show(Told({"protocol": "embed", "architecture": "BertModel", "dimensions": 384}, 0.0))
    assert embeds["capabilities"] == ["embedding"]
    assert embeds["model_info"]["bert.embedding_length"] == 384
    assert listings.show(Told({"protocol": "rerank"}, 0.0))["capabilities"] == []


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("LlamaForCausalLM", "llama"),
        ("GPT2LMHeadModel", "gpt2"),
        ("Gemma3ForConditionalGeneration", "gemma3"),
        ("BertModel", "bert"),
        ("Fake", "fake"),
        ("Model", "model"),
    ],
)
def test_the_family_is_the_architecture_without_its_head(architecture: str, family: str) -> None:
    assert Told({"architecture": architecture}).architecture == family


@pytest.mark.parametrize(
    ("parameters", "written"),
    [
        (999, "999"),
        (1_000, "1K"),
        (3_377_088, "3.4M"),
        (494_032_768, "494M"),
        (1_235_814_400, "1.2B"),
        (7_000_000_000, "7B"),
        (671_000_000_000, "671B"),
        (1_040_000_000_000, "1T"),
    ],
)
def test_parameters_are_written_as_people_say_them(parameters: int, written: str) -> None:
    assert listings.parameter_size(parameters) == written


@pytest.mark.parametrize(("dtype", "level"), [("float32", "F32"), ("float16", "F16"), ("int4", "INT4")])
def test_the_kind_of_number_is_written_as_ollama_does(dtype: str, level: str) -> None:
    assert listings.show(Told({"dtype": dtype}, 0.0))["details"]["quantization_level"] == level


def cards(*names: str) -> Sequence[ModelCard]:
    return [ModelCard(name, "chat", 1) for name in names]


async def test_models_are_asked_once_in_a_while_and_only_those_that_can_answer() -> None:
    backend, now_s = Informants(), 1000.0
    known = facts.Facts(backend, lambda: now_s)
    told = await known.of([*cards("a", "b"), ModelCard("away", "chat", 0)])
    assert {name: one.info for name, one in told.items()} == {"a": {"name": "a"}, "b": {"name": "b"}}
    now_s += facts.FRESH_S - 1
    assert await known.of(cards("b")) == {"b": told["b"]}
    assert backend.asked == ["a", "b"]
    await known.of(cards("a"))
    assert backend.asked == ["a", "b", "a"]
    now_s += 2
    await known.of(cards("a"))
    assert backend.asked == ["a", "b", "a"]
    now_s += facts.FRESH_S
    await known.of(cards("a"))
    assert backend.asked == ["a", "b", "a", "a"]


async def test_one_that_is_broken_or_silent_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "PATIENCE_S", 0.05)
    told = await facts.Facts(Informants()).of(cards("a", "broken", "silent"))
    assert {name: one.info for name, one in told.items()} == {"a": {"name": "a"}, "broken": {}, "silent": {}}
