"""The step thread: errors reach the one request they belong to, aborts free the place, nobody is left waiting."""

import queue
import random

import pytest

from fake_paged_runner import FakePagedRunner, alone, sequence
from fakes import ByteTokenizer, FakeRunner
from modelengine import errors
from modelengine_runtime.loop import StepLoop
from modelengine_runtime.sampling import Sampling
from modelengine_runtime.scheduler import Limits, Scheduler
from modelengine_runtime.sequence import ChatSequence, End, Failure, Part
from modelengine_runtime.text import AnswerText


class Request:
    """A sequence and what was delivered to it."""

    def __init__(self, number, text="hello", limit=5):
        self.events = queue.SimpleQueue()
        self.sequence = ChatSequence(
            id=number,
            prompt=list(text.encode()),
            limit=limit,
            sampling=Sampling(),
            stop_tokens=frozenset({0}),
            text=AnswerText(ByteTokenizer().decode),
            deliver=self.events.put,
        )

    def outcome(self):
        """The text, and how it ended."""
        text = ""
        while True:
            event = self.events.get(timeout=10)
            if not isinstance(event, Part):
                return text, event
            text += event.text


@pytest.fixture
def runner():
    return FakeRunner()


@pytest.fixture
def loop(runner):
    loop = StepLoop(Scheduler(Limits(max_running=4, max_waiting=2, step_tokens=64, kv_blocks=640)), runner)
    loop.start()
    yield loop
    if loop.is_alive:
        loop.stop()


def test_a_request_gets_its_parts_and_one_end(loop):
    request = Request(1)
    loop.submit(request.sequence)
    text, end = request.outcome()
    assert text == "fghij"
    assert isinstance(end, End)
    assert end.length == 5
    assert request.events.empty()


def test_requests_run_together_in_one_step(loop, runner):
    runner.pause_s = 0.01
    requests = [Request(i, limit=20) for i in range(4)]
    for request in requests:
        loop.submit(request.sequence)
    assert {request.outcome()[0] for request in requests} == {"fghijklmnopqrstuvwxy"}
    assert max(len(step) for step in runner.steps) == 4


class Refusing:
    """A guide that gives up at the second token."""

    def __init__(self):
        self.accepted = 0

    def mask(self):
        return bytearray()

    def accept(self, token):
        self.accepted += 1
        if self.accepted == 2:
            raise errors.InvalidRequest("options.response_format: takes more than it may")


def test_what_a_guide_refuses_is_the_request_s_own_fault_and_no_mistake_of_ours(loop, caplog):
    guided, other = Request(1), Request(2)
    guided.sequence.guide = Refusing()
    for request in (guided, other):
        loop.submit(request.sequence)
    text, failure = guided.outcome()
    assert text == "f"
    assert isinstance(failure.error, errors.InvalidRequest)
    assert failure.error.message == "options.response_format: takes more than it may"
    assert other.outcome()[0] == "fghij"
    assert not [record for record in caplog.records if record.exc_info]


def test_a_request_that_breaks_the_model_fails_alone_and_the_others_finish(loop, runner):
    runner.pause_s = 0.01
    good, bad = [Request(i, limit=20) for i in range(3)], Request(9, text="boom!")
    for request in (*good, bad):
        loop.submit(request.sequence)
    _, failure = bad.outcome()
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, errors.RequestFailed)
    assert "the model broke on this prompt" in failure.error.message
    assert {request.outcome()[0] for request in good} == {"fghijklmnopqrstuvwxy"}


def test_an_abort_frees_the_place_and_the_cache(loop, runner):
    runner.pause_s = 0.005
    long = Request(1, limit=9_000)
    loop.submit(long.sequence)
    assert isinstance(long.events.get(timeout=10), Part)
    loop.abort(long.sequence)
    next_one = Request(2)
    loop.submit(next_one.sequence)
    next_one.outcome()
    assert loop.running == 0
    assert loop.counters.aborted == 1
    assert runner.caches == set()


def test_an_abort_after_the_end_changes_nothing(loop):
    request = Request(1)
    loop.submit(request.sequence)
    request.outcome()
    loop.abort(request.sequence)
    loop.stop()
    assert (loop.counters.finished, loop.counters.aborted) == (1, 0)


