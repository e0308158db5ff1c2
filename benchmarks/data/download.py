"""Downloads of official data files: resumed where they stopped, kept only with the right hash."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import DataError, SenBenchError, UsageError, printable
from benchmarks.base.files import file_digest, is_full
from benchmarks.base.locks import lock
from benchmarks.base.text import whole_number
from benchmarks.data.tasks import DATA_DIR_VARIABLE, Task

if TYPE_CHECKING:
    from requests import Response

    from benchmarks.base.workers import Progress

__all__ = ["fetch"]

CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0
TRIES = 5
#: Seconds before the second try; each pause is twice as long as the one before.
PAUSE = 1.0

#: A longer answer is not the file: the largest official one, matbench_mp_e_form, has less than 200 MB.
MOST_BYTES = 2**30

_CHUNK = 2**16
#: After a try that brings this many bytes, the tries start over.
_PROGRESS = 10**6
_ANOTHER_FOLDER = f"name another folder with --data-dir or {DATA_DIR_VARIABLE}"
_ELSEWHERE = f"get the file elsewhere and name its folder with --data-dir or {DATA_DIR_VARIABLE}"

_log = logging.getLogger("sen_bench")


def fetch(task: Task, folder: Path, progress: Progress | None = None) -> Path:
    """Download the official file of a task into a folder, unless the folder has it.

    An incomplete file is kept in the cache, outside `folder`: the next call continues it. If several processes call
    this function, one downloads while the others wait.

    Args:
        task: A task with an official file.
        folder: Folder for the file; it is created if necessary. A file of that name with another hash is replaced.
        progress: Called with the megabytes (10^6 bytes) downloaded.

    Returns:
        Path of the file, whose hash was checked.

    Raises:
        UsageError: A folder cannot be written, or the task has no official file.
        DataError: The file cannot be obtained: no connection, an error of the host, a wrong hash, a full disk.
    """
    import pooch

    if task.url is None or task.sha256 is None:
        raise UsageError(f"{task.file_name} cannot be downloaded, {task.name} has no official file; {_ELSEWHERE}.")
    pooch.get_logger().setLevel(logging.WARNING)
    part = cache_folder() / "downloads" / f"{task.sha256}.part"
    with _one_at_a_time(part, task.file_name):
        while True:
            downloader = _Downloader(task.file_name, part, progress)
            try:
                pooch.retrieve(
                    task.url,
                    known_hash=f"sha256:{task.sha256}",
                    fname=task.file_name,
                    path=folder,
                    downloader=downloader,
                )
            except OSError as error:
                raise _cannot_write(folder, error, task.file_name, downloader.size, _ANOTHER_FOLDER) from None
            except ValueError:  # pooch found a wrong hash; the part file is gone with pooch's temporary one
                if downloader.continued:
                    _log.warning("What earlier commands left of %s was not usable: starting again.", task.file_name)
                    continue
                raise DataError(
                    f"What {downloader.host} sends as {task.file_name} is not the official file: its sha256 is "
                    f"{downloader.sha256}, the official one {task.sha256}; try again later, or {_ELSEWHERE}."
                ) from None
            return folder / task.file_name


class _Downloader:
    """The downloader that pooch calls: it continues the part file and hands it over when it is complete.

    Attributes:
        continued: Whether the file begins with what an earlier command left.
        host: The host that sent the file, after redirects.
        sha256: Hash of the file handed over.
        size: Bytes of the complete file; None where the host does not say.
    """

    def __init__(self, name: str, part: Path, progress: Progress | None) -> None:
        self.continued = False
        self.host = ""
        self.sha256 = ""
        self.size: int | None = None
        self._name = name
        self._part = part
        self._progress = progress

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Download `url` into `output_file`."""
        self.continued = self._part.exists()
        best, tries = self._n_bytes(), 0
        while True:
            try:
                self._stream(url)
                break
            except _TryFailed as problem:
                tries = 1 if self._n_bytes() >= best + _PROGRESS else tries + 1
                best = max(best, self._n_bytes())
                if tries >= TRIES:
                    kept = " (what came is kept)" if self._n_bytes() else ""
                    raise DataError(
                        f"{self._name} could not be downloaded: {problem}, {tries} times in a row; try again later"
                        f"{kept}, or download {url} by hand and name its folder with --data-dir or {DATA_DIR_VARIABLE}."
                    ) from None
                pause = PAUSE * 2 ** (tries - 1)
                _log.warning("%s; next try in %g s.", problem, pause)
            time.sleep(pause)
        self.sha256 = file_digest(self._part)
        # A rename if both are on one disk; and the file gets the usual permissions: only the user can read pooch's.
        shutil.move(self._part, output_file)

    def _stream(self, url: str) -> None:
        """Request the missing bytes and append them to the part file.

        Raises:
            _TryFailed: Not all of them came; another try may bring more.
            SenBenchError: Another try would not help.
        """
        import requests

        start = self._n_bytes()
        self.host = urlsplit(url).netloc
        # Ranges and lengths count the bytes of the stored file: no encoding may change them on the way.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as response:
                self.host = urlsplit(response.url).netloc
                if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
                    return  # nothing is missing; if it is the wrong file, its hash shows it
                self._append(response, self._check(response, start))
        except requests.ConnectTimeout:
            raise _TryFailed(f"{self.host} cannot be reached (no answer for {CONNECT_SECONDS:g} s)") from None
        except requests.Timeout:
            raise self._stalled() from None
        except requests.ConnectionError as error:
            raise _TryFailed(f"{self.host} cannot be reached ({_root(error)})") from None
        except requests.RequestException as error:
            raise DataError(f"{self._name} could not be downloaded from {self.host} ({error}); {_ELSEWHERE}.") from None

    def _check(self, response: Response, start: int) -> int:
        """Return the byte at which the content of a response begins, which is `start` or 0."""
        status = response.status_code
        if status == HTTPStatus.OK:
            self.continued = False
            self.size = whole_number(response.headers.get("Content-Length", ""))
            return 0
        if status == HTTPStatus.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if span is None or whole_number(span[1]) != start:
                self.continued = False
                self._part.unlink(missing_ok=True)
                raise _TryFailed(f"{self.host} sends other bytes than it was asked for")
            self.size = whole_number(span[2])
            return start
        answer = f"{self.host} answers {status} {printable(response.reason or '')}".rstrip()
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _TryFailed(answer)
        raise DataError(f"{self._name} could not be downloaded: {answer}; {_ELSEWHERE}.")

    def _append(self, response: Response, start: int) -> None:
        """Write the content of a response into the part file from byte `start` on, and check that it is complete."""
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        done = start
        try:
            with self._part.open("ab" if start else "wb") as file:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    file.write(chunk)
                    done += len(chunk)
                    if max(done, self.size or 0) > MOST_BYTES:
                        raise self._endless()
                    if self._progress is not None:
                        self._progress(_megabytes(done), None if self.size is None else _megabytes(self.size))
                file.flush()
                os.fsync(file.fileno())
        except ReadTimeoutError:
            raise self._stalled() from None
        except HTTPError:
            raise self._broke_off() from None
        except OSError as error:
            if is_full(error):
                # Other users of that disk need the space more than we need the part.
                self._part.unlink()
            raise _cannot_write_cache(self._part.parent, error, self._name, self.size) from None
        if self.size is not None and done < self.size:
            raise self._broke_off()

    def _endless(self) -> DataError:
        self._part.unlink()
        return DataError(
            f"What {self.host} sends as {self._name} is not the official file: it has more than "
            f"{_megabytes(MOST_BYTES):,} MB; {_ELSEWHERE}."
        )

    def _n_bytes(self) -> int:
        """Return the number of bytes in the part file."""
        return self._part.stat().st_size if self._part.exists() else 0

    def _stalled(self) -> _TryFailed:
        return _TryFailed(f"{self.host} sends nothing for {STALL_SECONDS:g} s")

    def _broke_off(self) -> _TryFailed:
        of = "" if self.size is None else f" of {self.size:,}"
        return _TryFailed(f"{self.host} breaks off after {self._n_bytes():,}{of} bytes")


