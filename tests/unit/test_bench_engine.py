"""The benchmark beside the peers, as far as it measures nothing: vocabulary, points, checks, arithmetic, bars, plot."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.engine import accounts, bars, client, engines, gguf_model, made, options, plot, points, roofline, vocabulary
from bench.engine.__main__ import slug
from bench.engine.bars import Bar, Verdict
from bench.engine.client import Wave
from bench.engine.engines import ENGINES, Engine, Launch
from bench.engine.plot import Panel
from bench.engine.points import Point
from bench.engine.roofline import Machine
from bench.engine.shapes import SHAPES
from bench.engine.turns import Results, Turn
from bench.processes import BenchFailed
from bench.stats import Spread
from bench.traffic import Answer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made_of = vocabulary.make(sorted(pre_tokenizers.ByteLevel.alphabet()))
    ids = {token: i for i, token in enumerate(made_of.tokens)}
    made_tokenizer = Tokenizer(models.BPE(ids, list(made_of.merges)))
    made_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made_tokenizer.decoder = decoders.ByteLevel()
    return made_tokenizer


def test_every_token_is_another_visible_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == vocabulary.SIZE
    texts = {tokenizer.decode([i]) for i in range(vocabulary.BYTES, vocabulary.SIZE)}
    assert len(texts) == vocabulary.SIZE - vocabulary.BYTES
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize("tokens", [1, 32, 512])
def test_a_prompt_has_as_many_tokens_as_were_asked_for(tokenizer: Tokenizer, tokens: int) -> None:
    assert len(tokenizer.encode(vocabulary.prompt(tokens, "a seed")).ids) == tokens


def test_no_two_chats_have_the_same_prompt_and_every_engine_has_those() -> None:
    point = Point(32, 1)
    found = [text for seed in ("q15 0", "q15 1") for wave in points.prompts(point, seed) for text in wave]
    assert len(set(found)) == len(found) == 2 * point.waves
    assert points.prompts(point, "q15 0") == points.prompts(point, "q15 0")


def test_points_are_written_as_chats_and_prompt() -> None:
    assert points.parse("8x512") == Point(prompt=512, chats=8)
    assert str(Point(512, 8)) == "8 x p512"
    for bad in ("8", "0x32", "33x32", "1x513", "ax1"):
        with pytest.raises(ValueError, match=r"."):
            points.parse(bad)


def test_each_number_of_chats_is_warmed_up_once() -> None:
    assert points.warm_ups(points.POINTS) == [Point(32, 1), Point(32, 8), Point(32, 32), Point(512, 1)]
    assert points.warm_ups([Point(32, 8)]) == [Point(32, 8)]


def answer(text: str, status: str = "200 OK") -> Answer:
    found = Answer()
    body = text.encode()
    found.feed(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body))
    return found


def test_an_answer_must_have_the_tokens_that_it_should_have() -> None:
    client.check(answer('{"usage":{"prompt_tokens": 32, "completion_tokens":64}}'), 32, 64)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"prompt_tokens":32,"completion_tokens":63}', "200 OK"),
        ('{"prompt_tokens":33,"completion_tokens":64}', "200 OK"),
        ('{"prompt_tokens":32,"completion_tokens":64}', "500 Oops"),
        ("{}", "200 OK"),
    ],
)
def test_any_other_answer_stops_the_benchmark(text: str, status: str) -> None:
    with pytest.raises(BenchFailed, match="not 64 for 32"):
        client.check(answer(text, status), 32, 64)


def test_rates_are_over_all_waves() -> None:
    waves = [Wave(started=10, first=[11, 12], ended=14), Wave(started=20, first=[20.5, 20.5], ended=22)]
    found = client.sample(client.summarize(waves, tokens=36, others=0.25))
    assert found["tok/s"] == pytest.approx(36 / 6)
    assert found["decode tok/s"] == pytest.approx(32 / 4.5)
    assert found["first ms"] == pytest.approx(500)
    assert found["last first ms"] == pytest.approx(2000)
    assert found["others %"] == 25


def test_others_have_what_nobody_we_know_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.host.cores", lambda: 2)
    used = {accounts.MACHINE: 8.0, "server": 6.0, "client": 1.0}
    assert accounts.others_share(used, seconds=5.0) == pytest.approx(0.1)
    assert accounts.others_share({**used, "client": 3.0}, seconds=5.0) == 0


def test_stolen_time_is_busy_and_waiting_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    assert accounts.busy_s("cpu  100 20 30 9999 777 4 5 6 0 0\ncpu0 1 2 3\n") == pytest.approx(1.65)


def test_memory_is_read_from_the_status() -> None:
    status = "Name:\tx\nVmHWM:\t    2000 kB\nRssAnon:\t    1000 kB\n"
    assert accounts.memory_mb(status, "RssAnon") == pytest.approx(1.024)
    assert accounts.memory_mb("State:\tZ\n", "VmHWM") != accounts.memory_mb("State:\tZ\n", "VmHWM")


def test_the_roof_is_reading_for_few_and_multiplying_for_many() -> None:
    machine = Machine(read=10e9, peaks={"int8": 1e12})
    assert roofline.bound(machine, "int8", weight_bytes=1e9, weights=10**9, chats=1) == pytest.approx(10)
    assert roofline.bound(machine, "int8", weight_bytes=1e9, weights=10**9, chats=100) == pytest.approx(500)


RATES = {
    "ours": [
        {"tok/s": 30.0, "decode tok/s": 40.0, "first ms": 10.0},
        {"tok/s": 10.0, "decode tok/s": 9.0, "first ms": 9.0},
    ],
    "a": [
        {"tok/s": 10.0, "decode tok/s": 10.0, "first ms": 20.0},
        {"tok/s": 10.0, "decode tok/s": 9.0, "first ms": 9.0},
    ],
    "b": [
        {"tok/s": 15.0, "decode tok/s": 20.0, "first ms": 5.0},
        {"tok/s": 5.0, "decode tok/s": 3.0, "first ms": 18.0},
    ],
}


def test_a_ratio_is_to_the_best_of_the_peers_within_a_round() -> None:
    assert bars.within_rounds(RATES, Bar("ours", ("a", "b"), (1,), 1.0), bars.RATE) == Spread(1.0, 1.5, 2.0)
    assert bars.within_rounds(RATES, Bar("ours", ("a", "b"), (1,), 1.0), bars.FIRST) == Spread(0.5, 0.75, 1.0)
    assert bars.within_rounds(RATES, Bar("ours", ("a", "c"), (1,), 1.0), bars.RATE) is None


@pytest.mark.parametrize(("median", "word"), [(0.8, "NO"), (1.0, "yes"), (2.0, "goal")])
def test_the_median_meets_a_bar(median: float, word: str) -> None:
    bar = Bar("ours", ("a",), (1,), 1.0, 2.0)
    verdict = Verdict(Point(32, 1), bar, Spread(0.1, median, 9.0), None)
    assert verdict.word == word
    assert verdict.is_met is (word != "NO")
    assert bars.render("shape", [verdict]).splitlines()[-1].split()[-1] == word
    assert json.loads(json.dumps(bars.to_json([verdict])))[0]["met"] == word


def test_bars_speak_of_engines_that_there_are_and_points_that_are_measured() -> None:
    for bar in bars.BARS:
        assert {bar.ours, *bar.peers} <= set(ENGINES)
        assert set(bar.chats) <= {point.chats for point in points.POINTS}


def test_bars_are_judged_where_they_apply() -> None:
    one = {name: [{"tok/s": 2.0, "decode tok/s": 2.0, "first ms": 1.0}] for name in ENGINES}
    found = bars.judge({Point(32, 1): one, Point(512, 8): one})
    assert {(v.point.chats, v.bar.least) for v in found} == {
        (1, 1.0),
        (1, 0.9),
        (8, 2.0),
        (8, 1.4),
        (8, 1.8),
        (8, 0.9),
        (8, 1.0),
    }


def test_results_are_kept_by_point_and_engine() -> None:
    results = Results()
    for rate in (1.0, 3.0):
        results.add("ours", Turn({Point(32, 1): {"tok/s": rate}}, {"VmHWM MB": 5.0}))
    first, memory = results.to_json("shape")
    assert first["title"] == "shape, 1 x p32"
    assert first["cases"]["ours"]["tok/s"]["rounds"] == [1.0, 3.0]
    assert memory["cases"]["ours"]["VmHWM MB"]["median"] == 5


def test_a_part_of_the_run_is_no_result_to_keep(tmp_path: Path) -> None:
    whole = options.parse([], tmp_path / "result.json")
    assert (whole.json, whole.plot, whole.rounds) == (tmp_path / "result.json", options.PLOT, 5)
    assert (tuple(whole.engines), tuple(whole.shapes), whole.points) == (tuple(ENGINES), tuple(SHAPES), points.POINTS)
    part = options.parse(["--engines", "ours int8,llama.cpp Q8_0", "--points", "1x32,8x512"], tmp_path / "result.json")
    assert (part.json, part.plot, part.engines) == (None, None, ("ours int8", "llama.cpp Q8_0"))
    assert part.points == (Point(32, 1), Point(512, 8))
    assert options.parse(["--quick"], tmp_path / "result.json").rounds == 1


@pytest.mark.parametrize("argv", [["--engines", "nobody"], ["--points", "1x"], ["--rounds", "0"]])
def test_a_bad_option_ends_it(argv: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        options.parse(argv, tmp_path / "result.json")


def test_what_is_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(made.VARIABLE, str(tmp_path))
    calls: list[Path] = []

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise BenchFailed("no")

    with pytest.raises(BenchFailed):
        made.once(tmp_path / "thing", fail)
    for _ in range(2):
        made.once(tmp_path / "thing", calls.append)
    assert calls == [tmp_path / "thing"]
    assert not (tmp_path / "thing" / "half").exists()


def test_tensors_have_llama_cpps_names() -> None:
    assert gguf_model.renamed("model.norm.weight") == "output_norm.weight"
    assert gguf_model.renamed("model.layers.11.self_attn.q_proj.bias") == "blk.11.attn_q.bias"
    assert gguf_model.renamed("model.layers.0.input_layernorm.weight") == "blk.0.attn_norm.weight"


def test_bodies_ask_for_the_prompt_and_the_tokens() -> None:
    launch = Launch((), "/", engines.COMPLETIONS, 1.0, engines.completion)
    [body] = engines.bodies(launch, ["AKUeq"], 64)
    assert json.loads(body) == {"prompt": "AKUeq", "max_tokens": 64, "temperature": 0, "stream": True}
    assert Engine("ours", "int8", "int8", lambda *_: launch).name == "ours int8"


def test_the_plot_is_an_image_with_every_engine() -> None:
    panels = [
        Panel("1 x p32", {"ours": Spread(1, 2, 3), "a & b": Spread(2, 2, 2)}),
        Panel("8 x p32", {"ours": Spread(5, 5, 5)}),
    ]
    image = ElementTree.fromstring(plot.render("title", "note", {"shape": panels}, "ours"))
    words = [element.text for element in image.iter() if element.tag.endswith("text")]
    assert {"title", "note", "shape", "ours", "a & b", "1 x p32", "8 x p32", "2", "5"} <= set(words)
    assert len([element for element in image.iter() if element.tag.endswith("path")]) == 3


def test_a_cpu_makes_a_file_name() -> None:
    assert slug("Intel(R) Xeon(R) Processor") == "intel-r-xeon-r-processor"
