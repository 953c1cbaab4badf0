"""The user's own kubectl as a child process: it knows contexts, exec plugins and every way to log in.

What it says on failure is translated here, and only here, into errors that say what to do.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from modelengine import errors
from modelengine.cli.exits import INSTALL
from modelengine.cli.reach import Cluster
from modelengine.kinds import GROUP, PLURAL

PROGRAM = "kubectl"
# An API server that is away must not hold up a question; kubectl itself would wait for minutes.
REQUEST_TIMEOUT = "--request-timeout=10s"
TIMEOUT_S = 60.0

Failure = Callable[[str], errors.ModelEngineError]


class Forbidden(errors.ModelEngineError):
    """The cluster knows who asks, and does not let him."""


class Unreachable(errors.ModelEngineError):
    """Nobody answers for this cluster."""


class NotInstalled(errors.ModelEngineError):
    """The cluster does not know ModelEngines."""


class Kubectl:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def argv(self, *words: str) -> list[str]:
        return [PROGRAM, *self.cluster.kubectl_options, *words]

    def in_namespace(self, all_namespaces: bool = False) -> list[str]:
        """The option for the namespace that the user means."""
        if all_namespaces:
            return ["--all-namespaces"]
        return [] if self.cluster.namespace is None else [f"--namespace={self.cluster.namespace}"]

    def text(self, *words: str, stdin: str | None = None) -> str:
        """What it prints. Raises what `explain` makes of its complaint."""
        done = self.done(*words, stdin=stdin)
        if done.returncode:
            raise explain(done.stderr or done.stdout)
        return done.stdout

    def json(self, *words: str, stdin: str | None = None) -> Any:
        return json.loads(self.text(*words, stdin=stdin))

    def items(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` lists."""
        return list(self.json("get", kind, *words, "--output=json")["items"])

    def engines(self, all_namespaces: bool = False) -> list[dict[str, Any]]:
        """The ModelEngines."""
        return self.items(f"{PLURAL}.{GROUP}", *self.in_namespace(all_namespaces))

    def done(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                self.argv(*words, REQUEST_TIMEOUT),
                input=stdin,
                # What is piped to us is the prompt's, not for a login.
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as slow:
            raise Unreachable(f"kubectl gives no answer within {TIMEOUT_S:g} s; try: {' '.join(slow.cmd)}") from slow
        except OSError as absent:
            raise not_found(absent) from absent


def not_found(failure: OSError) -> errors.ModelEngineError:
    return errors.ModelEngineError(
        f"{PROGRAM} can't be run ({failure.strerror}); put it on the PATH, or give an address with --host"
    )


def explain(complaint: str) -> errors.ModelEngineError:
    """The error for what kubectl wrote on stderr."""
    said = last_words(complaint)
    for pattern, failure in MEANINGS:
        if pattern.search(complaint):
            return failure(said)
    return errors.ModelEngineError(f"kubectl: {said}")


def last_words(complaint: str) -> str:
    """The line that matters: the last, without its `error:`; what comes before are warnings and retries."""
    lines = [line.strip() for line in complaint.strip().splitlines() if line.strip()] or ["it failed without a word"]
    return re.sub(r"^(error: |Error from server \(\w+\): |Unable to connect to the server: )+", "", lines[-1])


def _no_context(said: str) -> errors.ModelEngineError:
    return errors.InvalidRequest(f"{said}; kubectl config get-contexts lists them")


def _no_file(said: str) -> errors.ModelEngineError:
    return errors.InvalidRequest(f"--kubeconfig: {said.removeprefix('stat ')}")


def _not_installed(said: str) -> errors.ModelEngineError:
    return NotInstalled(f"ModelEngine is not installed in this cluster; {INSTALL}")


def _unknown_to_it(said: str) -> errors.ModelEngineError:
    return errors.ModelEngineError(f"the cluster does not know you ({said}); log in again, or choose another --context")


def _forbidden(said: str) -> errors.ModelEngineError:
    return Forbidden(f"the cluster does not let you: {said}; ask for the role `view` or `edit` in that namespace")


def _unreachable(said: str) -> errors.ModelEngineError:
    return Unreachable(f"the cluster can't be reached: {said}; check --context, or: kubectl cluster-info")


MEANINGS: Sequence[tuple[re.Pattern[str], Failure]] = [
    (re.compile(pattern), failure)
    for pattern, failure in (
        (r"context .* does not exist|no context exists|context was not found", _no_context),
        (r"error: stat .* no such file", _no_file),
        (r"doesn't have a resource type \"modelengine|no matches for kind \"ModelEngine", _not_installed),
        (r"must be logged in|Unauthorized", _unknown_to_it),
        (r"\(Forbidden\)|is forbidden", _forbidden),
        (r"\(NotFound\)", errors.NotFound),
        (
            r"nable to connect to the server|was refused|onnection refused|i/o timeout|deadline exceeded|no such host"
            r"|no route to host|Client\.Timeout|TLS handshake|invalid configuration",
            _unreachable,
        ),
    )
]
