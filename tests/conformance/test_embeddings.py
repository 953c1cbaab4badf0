"""The `openai` and `ollama` packages and LangChain's, unchanged, have embeddings from a live front door and engines."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import openai
import pytest
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings
from openai.types import CreateEmbeddingResponse

import processes
import small_encoders
from callers import ask
from modelengine import EmbedClient, NameServerClient
from sentence_files import sentence_files

TEXTS = ["the cat sat on the mat", "a dog in the house", "the cat sat on the mat"]
SIZE = small_encoders.SIZE


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`127.0.0.1:PORT` of a front door that serves `vectors` and `ranks`."""
    folder, port = tmp_path_factory.mktemp("servers"), processes.free_port()
    small_encoders.bert(folder / "vectors")
    sentence_files(folder / "vectors")
    small_encoders.cross_encoder(folder / "ranks")
    with (
        processes.front_door(folder, port),
        processes.engine(folder, port, 1, model_source=folder / "vectors", protocol="embed") as vectors,
        processes.engine(folder, port, 2, model_source=folder / "ranks", protocol="rerank") as ranks,
        NameServerClient(f"127.0.0.1:{port}") as names,
    ):
        for name, engine in (("vectors", vectors), ("ranks", ranks)):
            assert names.wait(name, 120), engine.output
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(door: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://{door}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(door: str) -> Iterator[ollama.Client]:
    with ollama.Client(host=f"http://{door}") as client:
        yield client


@pytest.fixture(scope="module")
def expected(door: str) -> list[list[float]]:
    """What our own client has."""
    with EmbedClient(door) as own:
        return [list(vector) for vector in own.embed("vectors", TEXTS).vectors]


def test_openai_s_client_has_the_vectors_as_base64_and_as_numbers(
    client: openai.OpenAI, expected: list[list[float]]
) -> None:
    # By itself the client asks for base64, and decodes it.
    for answer in (
        client.embeddings.create(model="vectors", input=TEXTS),
        client.embeddings.create(model="vectors", input=TEXTS, encoding_format="float"),
    ):
        assert [data.embedding for data in answer.data] == [pytest.approx(vector, abs=1e-6) for vector in expected]
        assert [(data.index, data.object) for data in answer.data] == [(i, "embedding") for i in range(3)]
        assert (answer.object, answer.model) == ("list", "vectors")
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 8 + 7 + 8


def test_openai_s_own_types_accept_the_answer_as_it_is_sent(door: str) -> None:
    reply = ask(door, "/v1/embeddings", {"model": "vectors", "input": "a dog"})
    CreateEmbeddingResponse.model_validate_json(reply.body, strict=True, extra="forbid")


def test_openai_s_client_has_shorter_vectors_of_length_1(client: openai.OpenAI, expected: list[list[float]]) -> None:
    [data] = client.embeddings.create(model="vectors", input=TEXTS[0], dimensions=8, user="me").data
    length = sum(number**2 for number in expected[0][:8]) ** 0.5
    assert data.embedding == pytest.approx([number / length for number in expected[0][:8]], abs=1e-6)


async def test_openai_s_asyncio_client_has_them_too(door: str, expected: list[list[float]]) -> None:
    async with openai.AsyncOpenAI(base_url=f"http://{door}/v1", api_key="none", max_retries=0) as client:
        answer = await client.embeddings.create(model="vectors", input=TEXTS)
    assert answer.data[1].embedding == pytest.approx(expected[1], abs=1e-6)


def test_openai_s_client_raises_its_own_errors_that_name_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="vectors", input=["a", "cat " * 100])
    assert refused.value.param == "input[1]"
    assert "has 102 tokens, the model takes 64" in refused.value.message
    with pytest.raises(openai.BadRequestError, match="token ids are not taken"):
        client.embeddings.create(model="vectors", input=[1, 2, 3])
    with pytest.raises(openai.BadRequestError, match=f"dimensions: must be at most {SIZE}"):
        client.embeddings.create(model="vectors", input="a", dimensions=SIZE + 1)
    with pytest.raises(openai.NotFoundError, match="no model 'vector'; did you mean 'vectors'"):
        client.embeddings.create(model="vector", input="a")
    with pytest.raises(openai.BadRequestError, match="'ranks' speaks rerank, not embed"):
        client.embeddings.create(model="ranks", input="a")


