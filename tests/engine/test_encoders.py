"""Vectors and scores of our engine beside what transformers computes for each text alone, for small models."""

import asyncio
import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import small_encoders
from modelengine import errors, wire
from modelengine.errors import ModelLoadError
from modelengine.protocol import EMBED, RERANK
from modelengine.vectors import EmbedOptions, EmbedRequest, RerankOptions, RerankRequest
from modelengine_runtime import checkpoint, encoder_loader
from modelengine_runtime.encoding import EncodingEngine, EncodingLimits
from modelengine_runtime.lifecycle import warm_up
from sentence_files import sentence_files, write

TEXTS = (
    "the cat sat on the mat",
    "a dog",
    "what is money?",
    "where is the river bank, in the green sea?",
    "a",
    "the sea",
)
QUERY = "where is the cat?"
# Filled rows and rows alone are multiplied in another order. What was measured on a CPU: up to 4e-7.
CLOSE = 2e-6
LIMITS = EncodingLimits(max_running=4, max_waiting=4, step_tokens=8192)
MODELS = {
    "bert": small_encoders.bert,
    "xlm_roberta": small_encoders.xlm_roberta,
    "modern_bert": small_encoders.modern_bert,
    "qwen3": small_encoders.qwen3,
}


@contextmanager
def engine(folder, protocol=EMBED, limits=LIMITS, **how):
    running = EncodingEngine(encoder_loader.load(folder, protocol, device="cpu", **how), limits)
    try:
        yield running
    finally:
        running.stop()


def vectors(folder, texts=TEXTS, **options):
    with engine(folder) as running:
        answer = asyncio.run(running.embed(EmbedRequest("m", tuple(texts), EmbedOptions(**options))))
    return torch.tensor(answer["vectors"])


def scores(folder, documents=TEXTS, **options):
    with engine(folder, RERANK) as running:
        answer = asyncio.run(running.rerank(RerankRequest("m", QUERY, tuple(documents), RerankOptions(**options))))
    return torch.tensor(answer["scores"])


