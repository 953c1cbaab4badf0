"""What the command's exit code says, and what is printed with it. The one place that maps errors to codes.

0 ok · 1 failed · 2 wrong usage · 3 no such name · 4 not ready in time · 130 Ctrl-C
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from enum import IntEnum

import typer

from modelengine import errors

DEBUG_VARIABLE = "MODELENGINE_DEBUG"
INSTALL = "helm install modelengine charts/modelengine --namespace modelengine --create-namespace"
START_HINT = "; start it here with 'modelengine up', or say where it is with --host"


class Code(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_READY = 4
    INTERRUPTED = 130


BY_ERROR: Mapping[type[errors.ModelEngineError], Code] = {
    errors.InvalidRequest: Code.USAGE,
    errors.NotFound: Code.NOT_FOUND,
    errors.WaitTimeout: Code.NOT_READY,
}


def code_of(failure: errors.ModelEngineError) -> Code:
    return next((BY_ERROR[cls] for cls in type(failure).__mro__ if cls in BY_ERROR), Code.FAILED)


def guarded(command: Callable[[], int | None]) -> int:
    """Runs the command and gives its exit code. An error is one line on stderr, unless MODELENGINE_DEBUG is set."""
    try:
        return command() or Code.OK
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except Exception as failure:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return explain(failure)


def explain(failure: Exception) -> int:
    """Says on stderr what went wrong, and gives the exit code for it."""
    if isinstance(failure, errors.ModelEngineError):
        hint = START_HINT if isinstance(failure, errors.ConnectionFailed) else ""
        tell_error(failure.message + hint)
        return code_of(failure)
    if isinstance(failure, typer.TyperException):
        usage = getattr(failure, "ctx", None)
        tell_error(failure.format_message() + (f" (see '{usage.command_path} --help')" if usage else ""))
        return failure.exit_code
    if isinstance(failure, typer.Abort):
        return Code.INTERRUPTED
    tell_error(f"unexpected {type(failure).__name__}: {failure} (set {DEBUG_VARIABLE}=1 for the traceback)")
    return Code.FAILED


def tell_error(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
