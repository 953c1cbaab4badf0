"""The benchmarks' arithmetic, tables and framing; nothing here measures anything."""

from __future__ import annotations

import math

import pytest
from bench import generate, host, http_layer, lookups, options, report, shapes, stats, throughput, traffic
from bench.report import Table
from bench.traffic import Answer, Load, Measured


def measured(**fields: object) -> Measured:
    usual: dict[str, object] = {
        "requests": 10,
        "seconds": 2.0,
        "tokens": 90,
        "first_p50": 0.001,
        "whole_p50": 0.002,
        "whole_p99": 0.004,
        "own_cpu": 0.1,
        "cpu": {},
    }
    return Measured(**{**usual, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3, 3, 3)), ([9.0, 1.0, 5.0], (1, 5, 9)), ([4.0, 1.0, 3.0, 2.0], (1, 2.5, 4))],
)
def test_spread(values: list[float], expected: tuple[float, ...]) -> None:
    found = stats.spread(values)
    assert (found.minimum, found.median, found.maximum) == expected


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(i) for i in range(100, 0, -1)]
    assert [stats.percentile(values, p) for p in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert stats.percentile([7.0], 99) == 7


def test_cases_take_turns() -> None:
    order: list[str] = []

    def case(name: str) -> dict[str, float]:
        order.append(name)
        return {"n": float(len(order))}

    rounds = stats.take_turns({"a": lambda: case("a"), "b": lambda: case("b")}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert [sample["n"] for sample in rounds["b"]] == [2, 4, 6]


def test_nothing_per_none_is_no_number() -> None:
    assert stats.per(6, 3) == 2
    assert math.isnan(stats.per(6, 0))


def test_a_table_lines_up_and_leaves_what_was_not_measured_open() -> None:
    rounds = {
        "short": [{"tok/s": 1234.5, "p50 ms": 0.5}, {"tok/s": 900.0, "p50 ms": 0.25}],
        "a longer case": [{"tok/s": 20.0}, {"tok/s": 10.0}],
    }
    lines = report.render(Table("title", ["a note"], rounds)).splitlines()
    assert lines[:3] == ["title", "  a note", ""]
    assert [line.split() for line in lines[4:]] == [
        ["short", "900.0", "/", "1067.2", "/", "1234.5", "0.250", "/", "0.375", "/", "0.500"],
        ["a", "longer", "case", "10.0", "/", "15.0", "/", "20.0", "-"],
    ]
    assert len({len(line) for line in lines[3:]}) == 1


def test_json_keeps_every_round() -> None:
    data = report.to_json(Table("t", [], {"case": [{"x s": 3.0}, {"x s": 1.0}, {"x s": 2.0}]}))
    assert data["cases"]["case"]["x s"] == {"rounds": [3.0, 1.0, 2.0], "minimum": 1.0, "median": 2.0, "maximum": 3.0}


@pytest.mark.parametrize(("load", "warns"), [((0.5, 9, 9), False), ((0.51, 0, 0), True)])
def test_a_busy_machine_is_warned_of(load: tuple[float, float, float], warns: bool) -> None:
    lines = host.describe(host.Host(2, "a CPU", load, {"python": "3.11"}))
    assert lines[0] == "machine   2 cores, a CPU"
    assert any("WARNING" in line for line in lines) is warns


def test_the_cpu_names_itself() -> None:
    assert host.cpu_model(["processor\t: 0", "model name\t: Some: CPU"]) == "Some: CPU"
    assert host.cpu_model(["processor\t: 0"]) is None


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b'5\r\n{"a"\n\r\n1A\r\n{"completion_tokens":7,} \n\r\n0\r\n\r\n'
STATED = b'HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n{"b"'


@pytest.mark.parametrize(("data", "status", "tokens"), [(CHUNKED, 200, 7), (STATED, 404, 0)])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_is_followed_however_it_is_cut(data: bytes, status: int, tokens: int, size: int) -> None:
    answer = Answer()
    for start in range(0, len(data), size):
        assert not answer.is_whole
        answer.feed(data[start : start + size])
        assert answer.has_body == (len(data[: start + size].partition(b"\r\n\r\n")[2]) > 0)
    assert (answer.is_whole, answer.status, answer.tokens) == (True, status, tokens)


def test_an_answer_without_a_body_is_whole_at_its_head() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
    assert answer.is_whole
    assert not answer.has_body


def test_a_request_states_its_length_in_bytes() -> None:
    assert traffic.request_bytes("/p", '"é"').endswith(b'content-length: 4\r\n\r\n"\xc3\xa9"')


def test_loads_and_results_pass_between_processes() -> None:
    load = Load(port=1, path="/p", bodies=["{}"], connections=3, pids={"engine": 7})
    assert traffic.decode_load(traffic.encode(load)) == load
    result = traffic.summarize([0.2, 0.1], [0.4, 0.3], 1.0, 9, 0.5, {"engine": 0.25})
    assert traffic.decode_measured(traffic.encode(result)) == result
    assert (result.requests, result.chunks, result.first_p50, result.whole_p99) == (2, 11, 0.1, 0.4)


def test_lookups_are_counted_each() -> None:
    found = lookups.sample(measured(requests=1000, cpu={lookups.SERVER: 0.05}))
    assert found["look-ups/s"] == 500
    assert found["p50 ms"] == pytest.approx(2)
    assert found["server us CPU"] == pytest.approx(50)
    assert found["client us CPU"] == pytest.approx(100)


def test_what_http_adds_is_the_difference() -> None:
    alone, over_http, relayed = (measured(first_p50=s, cpu={"engine": s, "door": 2 * s}) for s in (0.001, 0.003, 0.007))
    first = http_layer.first_chunk_sample(alone, over_http, relayed)
    assert first["HTTP adds us"] == pytest.approx(2000)
    assert first["9527 adds us"] == pytest.approx(4000)
    cpu = http_layer.cpu_sample(alone, over_http, relayed)
    assert cpu["HTTP adds us"] == pytest.approx(20)
    assert cpu["9527's process us"] == pytest.approx(140)


def test_rates_count_the_tokens_that_came() -> None:
    found = throughput.sample(measured(tokens=90, seconds=2.0), their_tokens=60, their_seconds=4.0)
    assert found["ours tok/s"] == 45
    assert found["transformers tok/s"] == 15
    assert found["ours : transformers"] == 3


def test_padding_after_an_end_is_no_token() -> None:
    assert generate.real_tokens([[5, 6, 7], [5, 2, 0], [2, 2, 2]], {2}) == 4
    assert generate.real_tokens([[5, 2, 0]], set()) == 3


def test_endings_are_taken_out_of_a_folder() -> None:
    assert shapes.without({"eos_token_id": 2, "pad_token_id": 0}, {"eos_token_id"}) == {"pad_token_id": 0}


def test_options() -> None:
    known = ("one", "two")
    assert options.parse([], known).names == ["one", "two"]
    chosen = options.parse(["two", "--rounds", "5", "--seconds", "0.5", "--shape", "q05"], known)
    assert (chosen.names, chosen.rounds, chosen.seconds) == (["two"], 5, 0.5)
    assert chosen.dtypes == ("float32", "bfloat16")
    assert options.parse(["--shape", "q05", "--dtype", "bfloat16", "--threads", "3"], known).dtypes == ("bfloat16",)


@pytest.mark.parametrize(
    "argv", [["three"], ["--rounds", "0"], ["--rounds", "99"], ["--seconds", "60"], ["--threads", "0"]]
)
def test_bad_options_end_the_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(argv, ("one", "two"))
    assert "error" in capsys.readouterr().err
