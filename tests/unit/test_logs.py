"""Log lines: with the id of their request, in one piece whatever a caller sent, for people and as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelengine.env import LogFormat
from modelengine_api import calls, logs

HOSTILE = 'x\r\nERROR forged: line\x1b[2J\u2028\x9b\u202e"}'


Configure = Callable[..., None]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """As a process without handlers does it; leaves the test's logging as it was."""
    root, access = logging.getLogger(), logs.access.level
    before, level = root.handlers[:], root.level

    def configure(*chosen: Any) -> None:
        before[:] = root.handlers
        root.handlers[:] = []
        logs.configure(*chosen)

    yield configure
    root.handlers[:] = before
    root.setLevel(level)
    logs.access.setLevel(access)
    for library in ("uvicorn", "httpx2"):
        logging.getLogger(library).setLevel(logging.NOTSET)


def test_a_json_line_is_one_object_whatever_is_in_it(capsys: pytest.CaptureFixture[str], configure: Configure) -> None:
    configure("INFO", LogFormat.JSON)
    calls.begin([(b"x-request-id", b"mine")], None)
    logging.getLogger("somewhere").warning("said %s", HOSTILE)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert written.isascii()
    line = json.loads(written)
    assert (line["message"], line["levelname"], line["name"]) == (f"said {HOSTILE}", "WARNING", "somewhere")
    assert line["request_id"] == "mine"
    assert "trace_id" not in line


def test_a_line_for_people_is_one_line_without_anything_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], configure: Configure
) -> None:
    configure("INFO")
    calls.begin([(b"x-request-id", b"mine")], None)
    logging.getLogger("somewhere").warning("said %s", HOSTILE)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    said = r'said x\r\nERROR forged: line\x1b[2J\u2028\x9b\u202e"}'
    assert written.endswith(f" WARNING somewhere: {said} (request mine)\n")


def test_a_traceback_stays_readable(capsys: pytest.CaptureFixture[str], configure: Configure) -> None:
    configure("INFO")
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("somewhere").exception("it failed")
    written = capsys.readouterr().err.splitlines()
    assert written[1] == "    Traceback (most recent call last):"
    assert written[-1] == "    ValueError: wrong"


def test_what_an_exception_says_can_neither_look_like_a_line_nor_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], configure: Configure
) -> None:
    configure("INFO")
    try:
        raise ValueError(f"{HOSTILE}\n2026-01-01 00:00:00,000 ERROR forged: line")
    except ValueError:
        logging.getLogger("somewhere").exception("it failed", stack_info=True)
    first, *below = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert " ERROR somewhere: it failed" in first
    assert all(line.startswith("    ") for line in below)
    assert r"    ValueError: x\r" in below
    assert r'    ERROR forged: line\x1b[2J\u2028\x9b\u202e"}' in below
    assert "    2026-01-01 00:00:00,000 ERROR forged: line" in below


@pytest.mark.parametrize(("form", "lines"), [(LogFormat.TEXT, 0), (LogFormat.JSON, 1)])
def test_requests_have_lines_only_where_they_are_collected(
    capsys: pytest.CaptureFixture[str], configure: Configure, form: LogFormat, lines: int
) -> None:
    configure("INFO", form)
    logs.access.info("request", extra={"status": 200})
    assert capsys.readouterr().err.count("\n") == lines


def test_http_libraries_say_only_what_is_wrong(capsys: pytest.CaptureFixture[str], configure: Configure) -> None:
    configure("DEBUG")
    for library in ("uvicorn", "httpx2"):
        logging.getLogger(f"{library}.more").info("chatter")
    assert "chatter" not in capsys.readouterr().err
