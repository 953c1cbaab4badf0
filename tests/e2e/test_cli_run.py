"""`run` and its conversation, against fake engines: what goes where, how it ends, and what Ctrl-C stops."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import windows
from callers import until
from fakes import FakeEngine
from modelengine import errors
from modelengine.chats import ChatOptions, Message, ResponseFormat
from windows import Window, modelengine

Serve = Callable[..., str]


def slow_engine() -> FakeEngine:
    """Twenty seconds for an answer, unless it is stopped."""
    return FakeEngine(words=[f"w{i} " for i in range(200)], pause_s=0.1)


@contextmanager
def talking(host: str, *arguments: str, state: Path) -> Iterator[Window]:
    """`run demo` in a terminal, ready to be typed into."""
    argv = [*windows.IN_A_TERMINAL, *windows.COMMAND, "run", "demo", *arguments]
    with windows.opened(argv, MODELENGINE_HOST=host, XDG_STATE_HOME=str(state)) as window:
        window.until(">>> ")
        yield window


def pressed_ctrl_d(window: Window) -> bool:
    """Whether the conversation has ended by it. In the moment before a prompt reads, it is lost in the terminal."""
    with contextlib.suppress(BrokenPipeError):
        window.type("\x04")
    return window.process.poll() is not None


def test_only_the_answer_goes_to_stdout(serve: Serve) -> None:
    done = modelengine("run", "demo", "hi", "--verbose", host=serve(FakeEngine()))
    assert (done.returncode, done.stdout) == (0, "Hello world!\n")
    assert re.fullmatch(r"ttft \d+ ms · 4 tokens( · \d+ tok/s)? · stop\n", done.stderr)


CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "get_time", "arguments": '{"city": "Rome"}'}}
THINKING = [{"reasoning_content": "hm"}, {"reasoning_content": ", so"}, "It is ", "noon.", {"tool_calls": [CALL]}]


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_a_pipe_gets_no_thoughts_and_calls_on_their_lines(serve: Serve, stream: str) -> None:
    done = modelengine("run", "demo", "hi", stream, host=serve(FakeEngine(words=THINKING)))
    assert (done.returncode, done.stdout) == (0, 'It is noon.\nget_time({"city": "Rome"})\n')


def test_a_terminal_shows_thoughts_dim(serve: Serve, tmp_path: Path) -> None:
    with talking(serve(FakeEngine(words=THINKING)), state=tmp_path) as window:
        window.type("hi\n")
        window.until('get_time({"city": "Rome"})')
        assert "\x1b[2mhm, so\x1b[22m\r\n\r\nIt is noon.\r\n" in window.out


def test_options_that_are_no_numbers_are_written_as_json(serve: Serve) -> None:
    fake = FakeEngine()
    shape = 'response_format={"type": "choice", "choice": ["a", "b"]}'
    modelengine("run", "demo", "hi", "-o", shape, "-o", "think=false", "-o", 'logit_bias={"5": 1}', host=serve(fake))
    [request] = fake.requests
    assert request.options == ChatOptions(
        response_format=ResponseFormat("choice", choice=("a", "b")), think=False, logit_bias={5: 1.0}
    )


def test_what_was_asked_reaches_the_engine(serve: Serve) -> None:
    fake = FakeEngine()
    arguments = ["-s", "be short", "-o", "temperature=0.5", "-o", "stop=a", "-o", "stop=b", "--no-stream"]
    done = modelengine("run", "demo", "summarise", *arguments, host=serve(fake), stdin="a text\n")
    assert done.stdout == "Hello world!\n"
    (request,) = fake.requests
    assert request.messages == (Message("system", "be short"), Message("user", "a text\nsummarise"))
    assert request.options == ChatOptions(temperature=0.5, stop=("a", "b"))
    assert not request.stream


def test_json_gives_the_envelopes_of_the_protocol(serve: Serve) -> None:
    host = serve(FakeEngine())
    lines = modelengine("run", "demo", "hi", "--json", host=host).stdout.splitlines()
    parts = [json.loads(line) for line in lines]
    assert {part["state"] for part in parts} == {"ok"}
    assert [part["msg"]["content"] for part in parts] == ["Hello", " ", "world", "!", None]
    assert [part["msg"]["done"] for part in parts] == [False] * 4 + [True]
    whole = json.loads(modelengine("run", "demo", "hi", "--json", "--no-stream", host=host).stdout)
    assert whole["msg"]["content"] == "Hello world!"


def test_the_beginning_of_a_name_is_enough(serve: Serve) -> None:
    fake = FakeEngine(name="Qwen/Qwen3-8B")
    assert modelengine("run", "qwen", "hi", host=serve(fake, FakeEngine())).returncode == 0
    assert [request.model for request in fake.requests] == ["Qwen/Qwen3-8B"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["qven3", "hi"], 3, "error: no model 'qven3'; did you mean 'qwen3'? (known: demo, qwen3)"),
        (["demo"], 2, "error: Invalid value: no prompt; give one as an argument or on stdin"),
        (["demo", "hi", "-o", "temprature=1"], 2, "error: no option 'temprature'; did you mean 'temperature'?"),
        (["demo", "hi", "-o", "temperature=9"], 2, "error: options.temperature: must be at most 5, got 9.0"),
        (["demo", "hi", "--nonsense"], 2, "error: No such option: --nonsense"),
        (["nobody", "hi", "--wait", "0.2"], 4, "error: 'nobody' is not available after 0.2 s"),
        (["demo", "hi", "--host", "127.0.0.1:1"], 1, "error: nobody answers at http://127.0.0.1:1"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    serve: Serve, arguments: list[str], code: int, message: str
) -> None:
    done = modelengine("run", *arguments, host=serve(FakeEngine(), FakeEngine(name="qwen3")))
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


def test_an_answer_that_breaks_off_keeps_its_text_and_fails(serve: Serve) -> None:
    host = serve(FakeEngine(break_after=2))
    done = modelengine("run", "demo", "hi", host=host)
    assert (done.returncode, done.stdout, done.stderr) == (1, "Hello \n", "error: the fake broke\n")
    last = modelengine("run", "demo", "hi", "--json", host=host).stdout.splitlines()[-1]
    assert json.loads(last) == {"state": "error", "msg": "the fake broke", "code": "request_failed"}


def test_an_engine_that_is_full_is_an_error(serve: Serve) -> None:
    done = modelengine("run", "demo", "hi", host=serve(FakeEngine(refusal=errors.Busy("the queue is full"))))
    assert (done.returncode, done.stderr) == (1, "error: the queue is full\n")


def test_piped_bytes_that_are_no_text_are_refused(serve: Serve) -> None:
    script = f"printf 'a\\377b' | {' '.join(windows.COMMAND)} run demo hi"
    with windows.opened(["bash", "-c", script], MODELENGINE_HOST=serve(FakeEngine())) as window:
        assert window.end() == 2
        assert (window.out, window.err) == ("", "error: stdin is not UTF-8 text (byte 1)\n")


def test_ctrl_c_stops_the_answer_on_the_server_and_gives_130(serve: Serve) -> None:
    fake = slow_engine()
    with windows.opened([*windows.COMMAND, "run", "demo", "hi"], MODELENGINE_HOST=serve(fake)) as window:
        assert window.process.stdin is not None
        window.process.stdin.close()
        window.until("w2 ")
        window.interrupt()
        assert window.end() == 130
        assert window.err == ""
        assert window.out.endswith("\n")
        assert until(lambda: fake.aborted == 1, within_s=10)


def test_a_reader_that_leaves_stops_the_answer_without_a_traceback(serve: Serve) -> None:
    fake = FakeEngine(words=["line\n"] * 200, pause_s=0.05)
    script = f"{' '.join(windows.COMMAND)} run demo hi | head -n 1; exit ${{PIPESTATUS[0]}}"
    with windows.opened(["bash", "-c", script], MODELENGINE_HOST=serve(fake)) as window:
        assert window.process.stdin is not None
        window.process.stdin.close()
        assert window.end() == 1
        assert (window.out, window.err) == ("line\n", "")
        assert until(lambda: fake.aborted == 1, within_s=10)


def test_a_conversation_remembers_what_was_said(serve: Serve, tmp_path: Path) -> None:
    fake = FakeEngine()
    with talking(serve(fake), "--verbose", state=tmp_path) as window:
        window.type("hi\r")
        window.until("Hello world!")
        window.until("· 4 tokens")
        window.type("and you?\r")
        window.until("Hello world!", times=2)
        assert until(lambda: pressed_ctrl_d(window), within_s=10)
        assert window.end() == 0
    assert [message.content for message in fake.requests[1].messages] == ["hi", "Hello world!", "and you?"]
    assert "+and you?" in (tmp_path / "modelengine" / "history").read_text()


def test_a_conversation_takes_commands_and_several_lines(serve: Serve, tmp_path: Path) -> None:
    fake = FakeEngine()
    with talking(serve(fake, FakeEngine(name="other")), state=tmp_path) as window:
        for line in ("/system be short", "/set seed 5", '"""first', 'second"""'):
            window.type(f"{line}\r")
        window.until("Hello world!")
        window.type("/retry\r")
        window.until("Hello world!", times=2)
        window.type("/hlep\r")
        window.until("error: no command /hlep; did you mean /help?")
        window.type("/model oth\r")
        window.until("talking to other")
        window.type("/bye\r")
        assert window.end() == 0
    first, again = fake.requests
    assert first.messages == (Message("system", "be short"), Message("user", "first\nsecond"))
    assert again == first
    assert first.options.seed == 5


def test_ctrl_c_stops_the_answer_but_not_the_conversation(serve: Serve, tmp_path: Path) -> None:
    fake = slow_engine()
    with talking(serve(fake), state=tmp_path) as window:
        window.type("hi\r")
        window.until("w2 ")
        window.type("\x03")
        assert until(lambda: fake.aborted == 1, within_s=10)
        window.until(">>> ", times=2)
        window.type("/show\r")
        window.until("turns: 2")
        window.type("\x03/bye\r")
        assert window.end() == 0


def test_an_answer_cannot_send_commands_to_the_terminal(serve: Serve, tmp_path: Path) -> None:
    fake = FakeEngine(words=["one\n", "\x1b]0;title\x07", "two"])
    with talking(serve(fake), state=tmp_path) as window:
        window.type("hi\r")
        window.until("two")
        assert "\ufffd]0;title\ufffdtwo" in window.out
        window.type("/bye\r")
        assert window.end() == 0


def test_a_failure_does_not_end_the_conversation(serve: Serve, tmp_path: Path) -> None:
    fake = FakeEngine(refusal=errors.Busy("the queue is full"))
    with talking(serve(fake), state=tmp_path) as window:
        window.type("hi\r")
        window.until("error: the queue is full")
        fake.refusal = None
        window.type("/retry\r")
        window.until("Hello world!")
        window.type("/bye\r")
        assert window.end() == 0


def complete(words: str, host: str) -> list[str]:
    """What bash is offered for the word at the end."""
    env = {"_MODELENGINE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    script = "import sys; sys.argv[0] = 'modelengine'; from modelengine.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MODELENGINE_HOST": host, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_served_names(serve: Serve) -> None:
    host = serve(FakeEngine(), FakeEngine(name="qwen3"), FakeEngine(name="qwen2"))
    assert complete("modelengine run q", host) == ["qwen3", "qwen2"]
    assert complete(f"modelengine --host {host} wait d", "127.0.0.1:1") == ["demo"]


def test_the_shell_completes_nothing_where_nobody_answers() -> None:
    assert complete("modelengine run q", "127.0.0.1:1") == []