def test_ollama_s_client_has_the_vectors(ollama_client: ollama.Client, expected: list[list[float]]) -> None:
    client = ollama_client
    answer = client.embed(model="vectors", input=TEXTS, keep_alive="5m", options={"num_ctx": 64})
    assert [list(vector) for vector in answer.embeddings] == [pytest.approx(vector, abs=1e-6) for vector in expected]
    assert (answer.model, answer.prompt_eval_count, answer.load_duration) == ("vectors", 23, 0)
    assert (answer.total_duration or 0) > 0
    assert len(client.embed(model="vectors", input="a dog", dimensions=8).embeddings[0]) == 8
    # Cut by itself, and refused where that is asked for.
    assert client.embed(model="vectors", input="cat " * 100).prompt_eval_count == 64
    with pytest.raises(ollama.ResponseError, match="has 102 tokens, the model takes 64") as refused:
        client.embed(model="vectors", input="cat " * 100, truncate=False)
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="model 'vector' not found") as unknown:
        client.embed(model="vector", input="a")
    assert unknown.value.status_code == 404


def test_ollama_s_older_call_has_one_vector(ollama_client: ollama.Client, expected: list[list[float]]) -> None:
    answer = ollama_client.embeddings(model="vectors:latest", prompt=TEXTS[0])
    assert list(answer.embedding) == pytest.approx(expected[0], abs=1e-6)


async def test_ollama_s_asyncio_client_has_them_too(door: str, expected: list[list[float]]) -> None:
    async with ollama.AsyncClient(host=f"http://{door}") as client:
        answer = await client.embed(model="vectors", input=TEXTS)
    assert list(answer.embeddings[2]) == pytest.approx(expected[2], abs=1e-6)


def test_langchain_has_the_vectors_by_either_api(door: str, expected: list[list[float]]) -> None:
    by_openai = OpenAIEmbeddings(
        model="vectors",
        base_url=f"http://{door}/v1",
        api_key="none",  # type: ignore[arg-type]
        # Else it sends the token ids of OpenAI's own tokenizer, which it would have to download first.
        check_embedding_ctx_length=False,
    )
    by_ollama = OllamaEmbeddings(model="vectors", base_url=f"http://{door}")
    for store in (by_openai, by_ollama):
        assert store.embed_documents(TEXTS) == [pytest.approx(vector, abs=1e-6) for vector in expected]
        assert store.embed_query(TEXTS[1]) == pytest.approx(expected[1], abs=1e-6)
    # The integrations have no way of their own to close their connections.
    by_openai.client._client.close()
    by_ollama._client.close()


def test_documents_are_ranked_by_score(door: str) -> None:
    body = {"model": "ranks", "query": "where is the cat?", "documents": TEXTS, "top_n": 2, "return_documents": True}
    answer = ask(door, "/v1/rerank", body).envelope
    first, second = answer["results"]
    assert 0 < second["relevance_score"] <= first["relevance_score"] < 1
    assert all(result["document"]["text"] == TEXTS[result["index"]] for result in answer["results"])


def test_a_model_that_makes_vectors_is_listed_and_is_no_chat_model(
    client: openai.OpenAI, ollama_client: ollama.Client
) -> None:
    assert {model.id for model in client.models.list()} == {"vectors", "ranks"}
    assert ollama_client.show("vectors").capabilities == ["embedding"]
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError, match="model: 'vectors' speaks embed, not chat"):
        client.chat.completions.create(model="vectors", messages=messages)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="model: 'vectors' speaks embed, not chat"):
        client.chat.completions.create(model="vectors", messages=messages, stream=True)  # type: ignore[call-overload]
    with pytest.raises(ollama.ResponseError, match="model: 'vectors' speaks embed, not chat") as refused:
        ollama_client.chat("vectors", messages)
    assert refused.value.status_code == 400
