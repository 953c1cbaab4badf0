"""How the servers' log lines look: for people, or as JSON for whatever collects them. Each carries its request's id.

Nothing that a caller sends can end a line or begin another one: JSON escapes, and so does the text form.
"""

from __future__ import annotations

import logging
import re
import sys

from modelengine.env import LogFormat
from modelengine_api import calls
from modelengine_api.observing import access

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JSON = "{asctime}{levelname}{name}{message}"
# All that terminals obey, and all that some reader takes for the end of a line.
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

INDENT = "    "


class OfTheRequest(logging.Filter):
    """Adds the ids of the current call to each record, unless it brings its own, as the step thread's do."""

    def filter(self, record: logging.LogRecord) -> bool:
        call = calls.current()
        if call is not None and not hasattr(record, "request_id"):
            record.request_id = call.id
            if call.trace_id:
                record.trace_id = call.trace_id
        return True


class TextFormatter(logging.Formatter):
    """One line for people, and the traceback below it where there is one, indented: an exception may say what came from
    outside, and only a line of ours begins at the margin."""

    def format(self, record: logging.LogRecord) -> str:
        line, *below = super().format(record).split("\n")
        return "\n".join([line, *(INDENT + _escaped(each) for each in below)])

    def formatMessage(self, record: logging.LogRecord) -> str:
        request_id = getattr(record, "request_id", "")
        line = super().formatMessage(record)
        return _escaped(f"{line} (request {request_id})" if request_id else line)


def _escaped(line: str) -> str:
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], line)


def configure(level: str, form: LogFormat = LogFormat.TEXT) -> None:
    """Everything to stderr, from `level` on; of the HTTP libraries only what is wrong. One line per request in JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OfTheRequest())
    handler.setFormatter(_json() if form is LogFormat.JSON else TextFormatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler])
    for library in ("uvicorn", "httpx2"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    access.setLevel(logging.NOTSET if form is LogFormat.JSON else logging.WARNING)


def _json() -> logging.Formatter:
    # Not where people read: it costs a start its time.
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(JSON, style="{")
