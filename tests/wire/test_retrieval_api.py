"""Embeddings and rerank in the forms of OpenAI, Ollama, Cohere and Jina, over a fake model: fields, errors, headers."""

import pytest

from callers import ask
from fake_encoder import FakeEncoder
from modelengine import wire
from modelengine.protocol import RERANK
from wire_encoders import serving_encoder


@pytest.fixture(scope="module")
def engine():
    with serving_encoder(FakeEncoder()) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def reranker():
    with serving_encoder(FakeEncoder(RERANK), name="ranks") as port:
        yield f"127.0.0.1:{port}"


def openai(engine, given, **more):
    return ask(engine, "/v1/embeddings", {"model": "fake", "input": given, **more})


def ollama(engine, **body):
    return ask(engine, "/api/embed", {"model": "fake", **body})


def rerank(reranker, *documents, **more):
    return ask(reranker, "/v1/rerank", {"model": "ranks", "query": "q", "documents": list(documents), **more})


def test_openai_s_answer_has_all_its_fields(engine):
    assert openai(engine, ["ab", "c"]).envelope == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [3.0, 97.0, 98.0, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0, 99.0, 99.0, 1.0]},
        ],
        "model": "fake",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert openai(engine, "ab").envelope["data"] == openai(engine, ["ab"]).envelope["data"]


def test_base64_is_little_endian_float32(engine):
    [only] = openai(engine, "ab", encoding_format="base64", dimensions=2).envelope["data"]
    assert only["embedding"] == "AABAQAAAwkI="
    assert wire.decode_vector(only["embedding"]) == [3.0, 97.0]


def test_what_has_no_effect_is_named_in_a_header(engine):
    reply = openai(engine, "ab", user="me", input_type="query", priority=None)
    assert reply.headers["x-modelengine-ignored"] == "input_type, user"
    assert "x-modelengine-ignored" not in openai(engine, "ab").headers
    reply = ollama(engine, input="ab", keep_alive="5m", options={"num_ctx": 4, "seed": 1})
    assert reply.headers["x-modelengine-ignored"] == "keep_alive, options.num_ctx, options.seed"


@pytest.mark.parametrize(("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")])
def test_a_time_to_stay_is_read_before_it_is_named_as_without_effect(engine, path, field):
    for given in (0, -1, 300, 0.5, "5m", "1h30m", "-1"):
        reply = ask(engine, path, {"model": "fake", field: "ab", "keep_alive": given})
        assert (reply.status, reply.headers["x-modelengine-ignored"]) == (200, "keep_alive"), given
    for given in ("soon", "", "5 m", True, []):
        reply = ask(engine, path, {"model": "fake", field: "ab", "keep_alive": given})
        assert (reply.status, reply.envelope["error"].partition(":")[0]) == (400, "keep_alive"), given


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_token_ids_are_refused_with_the_reason(engine, tokens, path):
    reply = ask(engine, path, {"model": "fake", "input": tokens})
    assert reply.status == 400
    said = reply.envelope["error"]
    message = said["message"] if path.startswith("/v1") else said
    assert message.startswith("input: token ids are not taken")
    assert "check_embedding_ctx_length=False" in message


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "input", "input: is required"),
        ({"input": ""}, "input", "input: must have at least 1 character(s)"),
        ({"input": []}, "input", "input: must have at least 1 item(s), got 0"),
        ({"input": ["a"] * 2049}, "input", "input: must have at most 2048 items, got 2049"),
        ({"input": ["a", ""]}, "input[1]", "input[1]: must have at least 1 character(s)"),
        ({"input": ["a", 5]}, "input[1]", "input[1]: must be a string, got 5"),
        ({"input": {"a": 1}}, "input", "input: must be a string or a list"),
        ({"input": "a", "dimensions": 0}, "dimensions", "dimensions: must be at least 1"),
        ({"input": "a", "dimensions": 5}, "dimensions", "dimensions: must be at most 4, the size of the vectors of"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "encoding_format: must be 'float' or 'base64'"),
        ({"input": "a" * 100}, "input", "input: has 101 tokens, the model takes 100"),
        ({"input": ["a", "a" * 100]}, "input[1]", "input[1]: has 101 tokens, the model takes 100"),
        ({"input": "a", "prompt_name": "q"}, "prompt_name", "prompt_name: the model has no prompts, got 'q'"),
    ],
)
def test_openai_s_errors_name_the_field_of_the_request(engine, body, param, said):
    reply = ask(engine, "/v1/embeddings", {"model": "fake", **body})
    assert reply.status == 400
    error = reply.envelope["error"]
    assert error["message"].startswith(said)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_a_text_that_is_cut_is_counted_in_a_header(engine):
    reply = openai(engine, ["a", "b" * 200], truncate=True)
    assert (reply.status, reply.headers["x-modelengine-truncated"]) == (200, "1")
    assert "x-modelengine-truncated" not in openai(engine, "a").headers


def test_ollama_s_answer_has_its_fields_and_vectors_of_length_1(engine):
    answer = ollama(engine, input=["ab", "ab"]).envelope
    assert answer["model"] == "fake"
    assert [sum(number**2 for number in vector) for vector in answer["embeddings"]] == pytest.approx([1.0, 1.0])
    assert (answer["prompt_eval_count"], answer["load_duration"]) == (6, 0)
    assert answer["total_duration"] > 0
    assert len(ollama(engine, input="ab").envelope["embeddings"]) == 1