def hidden(folder, text):
    """What transformers itself makes of the text's tokens: (length, size)."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]


def unit(vector):
    return vector / vector.norm()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("mode", "pooled"),
    [
        ("cls", lambda tokens: tokens[0]),
        ("max", lambda tokens: tokens.max(0).values),
        ("mean", lambda tokens: tokens.mean(0)),
        ("mean_sqrt_len_tokens", lambda tokens: tokens.sum(0) / len(tokens) ** 0.5),
        (
            "weightedmean",
            lambda tokens: (
                sum((i + 1) * token for i, token in enumerate(tokens)) / (len(tokens) * (len(tokens) + 1) / 2)
            ),
        ),
        ("lasttoken", lambda tokens: tokens[-1]),
    ],
)
def test_a_batch_of_texts_has_the_vectors_that_each_has_alone(tmp_path, caplog, kind, mode, pooled):
    MODELS[kind](tmp_path)
    sentence_files(tmp_path, pooling={"pooling_mode": mode})
    expected = torch.stack([unit(pooled(hidden(tmp_path, text))) for text in TEXTS])
    torch.testing.assert_close(vectors(tmp_path), expected, atol=CLOSE, rtol=0)
    assert "rows of one length" not in caplog.text


def test_what_is_around_a_text_makes_no_other_vector(tmp_path):
    """As with sentence-transformers, whose indexes are asked with vectors of ours."""
    small_encoders.qwen3(tmp_path)
    sentence_files(tmp_path, pooling={"pooling_mode": "lasttoken"})
    plain, padded = vectors(tmp_path, ["the sea", " the sea\n"])
    torch.testing.assert_close(padded, plain, atol=CLOSE, rtol=0)


def test_several_ways_to_pool_stand_side_by_side_and_layers_come_after_them(tmp_path):
    small_encoders.bert(tmp_path)
    torch.manual_seed(2)
    weight, bias = torch.randn(8, 64), torch.randn(8)
    sentence_files(
        tmp_path,
        pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        dense=[{"in_features": 64, "out_features": 8, "bias": True, "activation_function": "torch.nn.Tanh"}],
        normalize=False,
    )
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "2_Dense" / "model.safetensors")
    tokens = hidden(tmp_path, TEXTS[0])
    expected = torch.tanh(weight @ torch.cat([tokens[0], tokens.mean(0)]) + bias)
    torch.testing.assert_close(vectors(tmp_path)[0], expected, atol=CLOSE, rtol=1e-5)


def test_a_model_without_sentence_files_gives_the_mean_as_it_is(tmp_path):
    small_encoders.bert(tmp_path)
    torch.testing.assert_close(vectors(tmp_path)[0], hidden(tmp_path, TEXTS[0]).mean(0), atol=CLOSE, rtol=1e-5)


@pytest.mark.parametrize(("kind", "whole"), [("bert", AutoModelForMaskedLM), ("qwen3", AutoModelForCausalLM)])
def test_a_checkpoint_with_weights_for_another_use_too_is_read_without_those(tmp_path, capfd, kind, whole):
    MODELS[kind](tmp_path)
    whole.from_config(AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    sentence_files(tmp_path)
    checkpoint.require(tmp_path, EMBED)
    expected = unit(hidden(tmp_path, TEXTS[0]).mean(0))
    capfd.readouterr()
    torch.testing.assert_close(vectors(tmp_path)[0], expected, atol=CLOSE, rtol=0)
    assert "UNEXPECTED" not in capfd.readouterr().err


def test_prompts_come_before_the_text_and_count_only_where_the_model_says_so(tmp_path):
    small_encoders.bert(tmp_path)
    prompts = {"prompts": {"query": "where is ", "plain": ""}, "default_prompt_name": "query"}
    for counts in (True, False):
        sentence_files(
            tmp_path,
            pooling={"pooling_mode": "mean", "include_prompt": counts},
            config_sentence_transformers=prompts,
        )
        tokens = hidden(tmp_path, "where is the cat")
        # [CLS] and the two words of the prompt.
        expected = unit(tokens.mean(0) if counts else tokens[3:].mean(0))
        for options in ({}, {"prompt_name": "query"}):
            torch.testing.assert_close(vectors(tmp_path, ["the cat"], **options)[0], expected, atol=CLOSE, rtol=0)
    plain = unit(hidden(tmp_path, "the cat").mean(0))
    torch.testing.assert_close(vectors(tmp_path, ["the cat"], prompt_name="plain")[0], plain, atol=CLOSE, rtol=0)
    with pytest.raises(errors.InvalidRequest, match=r"options\.prompt_name: the model has plain, query, got 'x'"):
        vectors(tmp_path, prompt_name="x")


def test_fewer_dimensions_are_the_first_ones_and_have_the_length_1_again(tmp_path):
    small_encoders.bert(tmp_path)
    sentence_files(tmp_path)
    whole = vectors(tmp_path)
    cut = vectors(tmp_path, dimensions=5)
    torch.testing.assert_close(cut, torch.stack([unit(vector[:5]) for vector in whole]), atol=CLOSE, rtol=0)
    raw = vectors(tmp_path, dimensions=5, normalize=False)
    torch.testing.assert_close(raw[0], hidden(tmp_path, TEXTS[0]).mean(0)[:5], atol=CLOSE, rtol=1e-5)
    with pytest.raises(errors.InvalidRequest, match=r"options\.dimensions: must be at most 32, the size .* got 33"):
        vectors(tmp_path, dimensions=33)


def test_a_text_that_is_too_long_is_refused_with_both_numbers_and_cut_where_that_is_asked_for(tmp_path):
    small_encoders.bert(tmp_path)
    sentence_files(tmp_path, sentence_bert_config={"max_seq_length": 8})
    texts = ["a", "the cat sat on the mat in the house"]
    with pytest.raises(errors.InvalidRequest, match=r"inputs\[1\]: has 11 tokens, the model takes 8; truncate cuts"):
        vectors(tmp_path, texts)
    with engine(tmp_path) as running:
        answer = asyncio.run(running.embed(EmbedRequest("m", tuple(texts), EmbedOptions(truncate=True))))
    assert (answer["truncated"], answer["prompt_tokens"]) == (1, 3 + 8)
    # Cut in the text, and not in what ends it.
    expected = unit(hidden(tmp_path, "the cat sat on the mat").mean(0))
    torch.testing.assert_close(torch.tensor(answer["vectors"][1]), expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(("kind", "limit"), [("bert", 64), ("xlm_roberta", 62), ("modern_bert", 128), ("qwen3", 64)])
def test_the_limit_is_what_the_model_has_positions_for_and_that_many_tokens_work(tmp_path, kind, limit):
    MODELS[kind](tmp_path)
    sentence_files(tmp_path)
    with engine(tmp_path) as running:
        assert running.model.context_length == limit
        text = "a " * 200
        answer = asyncio.run(running.embed(EmbedRequest("m", (text,), EmbedOptions(truncate=True))))
        assert answer["prompt_tokens"] == limit
    with engine(tmp_path, max_context=10) as running:
        assert running.model.context_length == 10


def test_base64_is_the_float32s_of_the_same_numbers(tmp_path):
    small_encoders.bert(tmp_path)
    with engine(tmp_path) as running:
        numbers = asyncio.run(running.embed(EmbedRequest("m", TEXTS)))["vectors"]
        encoded = asyncio.run(running.embed(EmbedRequest("m", TEXTS, encoding="base64")))["vectors"]
    assert [wire.decode_vector(vector) for vector in encoded] == numbers


def test_many_texts_of_many_lengths_keep_their_order_in_many_steps(tmp_path):
    small_encoders.bert(tmp_path)
    sentence_files(tmp_path)
    texts = [" ".join(["cat", "dog", "sea", "tree"][i % 4] for _ in range(1 + i % 17)) for i in range(300)]
    with engine(tmp_path, limits=EncodingLimits(4, 4, 200)) as running:
        found = asyncio.run(running.embed(EmbedRequest("m", tuple(texts))))["vectors"]
        assert running.loop.load.rows >= 300
    alone = {text: unit(hidden(tmp_path, text).mean(0)) for text in set(texts)}
    expected = torch.stack([alone[text] for text in texts])
    torch.testing.assert_close(torch.tensor(found), expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("kind", [small_encoders.cross_encoder, lambda at: small_encoders.xlm_roberta(at, scores=True)])
def test_documents_are_scored_as_transformers_scores_each_with_the_query(tmp_path, kind):
    kind(tmp_path)
    documents = [text[:40] for text in TEXTS]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        logits = [model(**tokenizer(QUERY, text, return_tensors="pt")).logits[0, 0] for text in documents]
    expected = torch.stack(logits)
    assert expected.std() > 0.01
    torch.testing.assert_close(scores(tmp_path, documents), expected.sigmoid(), atol=CLOSE, rtol=0)
    torch.testing.assert_close(scores(tmp_path, documents, normalize=False), expected, atol=CLOSE, rtol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_a_model_that_says_so_gives_its_scores_as_they_are(tmp_path, more):
    small_encoders.cross_encoder(tmp_path)
    raw, sigmoid = scores(tmp_path, normalize=False), scores(tmp_path)
    configured(tmp_path, **more)
    torch.testing.assert_close(scores(tmp_path), raw)
    torch.testing.assert_close(scores(tmp_path, normalize=True), sigmoid)


def test_a_document_that_is_too_long_with_the_query_is_refused_or_cut_and_the_query_never(tmp_path):
    small_encoders.cross_encoder(tmp_path)
    long = "sea " * 100
    with pytest.raises(errors.InvalidRequest, match=r"documents\[1\]: has 108 tokens, the model takes 64 of query and"):
        scores(tmp_path, ["a", long])
    # [CLS], five tokens of the query, [SEP], then the document and another [SEP].
    cut = scores(tmp_path, [long], truncate=True)
    torch.testing.assert_close(cut, scores(tmp_path, ["sea " * 56]), atol=CLOSE, rtol=0)
    with engine(tmp_path, RERANK) as running:
        wanted = RerankRequest("m", "cat " * 40, ("sea " * 50, "sea " * 21), RerankOptions(truncate=True))
        found = asyncio.run(running.rerank(wanted))
    assert (found["prompt_tokens"], found["truncated"]) == (2 * 64, 1)
    assert found["scores"][0] == pytest.approx(found["scores"][1], abs=CLOSE)
    with engine(tmp_path, RERANK) as running, pytest.raises(errors.InvalidRequest, match="query: has 102 tokens"):
        asyncio.run(running.rerank(RerankRequest("m", long, ("a",), RerankOptions(truncate=True))))


def test_a_model_that_minds_what_fills_a_row_has_rows_of_one_length(tmp_path, caplog, monkeypatch):
    from transformers import BertModel

    small_encoders.bert(tmp_path)
    sentence_files(tmp_path)
    expected = torch.stack([unit(hidden(tmp_path, text).mean(0)) for text in TEXTS])
    forward = BertModel.forward
    monkeypatch.setattr(
        BertModel, "forward", lambda self, input_ids, attention_mask, **more: forward(self, input_ids=input_ids)
    )
    torch.testing.assert_close(vectors(tmp_path), expected, atol=CLOSE, rtol=0)
    assert "minds what fills up a row" in caplog.text


def test_more_requests_than_fit_are_told_to_come_again(tmp_path):
    small_encoders.bert(tmp_path)

    async def ask(running):
        wanted = [running.embed(EmbedRequest("m", TEXTS)) for _ in range(5)]
        return await asyncio.gather(*wanted, return_exceptions=True)

    with engine(tmp_path, limits=EncodingLimits(1, 2, 8192)) as running:
        answers = asyncio.run(ask(running))
        refused = [answer for answer in answers if isinstance(answer, errors.Busy)]
        assert len(refused) == 2
        assert refused[0].retry_after_s
        assert len([answer for answer in answers if isinstance(answer, dict)]) == 3
        assert isinstance(asyncio.run(ask(running))[0], dict)


def test_both_kinds_warm_up(tmp_path):
    small_encoders.bert(tmp_path / "a")
    small_encoders.cross_encoder(tmp_path / "b")
    for folder, protocol in (("a", EMBED), ("b", RERANK)):
        with engine(tmp_path / folder, protocol) as running:
            asyncio.run(warm_up(running, "m"))
            assert running.loop.load.rows == 1


def test_a_reranker_with_several_labels_is_none(tmp_path):
    small_encoders.cross_encoder(tmp_path, labels=3)
    with pytest.raises(ModelLoadError, match="it tells 3 labels apart; a reranker has one"):
        encoder_loader.load(tmp_path, RERANK, device="cpu")


def test_an_activation_that_is_not_known_ends_the_load(tmp_path):
    small_encoders.cross_encoder(tmp_path)
    configured(tmp_path, sentence_transformers={"activation_fn": "my.Softplus"})
    with pytest.raises(ModelLoadError, match="can't do its activation Softplus"):
        encoder_loader.load(tmp_path, RERANK, device="cpu")


def test_a_weight_that_is_missing_ends_the_load_and_is_named(tmp_path):
    small_encoders.bert(tmp_path)
    write(tmp_path / "config.json", json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 3})
    with pytest.raises(ModelLoadError, match=r"the weights lack encoder\.layer\.2"):
        encoder_loader.load(tmp_path, EMBED, device="cpu")


def test_a_layer_whose_weights_do_not_fit_ends_the_load(tmp_path):
    small_encoders.bert(tmp_path)
    sentence_files(tmp_path, dense=[{"in_features": 32, "out_features": 8}])
    save_file({"linear.weight": torch.zeros(4, 32)}, tmp_path / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"2_Dense: its weights are linear\.weight, not those of its config"):
        encoder_loader.load(tmp_path, EMBED, device="cpu")


def test_narrow_weights_are_refused_and_half_numbers_are_widened_on_a_cpu(tmp_path):
    small_encoders.bert(tmp_path).half().save_pretrained(tmp_path)
    assert encoder_loader.load(tmp_path, EMBED, device="cpu").dtype == "float32"
    assert encoder_loader.load(tmp_path, EMBED, device="cpu", dtype="bfloat16").dtype == "bfloat16"
    with pytest.raises(ModelLoadError, match="quantization 'int8': only chat models have it"):
        encoder_loader.load(tmp_path, EMBED, device="cpu", quantization="int8")


def configured(folder, **more):
    write(folder / "config.json", json.loads((folder / "config.json").read_text()) | more)
