"""Exit codes and what is said with them."""

from __future__ import annotations

import pytest
import typer

from modelengine import errors
from modelengine.cli import exits


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.ModelEngineError, 1),
        (errors.InvalidRequest, 2),
        (errors.NotFound, 3),
        (errors.WaitTimeout, 4),
        (errors.ConnectionFailed, 1),
        (errors.StreamBroken, 1),
        (errors.Busy, 1),
        (errors.ModelLoadError, 1),
        (errors.PortTaken, 1),
    ],
)
def test_each_error_has_its_exit_code(failure: type[errors.ModelEngineError], code: int) -> None:
    assert exits.code_of(failure("x")) == code


def fail(failure: BaseException) -> int:
    def command() -> int:
        raise failure

    return exits.guarded(command)


def test_an_error_is_one_line_on_stderr_even_when_its_message_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(errors.NotFound("no model\n'qwen'")) == 3
    assert capsys.readouterr() == ("", "error: no model 'qwen'\n")


def test_a_connection_that_failed_comes_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(errors.ConnectionFailed("nobody answers")) == 1
    assert "modelengine up" in capsys.readouterr().err


def test_ctrl_c_gives_130_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(KeyboardInterrupt()) == 130
    assert fail(typer.Abort()) == 130
    assert capsys.readouterr() == ("", "")


def test_a_bug_of_ours_is_one_line_that_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELENGINE_DEBUG", raising=False)
    assert fail(KeyError("oops")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: unexpected KeyError: 'oops' (set MODELENGINE_DEBUG=1 for the traceback)"]


def test_the_debug_variable_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELENGINE_DEBUG", "1")
    with pytest.raises(KeyError):
        fail(KeyError("oops"))
