"""Brings a model from the hub into the cache before the engine starts: the init container of an engine's pod.

    python -m modelengine_runtime.fetch

A complete copy is used as it is, without asking the hub, so that a pod starts again while the hub is away. Pods that
share a cache take turns: the first downloads, the others find it done. Meanwhile `GET /loading` says how far it is.
An ended download leaves nothing that would be taken for a model: files are renamed into place when they are whole.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from modelengine import errors, wire
from modelengine_api import logs, programs
from modelengine_runtime import settings as configuration
from modelengine_runtime import source
from modelengine_runtime.progress import LOADING_PATH, Progress, Stage
from modelengine_runtime.source import Source

if TYPE_CHECKING:
    from modelengine_runtime.hub import File, Repository

log = logging.getLogger(__name__)

TELL_EVERY_S = 10.0
# As shells count the end by a signal.
STOPPED = 128 + signal.SIGTERM


def main() -> None:
    # At once: a container's first process has no default for it, and would not end before it is killed.
    signal.signal(signal.SIGTERM, _end)
    settings = configuration.from_env(os.environ)
    logs.configure(settings.log_level, settings.log_format)
    wanted = source.parse(settings.model_source)
    progress = Progress()
    _serve(progress, settings.listen_host, settings.listen_port)
    folder = _in_background(partial(fetch, wanted, progress), progress)
    log.info("%s is complete in %s", wanted.name, folder)


def fetch(wanted: Source, progress: Progress) -> Path:
    """The model's checked folder, from the cache or from the hub. Raises ModelLoadError."""
    if wanted.kind != "hub":
        folder = Path(wanted.where)
        source.check(folder)
        return folder
    # Takes as long to import as all the rest; `/loading` is answered meanwhile.
    from modelengine_runtime import hub

    repository = hub.Repository(wanted.where, wanted.revision)
    if found := _found(repository):
        return found
    with repository.locked(on_wait=lambda: progress.enter(Stage.WAITING)):
        if found := _found(repository):
            return found
        repository.tidy()
        files = repository.plan()
        repository.check_space(files)
        measure = partial(_measured, repository, files)
        progress.enter(Stage.DOWNLOADING, measure)
        folder = repository.download()
        progress.enter(Stage.CHECKING, measure)
        source.check(folder)
        return folder


def _found(repository: Repository) -> Path | None:
    """The folder in the cache, where it needs no download."""
    folder = repository.cached()
    if folder is None:
        return None
    try:
        source.check(folder)
    except errors.ModelLoadError as broken:
        log.warning("the copy in the cache is no use: %s", broken)
        return None
    return folder


def _measured(repository: Repository, files: Sequence[File]) -> tuple[int, int]:
    return repository.there(files), sum(file.size for file in files)


def _in_background(work: Callable[[], Path], progress: Progress) -> Path:
    """The result of `work`, and a line in the log from time to time. The main thread stays free for signals."""
    outcome: queue.SimpleQueue[Path | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except BaseException as failure:
            outcome.put(failure)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    while True:
        try:
            result = outcome.get(timeout=TELL_EVERY_S)
        except queue.Empty:
            log.info("%s", _sentence(progress))
            continue
        if isinstance(result, BaseException):
            raise result
        return result


def _sentence(progress: Progress) -> str:
    """`downloading: 1234 of 5678 bytes (21 %)`"""
    now = progress.report
    if not now["total"]:
        return str(now["stage"])
    return f"{now['stage']}: {now['bytes']} of {now['total']} bytes ({100 * now['bytes'] // now['total']} %)"


def _serve(progress: Progress, host: str, port: int) -> None:
    """Answers `/loading` until the process ends. Raises PortTaken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path.partition("?")[0] == LOADING_PATH
            known = wire.ok(progress.report)
            body = wire.encode(known if is_known else wire.error(errors.NotFound(f"only {LOADING_PATH} is served yet")))
            self.send_response(200 if is_known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Who asks every second is no news."""

    server = ThreadingHTTPServer((host, port), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = programs.listen(host, port)
    threading.Thread(target=server.serve_forever, name="loading", daemon=True).start()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    print("stopped before the model was complete", file=sys.stderr, flush=True)
    # Threads that wait for the network would hold up an orderly exit.
    os._exit(STOPPED)


if __name__ == "__main__":
    code = programs.exit_code(main)
    sys.stderr.flush()
    os._exit(code)