def test_a_full_queue_reaches_the_request_as_busy(loop, runner):
    runner.pause_s = 0.02
    requests = [Request(i, limit=30) for i in range(7)]
    for request in requests:
        loop.submit(request.sequence)
    outcomes = []
    for request in requests:
        loop_end = request.outcome()[1]
        outcomes.append(loop_end)
    refused = [end.error for end in outcomes if isinstance(end, Failure)]
    assert len(refused) == 1
    assert isinstance(refused[0], errors.Busy)


def test_stopping_tells_whoever_still_waits(loop, runner):
    runner.pause_s = 0.01
    request = Request(1, limit=5_000)
    loop.submit(request.sequence)
    request.events.get(timeout=10)
    loop.stop()
    _, failure = request.outcome()
    assert isinstance(failure.error, errors.Unavailable)
    assert not loop.is_alive


def test_who_comes_after_the_end_is_turned_away(loop):
    loop.stop()
    late = Request(1)
    loop.submit(late.sequence)
    _, failure = late.outcome()
    assert isinstance(failure.error, errors.Unavailable)


class Clock:
    """Time that passes only while a model computes."""

    now = 0.0

    def __call__(self):
        return self.now


class TimedRunner(FakePagedRunner):
    """A step takes 20 ms, 1 ms more for each answer, and `token_s` for each token of a prompt, `rise` of that more
    with every 1,000 before it; and by chance up to `noise` of all that longer."""

    def __init__(self, clock, token_s, rise, noise):
        super().__init__()
        self.clock, self.token_s, self.rise, self.noise = clock, token_s, rise, noise
        self.chance = random.Random(1)

    def step(self, chunks):
        seconds = 0.02 + sum(self._chunk_s(len(chunk.token_ids), chunk.start) for chunk in chunks)
        self.clock.now += seconds * (1 + self.noise * self.chance.random())
        return super().step(chunks)

    def _chunk_s(self, tokens, start):
        return 0.001 if tokens == 1 else tokens * self.token_s * (1 + self.rise * start / 1000)


def endless(number, prompt):
    one = sequence(number, prompt, limit=10_000)
    one.stop_tokens = frozenset()
    return one


# Up to where the least piece, of 16 tokens, takes as long as an ordinary step when it is the last: 16 * 0.8 ms * 2.2.
@pytest.mark.parametrize("token_s", [0.00001, 0.0002, 0.0008])
@pytest.mark.parametrize("rise", [0.0, 0.3])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_prompt_of_4000_tokens_among_eight_streams_makes_no_gap_of_more_than_three_ordinary_steps(
    token_s, rise, noise
):
    clock = Clock()
    runner = TimedRunner(clock, token_s, rise, noise)
    runner.reserve(8_000)
    loop = StepLoop(Scheduler(Limits(16, 16, step_tokens=512, kv_blocks=8_000)), runner, clock)
    streams = [endless(i, [i] * 32) for i in range(8)]
    for stream in streams:
        loop.submit(stream)
    while not all(len(stream.output) > 20 for stream in streams):
        loop.turn(wait=False)
    long = endless(8, range(4000))
    loop.submit(long)
    gaps = []
    while not long.output:
        before, lengths = clock.now, [len(stream.output) for stream in streams]
        loop.turn(wait=False)
        gaps.append(clock.now - before)
        assert [len(stream.output) for stream in streams] == [length + 1 for length in lengths]
    ordinary_s = 0.02 + 8 * 0.001
    assert max(gaps) <= 3 * ordinary_s
    # And the prompt gets on, by as much as there is time for in a step that is twice as long.
    assert len(gaps) < 20 + 2 * 4000 * token_s * (1 + 2 * rise) / ordinary_s


def test_a_step_that_failed_and_is_run_again_counts_no_token_twice():
    runner = FakePagedRunner()
    runner.reserve(100)
    loop = StepLoop(Scheduler(Limits(4, 4, 64, kv_blocks=100, has_prefix_cache=True)), runner)
    requests = [sequence(i, [i + 1] * 30, limit=20) for i in range(3)]
    for one in requests:
        loop.submit(one)
    for _ in range(60):
        runner.trips = True
        loop.turn(wait=False)
    assert [one.output for one in requests] == [alone([i + 1] * 30, 20) for i in range(3)]
