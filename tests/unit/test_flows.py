"""What the clients send and when they try again, without a socket: outcomes are sent into the flows by hand."""

import pytest

from modelengine import addresses, errors, flows, wire
from modelengine.chat_request import chat_request
from modelengine.chats import ChatChunk
from modelengine.flows import Open, Pause, Send, Way
from modelengine.protocol import EngineMethod, ServerInfo, to_json
from modelengine.vectors import EmbedRequest

BASE = "http://names:9527"
ONE, TWO = ServerInfo("demo", "one", 1), ServerInfo("demo", "two", 2)
REQUEST = chat_request("demo", [{"role": "user", "content": "hi"}], None, None, True)


def listing(*services):
    return {"services": [{"name": s.name, "host": s.host, "port": s.port, "protocol": s.protocol} for s in services]}


class Play:
    """Runs a flow against a script: for each effect, by its URL's end, the outcomes in order."""

    def __init__(self, **outcomes):
        self.outcomes = {key: list(values) for key, values in outcomes.items()}
        self.sent = []

    def run(self, flow):
        try:
            effect = next(flow)
            while True:
                outcome = self._outcome(effect)
                effect = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as end:
            return end.value

    def _outcome(self, effect):
        key = "pause" if isinstance(effect, Pause) else effect.url.rsplit("/", 1)[1]
        self.sent.append(key if key != "inference" else effect.url.split("/")[2])
        return self.outcomes[key].pop(0) if self.outcomes.get(key) else None


@pytest.fixture(autouse=True)
def in_listed_order(monkeypatch):
    monkeypatch.setattr(flows.on_an_engine, "__defaults__", (lambda services: None, lambda host: host != "here"))


def test_the_first_replica_that_answers_is_used_and_nobody_else_is_asked():
    play = Play(get_services=[listing(ONE, TWO)], inference=["stream"])
    assert play.run(flows.open_chat(BASE, REQUEST, 60)) == "stream"
    assert play.sent == ["get_services", "one:1"]


def test_a_replica_that_nobody_answers_at_is_reported_and_the_next_one_is_tried():
    play = Play(get_services=[listing(ONE, TWO)], inference=[errors.ConnectionFailed("refused"), "stream"])
    assert play.run(flows.open_chat(BASE, REQUEST, 60)) == "stream"
    assert play.sent == ["get_services", "one:1", "report", "two:2"]


@pytest.mark.parametrize("refusal", [errors.Busy("full"), errors.Unavailable("stopping")])
def test_a_replica_that_is_full_or_stopping_is_not_reported_but_the_next_one_is_tried(refusal):
    play = Play(get_services=[listing(ONE, TWO)], inference=[refusal, "stream"])
    assert play.run(flows.open_chat(BASE, REQUEST, 60)) == "stream"
    assert play.sent == ["get_services", "one:1", "two:2"]


def test_when_no_replica_takes_the_request_the_last_one_s_reason_is_raised():
    play = Play(get_services=[listing(ONE, TWO)], inference=[errors.ConnectionFailed("refused"), errors.Busy("full")])
    with pytest.raises(errors.Busy):
        play.run(flows.open_chat(BASE, REQUEST, 60))


@pytest.mark.parametrize(
    "failure", [errors.InvalidRequest("bad"), errors.RequestFailed("broke"), errors.WaitTimeout("")]
)
def test_what_another_replica_would_say_too_is_not_tried_again(failure):
    play = Play(get_services=[listing(ONE, TWO)], inference=[failure, "stream"])
    with pytest.raises(type(failure)):
        play.run(flows.open_chat(BASE, REQUEST, 60))
    assert play.sent == ["get_services", "one:1"]


def test_a_report_that_can_not_be_delivered_does_not_stop_the_retry():
    play = Play(
        get_services=[listing(ONE, TWO)],
        inference=[errors.ConnectionFailed("refused"), "stream"],
        report=[errors.ConnectionFailed("the name server is away too")],
    )
    assert play.run(flows.open_chat(BASE, REQUEST, 60)) == "stream"


def test_a_client_that_can_reach_no_replica_is_relayed_and_remembers_it():
    away = errors.ConnectionFailed("no route")
    way = Way()
    play = Play(get_services=[listing(ONE, TWO)], inference=[away, away, "stream", "again"])
    assert play.run(flows.open_chat(BASE, REQUEST, 60, way)) == "stream"
    assert play.sent == ["get_services", "one:1", "report", "two:2", "report", "names:9527"]
    assert play.run(flows.open_chat(BASE, REQUEST, 60, way)) == "again"
    assert play.sent[6:] == ["names:9527"]


