"""A model's files on the hub and in its cache: what is missing, whether it fits, and what to do where it fails.

The one place that knows the hub's library. `source.resolve` downloads with it as any tool does; `fetch` takes care
besides of many pods that share one cache.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_cached_repo_tree, get_token, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    DryRunError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from modelengine.errors import ModelLoadError

log = logging.getLogger(__name__)

# Weights in safetensors only: loading a pickle (.bin) can run code.
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
WORKERS = 4
# A download that lives writes more often than this, its retries included; the library never goes on with a file that
# an ended process has left.
LEFTOVER_S = 120.0
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_USABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
MAKE_ROOM = "make room, or give a larger disk: HF_HOME says which one"


@dataclass(frozen=True, slots=True)
class File:
    """Where a file of the model will stand, and whether it has to come over the network."""

    path: Path
    size: int
    is_missing: bool


class Repository:
    """One model at one revision, and its place in the cache. All its methods raise ModelLoadError alone."""

    def __init__(self, name: str, revision: str | None) -> None:
        # Its warnings name addresses that carry a signature; what matters is in our own errors.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        self.name = name
        self.revision = revision
        self._cache = Path(constants.HF_HUB_CACHE)
        with self._explained():
            self._folder = self._cache / repo_folder_name(repo_id=name, repo_type="model")

    def download(self, *, shows_bars: bool = False) -> Path:
        """The folder with all files, of which those that the cache lacks come from the hub."""
        (enable_progress_bars if shows_bars else disable_progress_bars)()
        with self._explained():
            return Path(
                snapshot_download(self.name, revision=self.revision, allow_patterns=list(FILES), max_workers=WORKERS)
            )

    def cached(self) -> Path | None:
        """The folder, where the cache has every file in its full size. Asks nobody."""
        with self._explained():
            try:
                folder = snapshot_download(
                    self.name, revision=self.revision, allow_patterns=list(FILES), local_files_only=True
                )
            except LocalEntryNotFoundError:
                return None
            return None if self._damaged(Path(folder)) else Path(folder)

    def plan(self) -> Sequence[File]:
        """Every file of the model; asks the hub."""
        disable_progress_bars()
        with self._explained():
            found = snapshot_download(
                self.name, revision=self.revision, allow_patterns=list(FILES), max_workers=WORKERS, dry_run=True
            )
        return [File(Path(file.local_path), file.file_size or 0, file.will_download) for file in found]

    def check_space(self, files: Sequence[File]) -> None:
        """Raises where the missing files will not fit."""
        needed = sum(file.size for file in files if file.is_missing)
        free = shutil.disk_usage(self._made(self._cache)).free
        if needed > free:
            raise self._error(f"{needed} bytes are needed in {self._cache}, {free} are free; {MAKE_ROOM}")

    def there(self, files: Sequence[File]) -> int:
        """How many bytes of the files have come, those on their way included, whoever downloads them."""
        complete = sum(file.size for file in files if file.path.exists())
        return min(complete + sum(_size(path) or 0 for path in self._incomplete()), sum(file.size for file in files))

    @contextmanager
    def locked(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """For one process at a time of all that share the cache. Without effect where a file system has no locks."""
        with self._explained():
            lock = (self._made(self._cache / ".locks") / f"{self._folder.name}.modelengine.lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as failure:
                log.info("no locks in %s (%s)", self._cache, failure.strerror)
            yield

    def tidy(self) -> None:
        """Removes what only takes space: files of ended downloads, and files that are not as long as they should be."""
        with self._explained():
            for path in self._incomplete():
                if _age_s(path, time.time()) > LEFTOVER_S:
                    path.unlink(missing_ok=True)
            for folder in self._folder.glob("snapshots/*"):
                for path in self._damaged(folder):
                    log.warning("%s is cut off or damaged, it will be downloaded again", path)
                    path.resolve().unlink(missing_ok=True)
                    path.unlink(missing_ok=True)

    def _damaged(self, folder: Path) -> list[Path]:
        """The folder's files that are not as long as the hub has told; a machine that lost its power leaves such."""
        try:
            told = get_cached_repo_tree(self.name, revision=folder.name)
        except CachedRepoTreeNotFoundError:
            return []
        return [
            path
            for file in told
            if _is_wanted(file.path) and _size(path := folder / file.path) not in (None, file.size)
        ]

    def _incomplete(self) -> list[Path]:
        return list(self._folder.glob("blobs/*.incomplete"))

    def _made(self, folder: Path) -> Path:
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ModelLoadError:
            raise
        except Exception as failure:  # The library that fetches large files raises plain ones.
            raise self._error(self._why(_root(failure))) from failure

    def _error(self, why: str) -> ModelLoadError:
        return ModelLoadError(f"model {self.name!r}: {why}")

    def _why(self, failure: BaseException) -> str:
        """What happened, and what to do about it."""
        match failure:
            case GatedRepoError():
                return f"it is gated; ask for access at {endpoint()}/{self.name} and {_token_hint()}"
            case RepositoryNotFoundError():
                return f"the hub {endpoint()} does not have it, or it is private; check the name, or {_token_hint()}"
            case RevisionNotFoundError():
                return f"the hub {endpoint()} has it, but no revision {self.revision!r}; give a branch, tag or commit"
            case HfHubHTTPError() if failure.response.status_code in (401, 403):
                return f"the hub {endpoint()} refuses ({failure.response.status_code}); {_token_hint()}"
            case HfHubHTTPError() if failure.response.status_code < 500:
                return f"the hub {endpoint()} answers {failure.response.status_code}; try again later"
            case OfflineModeIsEnabled() | LocalEntryNotFoundError():
                return f"no complete copy in {self._cache}, and HF_HUB_OFFLINE forbids to ask the hub"
            case OSError() if failure.errno in DISK_FULL:
                return f"the disk of {self._cache} is full; {MAKE_ROOM}"
            case OSError() if failure.errno in NOT_USABLE:
                who = f"user {os.getuid()}, group {os.getgid()}"
                return f"can't use {self._cache} ({failure.strerror}); it must be a folder that {who} may write"
            case httpx2.TransportError() | HfHubHTTPError():
                return (
                    f"the hub {endpoint()} can't be reached and no copy is cached ({type(failure).__name__}); "
                    "set HF_ENDPOINT to a mirror, or give a folder"
                )
            case OSError() if "Consistency check" in str(failure):
                return f"a file from the hub {endpoint()} was cut off on its way; try again"
            case HFValidationError():
                return f"no name of the hub: {failure}"
        return f"the download from {endpoint()} failed: {_without_token(' '.join(str(failure).split()))}"


def endpoint() -> str:
    """The hub's address, without a password that may stand in it."""
    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _is_wanted(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in FILES)


def _root(failure: BaseException) -> BaseException:
    """What the library's own "can't be found locally" came from, where it says so."""
    wraps = isinstance(failure, DryRunError | LocalEntryNotFoundError) and failure.__cause__ is not None
    return _root(failure.__cause__) if wraps else failure  # type: ignore[arg-type]  # not None, as just checked


def _token_hint() -> str:
    return "give the token of an account that may read it: HF_TOKEN" if _token() else "give a token: HF_TOKEN"


def _without_token(text: str) -> str:
    token = _token()
    return text.replace(token, "***") if token else text


def _token() -> str | None:
    try:
        return get_token()
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _age_s(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0
