"""The acceptance list of the system that this one succeeds, in its one-machine form, on the bundled demo model.

Numbers in brackets are the items of that list.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import processes
from callers import ask
from modelengine import ChatClient, NameServerClient, ServerInfo, errors
from modelengine_runtime import source

CHINESE = [{"role": "user", "content": "给我介绍一下大型语言模型。"}]
COUNT = [{"role": "user", "content": "count from 1 to 30"}]
SEED_FIELDS = ("model", "prompt_length", "response_length", "finish_reason", "content", "done")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A front door, and one engine that was waited for before it existed; gives the front door's address."""
    folder, port = tmp_path_factory.mktemp("system"), processes.free_port()
    with processes.front_door(folder, port), ChatClient(f"127.0.0.1:{port}") as client:
        waited: list = []
        waiting = threading.Thread(target=lambda: waited.append(client.wait_service_available("demo", timeout=120)))
        waiting.start()
        time.sleep(0.5)
        assert not waited
        with processes.engine(folder, port) as engine:
            while waiting.is_alive():
                waiting.join(0.1)
                assert engine.process.poll() is None, engine.output
            yield f"127.0.0.1:{port}", waited[0]


def address(service):
    return f"{service.host}:{service.port}"


@pytest.fixture
def client(system):
    with ChatClient(system[0]) as client:
        yield client


@pytest.fixture
def names(system):
    with NameServerClient(system[0]) as names:
        yield names


def test_3_and_5_a_wait_that_began_before_the_engine_existed_returns_its_one_entry_once_it_is_loaded(system, client):
    _, waited = system
    assert len(waited) == 1
    assert client.info("demo")["load"]["finished"] >= 1, "listed before it had answered once"


def test_4_an_entry_has_name_host_port_and_protocol_and_the_port_is_the_one_it_listens_on(system, client):
    entry = client.get_services("demo")[0]
    assert entry == ServerInfo(name="demo", host="127.0.0.1", port=system[1][0].port, protocol="chat")
    assert ask(address(entry), "/ready", method="GET").msg["name"] == "demo"


def test_4_a_name_with_slashes_and_dots_is_kept_unchanged(names, system):
    entry = ServerInfo("Qwen/Qwen1.5-0.5B-Chat", "127.0.0.1", system[1][0].port)
    names.register(entry)
    assert names.get_services("chat", "Qwen/Qwen1.5-0.5B-Chat") == [entry]
    assert names.deregister(entry)


def test_5_waiting_for_a_name_that_never_comes_raises_on_time(client):
    started = time.monotonic()
    with pytest.raises(errors.WaitTimeout):
        client.wait_service_available("nobody", timeout=0.5)
    assert 0.4 < time.monotonic() - started < 2


def test_6_an_unknown_name_has_no_services_and_names_are_listed_by_protocol(client, names):
    assert client.get_services("nobody") is None
    assert "demo" in names.get_service_names("chat")
    assert "demo" not in names.get_service_names("retriever")


def test_7_methods_are_sorted_and_an_unknown_one_is_named(client, system):
    methods = client.support_methods("demo")
    assert methods == sorted(methods)
    assert {"inference", "support_methods"} <= set(methods)
    reply = ask(address(system[1][0]), "/engine/sing", {})
    assert (reply.status, reply.envelope["state"]) == (404, "error")
    assert "sing" in reply.msg


def test_8_a_whole_answer_has_the_seed_s_fields_and_text_without_special_tokens(client):
    answer = client.chat("demo", CHINESE)
    assert (answer.model, answer.finish_reason) == ("demo", "stop")
    assert answer.content
    assert "<|" not in answer.content
    assert answer.response_length == len(answer.token_ids) > 0


def test_9_prompt_length_counts_the_rendered_template_and_is_the_same_everywhere(client):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.DEMO_FOLDER)
    expected = len(tokenizer.apply_chat_template(CHINESE, add_generation_prompt=True, return_dict=False))
    assert client.chat("demo", CHINESE).prompt_length == expected
    assert {part.prompt_length for part in client.chat("demo", CHINESE, stream=True)} == {expected}


def test_10_and_11_parts_grow_and_exactly_one_final_part_ends_the_stream(client):
    *parts, last = client.chat("demo", CHINESE, stream=True)
    assert len(parts) > 10
    assert all(part.content and not part.done and part.finish_reason is None for part in parts)
    lengths = [part.response_length for part in parts]
    assert lengths == sorted(lengths)
    assert (last.content, last.done, last.finish_reason) == (None, True, "stop")
    assert last.response_length == lengths[-1]


def test_10_the_wire_carries_the_seed_s_six_fields_in_every_part(system):
    body = {"model": "demo", "messages": CHINESE}
    lines = ask(address(system[1][0]), "/engine/inference", body).lines
    assert all(line["state"] == "ok" and set(SEED_FIELDS) <= set(line["msg"]) for line in lines)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "seeded"])
