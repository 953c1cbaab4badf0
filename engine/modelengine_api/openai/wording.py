"""An engine's refusals in the names that a request of OpenAI's has for what was refused. Pure.

Each kind of request says what it calls the native fields (`names`); `routes.py` words with them what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelengine import errors

# How the path of a native field begins, as a pattern, and what stands in its place. The first that fits is taken.
Names = Mapping[str, str]
# The options without a name of their own in a request: there they stand at the top.
AT_THE_TOP: Names = {r"options\.": ""}
# Of a native message, where a request has no messages: which of them is meant says nothing to its sender.
ANY_MESSAGE = r"messages[\w.\[\]]*"


def worded(failure: errors.InvalidRequest, names: Names) -> errors.InvalidRequest:
    """The error with the request's own names, in its sentence and its details."""
    details = [
        {**detail, "loc": _renamed(str(detail["loc"]), names)} if "loc" in detail else detail
        for detail in failure.details
    ]
    return errors.InvalidRequest(_renamed(failure.message, names), details=details)


def _renamed(text: str, names: Names) -> str:
    for native, name in (*names.items(), *AT_THE_TOP.items()):
        if found := re.match(native, text):
            return found.expand(name) + text[found.end() :]
    return text