class _TryFailed(Exception):  # noqa: N818 - a state of the download that another try repairs, never seen by a user
    """A try failed, but the next one may succeed."""


@contextmanager
def _one_at_a_time(part: Path, name: str) -> Iterator[None]:
    """Lock the part file against other processes and threads, after waiting for one that holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(part.with_suffix(".lock"), f"downloading {name}"))
        except OSError as error:
            raise _cannot_write_cache(part.parent, error, name, None) from None
        yield


def _cannot_write_cache(folder: Path, error: OSError, name: str, size: int | None) -> SenBenchError:
    return _cannot_write(folder, error, name, size, "set SEN_BENCH_CACHE to another folder")


def _cannot_write(folder: Path, error: OSError, name: str, size: int | None, remedy: str) -> SenBenchError:
    """Return the error for a folder that cannot be written, or has no space left for the file."""
    reason = error.strerror or "Permission denied"  # pooch's own PermissionError has only a long message
    if is_full(error):
        megabytes = "" if size is None else f" ({_megabytes(size):,} MB)"
        return DataError(f"There is no space for {name}{megabytes} in {folder} ({reason}): free some, or {remedy}.")
    return UsageError(f"Cannot write {name} to {folder} ({reason}): {remedy}.")


def _root(error: BaseException) -> str:
    """Return the message of the system error that caused an error of requests."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error)


def _megabytes(n_bytes: int) -> int:
    return -(-n_bytes // 10**6)