def test_ollama_cuts_what_is_too_long_unless_it_is_told_not_to(engine):
    reply = ollama(engine, input="b" * 200)
    assert (reply.status, reply.headers["x-modelengine-truncated"]) == (200, "1")
    reply = ollama(engine, input=["b" * 200], truncate=False)
    assert (reply.status, reply.envelope) == (
        400,
        {"error": "input[0]: has 201 tokens, the model takes 100; truncate cuts what is too long"},
    )


def test_ollama_asked_for_nothing_says_whether_the_model_is_there(engine):
    for body in ({}, {"input": ""}, {"input": []}):
        assert ollama(engine, **body).envelope["embeddings"] == []
        reply = ask(engine, "/api/embed", {"model": "none", **body})
        assert (reply.status, reply.envelope["error"].startswith("model 'none' not found")) == (404, True)


def test_ollama_s_older_call_has_one_vector_as_the_model_gives_it(engine):
    reply = ask(engine, "/api/embeddings", {"model": "fake", "prompt": "ab"})
    assert reply.envelope == {"embedding": [3.0, 97.0, 98.0, 1.0]}
    assert ask(engine, "/api/embeddings", {"model": "fake"}).envelope == {"embedding": []}


def test_ollama_s_names_may_have_the_tag_latest(engine):
    reply = ask(engine, "/api/embed", {"model": "fake:latest", "input": "ab"})
    assert (reply.status, reply.envelope["model"]) == (200, "fake:latest")


def test_ranks_come_with_the_best_first(reranker):
    answer = rerank(reranker, "a", "abc", {"text": "ab"}, "abc").envelope
    assert [(one["index"], "document" in one) for one in answer["results"]] == [
        (1, False),
        (3, False),
        (2, False),
        (0, False),
    ]
    assert [one["relevance_score"] for one in answer["results"]] == [6.0, 6.0, 5.0, 4.0]
    assert (answer["model"], answer["usage"]) == ("ranks", {"prompt_tokens": 21, "total_tokens": 21})
    assert answer["id"].startswith("rerank-")


def test_ranks_are_also_where_version_2_of_cohere_s_client_asks(reranker):
    body = {"model": "ranks", "query": "a", "documents": ["abc", "ab"], "top_n": 1, "max_tokens_per_doc": 4096}
    first, second = (ask(reranker, f"/v{version}/rerank", body) for version in (1, 2))
    assert second.envelope["results"] == first.envelope["results"] == [{"index": 0, "relevance_score": 6.0}]
    assert second.headers["x-modelengine-ignored"] == "max_tokens_per_doc"
    refused = ask(reranker, "/v2/rerank", {**body, "documents": []})
    assert (refused.status, refused.envelope["error"]["param"]) == (400, "documents")


def test_ranks_may_be_few_and_come_with_their_documents(reranker):
    [best] = rerank(reranker, "a", {"text": "ab"}, top_n=1, return_documents=True).envelope["results"]
    assert best == {"index": 1, "relevance_score": 5.0, "document": {"text": "ab"}}
    reply = rerank(reranker, {"text": "ab", "title": "b"}, max_chunks_per_doc=1)
    assert reply.headers["x-modelengine-ignored"] == "documents.title, max_chunks_per_doc"
    assert len(rerank(reranker, "a", "b", top_n=9).envelope["results"]) == 2


def test_documents_that_are_too_long_are_cut_and_counted_unless_that_is_refused(reranker):
    reply = rerank(reranker, "a", "b" * 200)
    assert (reply.status, reply.headers["x-modelengine-truncated"]) == (200, "1")
    reply = rerank(reranker, "a", "b" * 200, truncate=False)
    assert reply.envelope["error"]["message"].startswith("documents[1]: has 203 tokens, the model takes 100 of query")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"documents": []}, "documents: must have at least 1 item(s), got 0"),
        ({"documents": ["a"], "top_n": 0}, "top_n: must be at least 1, got 0"),
        ({"documents": [{"title": "a"}]}, "documents[0].text: is required"),
        ({"documents": ["a", {"text": 5}]}, "documents[1].text: is required"),
        ({"documents": ["a", 5]}, "documents[1]: must be a string or an object, got 5"),
        ({"documents": ["a"], "query": ""}, "query: must have at least 1 character(s)"),
        ({"documents": ["a"], "model": "none"}, "no model 'none' (known: ranks)"),
    ],
)
def test_a_bad_field_of_a_rerank_is_named(reranker, body, said):
    reply = ask(reranker, "/v1/rerank", {"model": "ranks", "query": "q", **body})
    assert reply.status in (400, 404)
    assert reply.envelope["error"]["message"].startswith(said)


def test_a_model_that_speaks_another_protocol_says_so_in_the_api_s_own_words(engine, reranker):
    reply = ask(engine, "/v1/rerank", {"model": "fake", "query": "q", "documents": ["a"]})
    assert (reply.status, reply.envelope["error"]["message"]) == (400, "model: 'fake' speaks embed, not rerank")
    reply = ask(reranker, "/api/embed", {"model": "ranks", "input": "a"})
    assert (reply.status, reply.envelope) == (400, {"error": "model: 'ranks' speaks rerank, not embed"})