def test_of_many_replicas_that_can_not_be_reached_only_two_are_tried():
    away = errors.ConnectionFailed("no route")
    play = Play(get_services=[listing(*[ONE] * 9)], inference=[away, away, "stream"])
    assert play.run(flows.open_chat(BASE, REQUEST, 60)) == "stream"
    assert play.sent.count("one:1") == 2


@pytest.mark.parametrize("neither", [errors.ConnectionFailed("b"), errors.Unavailable("b"), errors.NotFound("b")])
def test_where_the_name_server_has_no_way_either_the_replica_s_failure_is_raised(neither):
    play = Play(get_services=[listing(ONE)], inference=[errors.ConnectionFailed("refused"), neither])
    with pytest.raises(errors.ConnectionFailed, match="refused"):
        play.run(flows.open_chat(BASE, REQUEST, 60))


def test_a_client_that_has_reached_a_replica_is_not_relayed_when_all_are_dead():
    way = Way()
    dead = errors.ConnectionFailed("refused")
    play = Play(get_services=[listing(ONE), listing(ONE)], inference=["stream", dead])
    play.run(flows.open_chat(BASE, REQUEST, 60, way))
    with pytest.raises(errors.ConnectionFailed):
        play.run(flows.open_chat(BASE, REQUEST, 60, way))
    assert (way.relayed, play.sent[-1]) == (False, "report")


@pytest.mark.parametrize(
    ("base", "hosts", "sent"),
    [
        ("http://127.0.0.1:9527", ["10.0.0.1", "10.0.0.2"], ["get_services", "127.0.0.1:9527"]),
        ("http://localhost:9527", ["10.0.0.1"], ["get_services", "localhost:9527"]),
        ("http://127.0.0.1:9527", ["10.0.0.1", "here"], ["get_services", "10.0.0.1:1"]),
        ("http://names:9527", ["10.0.0.1"], ["get_services", "10.0.0.1:1"]),
    ],
)
def test_a_name_server_here_that_lists_only_what_is_elsewhere_is_the_end_of_a_tunnel_and_relays(base, hosts, sent):
    play = Play(get_services=[listing(*(ServerInfo("demo", host, 1) for host in hosts))], inference=["stream"])
    assert play.run(flows.open_chat(base, REQUEST, 60)) == "stream"
    assert play.sent == sent