def test_12_a_stream_joined_is_the_whole_answer_and_no_character_is_broken(client, options):
    messages = [{"role": "user", "content": "repeat: 你好😀 world"}]
    whole = client.chat("demo", messages, options=options)
    parts = list(client.chat("demo", messages, stream=True, options=options))
    assert "".join(part.content or "" for part in parts) == whole.content
    assert "\ufffd" not in whole.content


def test_13_the_first_chunk_comes_long_before_the_last(client):
    started = time.monotonic()
    stream = client.chat("demo", COUNT, stream=True)
    next(stream)
    first_after_s = time.monotonic() - started
    list(stream)
    assert first_after_s < (time.monotonic() - started) / 2


@pytest.mark.parametrize("option", ["max_new_tokens", "max_tokens"])
def test_14_the_answer_is_cut_at_its_limit_and_says_so(client, option):
    answer = client.chat("demo", CHINESE, options={option: 7})
    assert (answer.response_length, answer.finish_reason) == (7, "length")
    *_, last = client.chat("demo", CHINESE, stream=True, options={option: 7})
    assert (last.response_length, last.finish_reason) == (7, "length")


def test_15_greedy_twice_is_the_same_text_and_a_seed_repeats_a_sampled_one(client):
    assert client.chat("demo", CHINESE).content == client.chat("demo", CHINESE).content
    hot = {"temperature": 2.0, "max_new_tokens": 40}
    seeded = [client.chat("demo", CHINESE, options={**hot, "seed": seed}).content for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    unseeded = [client.chat("demo", CHINESE, options=hot) for _ in range(2)]
    assert unseeded[0].content != unseeded[1].content
    again = client.chat("demo", CHINESE, options={**hot, "seed": unseeded[0].seed})
    assert again.content == unseeded[0].content, "the seed that was drawn is told, and repeats the answer"


def test_15_options_change_the_answer_as_documented(client):
    hot = {"temperature": 5.0, "seed": 1, "max_new_tokens": 40}
    greedy = client.chat("demo", CHINESE, options={"max_new_tokens": 40}).content
    assert client.chat("demo", CHINESE, options=hot).content != greedy
    for narrow in ({"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1.0}):
        assert client.chat("demo", CHINESE, options={**hot, **narrow}).content == greedy
    stopped = client.chat("demo", CHINESE, options={"stop": greedy[10:13]})
    assert (stopped.content, stopped.finish_reason) == (greedy[: greedy.index(greedy[10:13])], "stop")
    penalized = client.chat("demo", COUNT, options={"repetition_penalty": 10.0, "max_new_tokens": 40}).content
    assert penalized != client.chat("demo", COUNT, options={"max_new_tokens": 40}).content


def test_16_sixteen_chats_run_together_interleave_and_questions_are_answered_meanwhile(system, client):
    alone = client.chat("demo", COUNT).content
    times: dict[int, list[float]] = {i: [] for i in range(16)}

    def chat(i):
        with ChatClient(system[0]) as own:
            text = ""
            for part in own.chat("demo", COUNT, stream=True):
                times[i].append(time.monotonic())
                text += part.content or ""
            return text

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(chat, i) for i in range(16)]
        while not all(times.values()):
            time.sleep(0.01)
        slowest = 0.0
        for ask in (client.info, client.support_methods):
            started = time.monotonic()
            ask("demo")
            slowest = max(slowest, time.monotonic() - started)
        assert {answer.result() for answer in answers} == {alone}
    assert slowest < 1
    assert max(stamps[0] for stamps in times.values()) < min(stamps[-1] for stamps in times.values())


def test_17_leaving_in_the_middle_frees_the_place_within_a_second(client):
    before = client.info("demo")["load"]["aborted"]
    with client.chat("demo", COUNT, stream=True) as stream:
        next(stream)
    deadline = time.monotonic() + 1
    while (load := client.info("demo")["load"])["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (load["running"], load["aborted"]) == (0, before + 1)


def test_24_an_unknown_model_is_a_404_with_the_nearest_name_direct_and_through_the_front_door(system, client):
    with pytest.raises(errors.NotFound, match="did you mean 'demo'"):
        client.chat("dema", CHINESE)
    for server in (system[0], address(system[1][0])):
        reply = ask(server, "/engine/inference", {"model": "dema", "messages": CHINESE})
        assert (reply.status, reply.envelope["state"], reply.envelope["code"]) == (404, "error", "not_found")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        ({"options": {"temperature": 9}}, "options.temperature"),
        ({"options": {"temprature": 1}}, "options.temprature"),
        ({"options": {"max_new_tokens": 0}}, "options.max_new_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "1024"),
    ],
)
def test_24_a_bad_field_is_a_400_that_names_it(system, change, names):
    body = {"model": "demo", "messages": CHINESE, **change}
    reply = ask(address(system[1][0]), "/engine/inference", body)
    assert (reply.status, reply.envelope["code"]) == (400, "invalid_request")
    assert names in reply.msg


def test_the_front_door_relays_a_chat_unchanged(system, client):
    lines = ask(system[0], "/engine/inference", {"model": "demo", "messages": CHINESE}).lines
    text = "".join(line["msg"]["content"] or "" for line in lines)
    assert text == client.chat("demo", CHINESE).content