@pytest.mark.parametrize(
    ("base", "argument", "variable", "relayed"),
    [
        (BASE, None, None, False),
        (BASE, None, "1", True),
        (BASE, True, "0", True),
        (BASE, False, "1", False),
        ("https://names:443", None, None, True),
        ("https://names:443", None, "0", False),
    ],
)
def test_an_argument_wins_over_the_environment_and_that_over_the_address(
    base, argument, variable, relayed, monkeypatch
):
    monkeypatch.delenv(flows.RELAYED_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(flows.RELAYED_VARIABLE, variable)
    assert flows.way(base, argument).relayed is relayed


def test_addresses_of_this_machine_are_not_elsewhere_and_names_may_be_anybody_s():
    for host in ("127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "engine.local"):
        assert not addresses.is_elsewhere(host)
    for host in ("192.0.2.1", "2001:db8::1"):
        assert addresses.is_elsewhere(host)
    assert [addresses.is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "names")] == [
        *[True] * 3,
        *[False] * 2,
    ]


def test_an_unknown_name_offers_the_nearest_one():
    play = Play(get_services=[listing()] * 3, get_service_names=[{"service_names": ["qwen3", "demo"]}])
    with pytest.raises(errors.NotFound, match=r"no model 'qwen'; did you mean 'qwen3'\? \(known: demo, qwen3\)"):
        play.run(flows.engine_call(BASE, "chat", "qwen", EngineMethod.INFO))


def test_a_name_that_speaks_another_protocol_is_not_called_unknown():
    vectors = ServerInfo("bge", "one", 1, "embed")
    play = Play(get_services=[listing(), listing(vectors)])
    with pytest.raises(errors.InvalidRequest, match="model: 'bge' speaks embed, not chat"):
        play.run(flows.open_chat(BASE, chat_request("bge", [], None, None, True), 60))


def test_vectors_come_as_base64_and_are_numbers_for_who_asked():
    encoded = wire.encode_vector([0.5, -2.0])
    play = Play(
        get_services=[listing(ONE)],
        embed=[{"model": "demo", "vectors": [encoded], "dimensions": 2, "prompt_tokens": 3}],
    )
    answer = play.run(flows.embed(BASE, EmbedRequest("demo", ("hi",)), 60))
    assert (answer.vectors, answer.dimensions, answer.prompt_tokens) == (([0.5, -2.0],), 2, 3)


@pytest.mark.parametrize("text", ["!", "AAA=", "AAAAAAA=", 5])
def test_a_vector_that_is_none_is_a_broken_answer(text):
    with pytest.raises(errors.StreamBroken, match="not base64 of float32s"):
        wire.decode_vector(text)


def test_a_wait_goes_on_through_long_polls_that_ended_and_a_name_server_that_is_away():
    now = iter([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    play = Play(wait=[errors.WaitTimeout(""), errors.ConnectionFailed(""), errors.Unavailable(""), listing(ONE)])
    found = play.run(flows.wait_service_available(BASE, "chat", "demo", 60, clock=lambda: next(now)))
    assert found == [ONE]
    assert play.sent.count("pause") == 2


def test_a_wait_ends_on_time():
    clock = iter([0.0, 0.0, 30.0, 61.0])
    play = Play(wait=[errors.WaitTimeout(""), errors.WaitTimeout("")])
    with pytest.raises(errors.WaitTimeout, match="'demo' is not available after 60 s"):
        play.run(flows.wait_service_available(BASE, "chat", "demo", 60, clock=lambda: next(clock)))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:9527"),
        ("names", "http://names:9527"),
        ("names:80", "http://names:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("http://names:80/", "http://names:80"),
        ("https://names", "https://names:443"),
    ],
)
def test_a_host_may_be_written_in_several_ways(given, url, monkeypatch):
    monkeypatch.delenv(flows.HOST_VARIABLE, raising=False)
    assert flows.base_url(given) == url


def test_the_environment_names_the_host_where_no_argument_does(monkeypatch):
    monkeypatch.setenv(flows.HOST_VARIABLE, "elsewhere:7")
    assert flows.base_url(None) == "http://elsewhere:7"
    assert flows.base_url("here:8") == "http://here:8"


@pytest.mark.parametrize("given", ["names:port", "names:0", "names:99999", "ftp://names", "http://", ":9527"])
def test_a_host_that_is_none_is_refused_with_the_forms_that_are_allowed(given):
    with pytest.raises(errors.InvalidRequest, match="expected HOST, HOST:PORT"):
        flows.base_url(given)


def test_requests_name_a_field_that_the_protocol_does_not_have():
    with pytest.raises(errors.InvalidRequest, match=r"options\.temprature: unknown"):
        chat_request("m", [], None, {"temprature": 1}, False)
    with pytest.raises(errors.InvalidRequest, match=r"messages\[1\]\.text: unknown"):
        chat_request("m", [{"role": "user", "content": "hi"}, {"role": "user", "text": "hi"}], None, None, False)
    with pytest.raises(errors.InvalidRequest, match=r"messages\[0\].*role"):
        chat_request("m", [{"content": "hi"}], None, None, False)


def test_a_chat_stream_that_stops_before_its_final_part_is_broken_however_it_was_cut():
    line = b'{"state":"ok","msg":{"model":"m","prompt_length":1,"response_length":1,"finish_reason":null,'
    line += b'"content":"hi","done":false}}\n'
    parts = flows.ChatParts()
    assert [part for i in range(0, len(line), 7) for part in parts.feed(line[i : i + 7])] == [
        ChatChunk("m", 1, 1, None, "hi", False)
    ]
    with pytest.raises(errors.StreamBroken):
        parts.end()


def test_an_answer_of_somebody_else_s_server_is_told_apart():
    with pytest.raises(errors.ConnectionFailed, match=r"not as a ModelEngine server \(HTTP 502\)"):
        flows.read_reply(502, b"<html>Bad gateway</html>", "http://x")


def test_effects_carry_their_time_outs():
    effect = next(flows.chat(BASE, REQUEST, 60))
    assert effect == Send(f"{BASE}/nameserver/get_services", {"protocol": "chat", "name": "demo"}, flows.CALL_TIMEOUT_S)
    flow = flows.open_chat(BASE, REQUEST, 60)
    next(flow)
    effect = flow.send(listing(ONE))
    assert isinstance(effect, Open)
    assert effect.timeout_s == 60


def test_the_parts_before_an_error_line_are_told_though_all_came_at_once():
    part = ChatChunk("m", 1, 1, None, "hi", False)
    data = wire.encode_line(wire.ok(to_json(part))) + wire.encode_line(wire.error(errors.RequestFailed("broke")))
    parts = iter(flows.ChatParts().feed(data))
    assert next(parts) == part
    with pytest.raises(errors.RequestFailed, match="broke"):
        next(parts)


def test_who_waits_for_no_time_at_all_still_asks_once():
    play = Play(wait=[listing(ONE)])
    assert play.run(flows.wait_service_available(BASE, "chat", "demo", 0)) == [ONE]


def test_a_text_in_the_place_of_messages_is_told_what_is_expected():
    with pytest.raises(errors.InvalidRequest, match=r"messages\[0\]: must be an object, got 'h'"):
        chat_request("m", "hello", None, None, False)
