from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import json
import logging
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError, SenBenchError, UsageError
from benchmarks.data import download
from benchmarks.data.dataset import load_dataset
from benchmarks.data.download import fetch
from benchmarks.data.tasks import TASKS, Task, download_folder, get_task
from tests.benchmarks.conftest import Answer, rocksalts

Command = Callable[..., Answer]

CONTENT = np.random.default_rng(0).bytes(2_500_000)
#: Where a connection ends before its time.
CUT = 1_000_003


class Request(http.server.BaseHTTPRequestHandler):
    """Answers with the next behaviour in the script of the server; the last one is repeated."""

    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers["Range"])
        script = self.server.script
        with self.server.lock:
            behave = script.pop(0) if len(script) > 1 else script[0]
        sent_before = self.server.n_sent
        behave(self)
        self.server.sizes.append(self.server.n_sent - sent_before)

    def start_of_range(self) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        return int(match[1]) if match else 0

    def answer(self, status: int, headers: dict[str, object], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.server.n_sent += len(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A local server that sends CONTENT, more or less; it records each request and how much it sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content = CONTENT
        self.script: list[Callable[[Request], None]] = [good]
        self.ranges: list[str | None] = []
        self.sizes: list[int] = []
        self.n_sent = 0
        self.lock = threading.Lock()
        self.stalled = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def task(self) -> Task:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return replace(get_task("matbench_jdft2d"), url=f"http://{self.host}/matbench_jdft2d.json.gz", sha256=digest)


def good(request: Request, *, stop: int | None = None) -> None:
    """Answer as a good server does, but send only the bytes up to `stop` of those announced."""
    content, start = request.server.content, request.start_of_range()
    if start >= len(content):
        request.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
        return
    headers: dict[str, object] = {"Content-Length": len(content) - start}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    request.answer(206 if start else 200, headers, content[start:stop])


def truncates(request: Request) -> None:
    good(request, stop=request.start_of_range() + CUT)


def truncates_early(request: Request) -> None:
    good(request, stop=request.start_of_range() + 1000)


def stalls(request: Request) -> None:
    truncates(request)
    request.server.stalled.wait(10)


def stalls_at_once(request: Request) -> None:
    request.server.stalled.wait(10)


def ignores_range(request: Request) -> None:
    request.answer(200, {"Content-Length": len(request.server.content)}, request.server.content)


def truncates_and_ignores_range(request: Request) -> None:
    request.answer(200, {"Content-Length": len(request.server.content)}, request.server.content[:CUT])


def sends_another_range(request: Request) -> None:
    content = request.server.content
    headers = {"Content-Length": 100, "Content-Range": f"bytes 0-99/{len(content)}"}
    request.answer(206, headers, content[:100])


def lies(request: Request) -> None:
    request.answer(200, {"Content-Length": 9}, b"something")


def does_not_say_how_much(request: Request) -> None:
    request.answer(200, {}, request.server.content)


def status(code: int) -> Callable[[Request], None]:
    return lambda request: request.answer(code, {"Content-Length": 0})


def never_ends(request: Request) -> None:
    request.answer(200, {})
    with suppress(OSError):  # the client hangs up
        while True:
            request.wfile.write(CONTENT)
            request.server.n_sent += len(CONTENT)


def announces_too_much(request: Request) -> None:
    request.answer(200, {"Content-Length": 10**12}, request.server.content)


def redirects(request: Request) -> None:
    path = "/elsewhere.json.gz"
    if request.path == path:
        good(request)
    else:
        request.answer(302, {"Location": path, "Content-Length": 0})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has its own cache, and waits are short."""
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stalled.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def part_of(task: Task, tmp_path: Path) -> Path:
    return tmp_path / "cache" / "downloads" / f"{task.sha256}.part"


def assert_has(folder: Path, name: str = "matbench_jdft2d.json.gz") -> None:
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == CONTENT


def refusal(task: Task, folder: Path, kind: type[SenBenchError] = DataError) -> str:
    """Call fetch, which must fail with one sentence and leave nothing in the folder; return the sentence."""
    with pytest.raises(kind) as error:
        fetch(task, folder)
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    assert not list(folder.iterdir())
    return message


def test_download_with_progress(server: Server, folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(server.task, folder, lambda done, total: seen.append((done, total)))
    assert path == folder / "matbench_jdft2d.json.gz"
    assert_has(folder)
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert seen == sorted(seen)
    assert seen[0] == (1, 3)
    assert seen[-1] == (3, 3)
    assert not part_of(server.task, tmp_path).exists()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_file_that_is_there_is_not_downloaded_again(server: Server, folder: Path) -> None:
    for _ in range(2):
        fetch(server.task, folder)
    assert server.ranges == [None]


def test_a_folder_is_made(server: Server, tmp_path: Path) -> None:
    fetch(server.task, tmp_path / "new" / "data")
    assert_has(tmp_path / "new" / "data")


@pytest.mark.parametrize("failure", [truncates, stalls], ids=lambda failure: failure.__name__)
def test_what_is_missing_is_asked_for(
    server: Server, folder: Path, failure: Callable[[Request], None], caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [failure, good]
    fetch(server.task, folder)
    assert_has(folder)
    first, second = server.ranges
    assert first is None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    # What stood in a buffer when the connection stalled is lost.
    assert start == CUT if failure is truncates else CUT - 2**16 < start <= CUT
    server.stalled.set()
    assert server.n_sent == CUT + len(CONTENT) - start
    assert "next try in 0.001 s" in caplog.text


def test_answer_that_never_begins_is_a_stall(server: Server, folder: Path) -> None:
    server.script = [stalls_at_once, good]
    fetch(server.task, folder)
    assert_has(folder)


def test_server_that_always_truncates(server: Server, folder: Path, tmp_path: Path) -> None:
    server.script = [truncates_early]
    message = refusal(server.task, folder)
    assert len(server.ranges) == download.TRIES
    assert f"{server.host} breaks off after 5,000 of 2,500,000 bytes, 5 times in a row" in message
    assert "what came is kept" in message
    assert server.task.url in message
    assert "--data-dir or SEN_BENCH_DATA" in message
    assert part_of(server.task, tmp_path).read_bytes() == CONTENT[:5000]

    server.script = [good]
    fetch(server.task, folder)
    assert_has(folder)
    assert server.ranges[-1] == "bytes=5000-"


def test_tries_are_counted_anew_after_progress(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 3)
    server.script = [status(503), truncates, status(503), truncates, status(503), good]
    fetch(server.task, folder)
    assert_has(folder)


def test_server_that_truncates_and_ignores_range_does_not_keep_us_forever(server: Server, folder: Path) -> None:
    server.script = [truncates_and_ignores_range]
    message = refusal(server.task, folder)
    assert "after 1,000,003 of 2,500,000 bytes" in message
    assert len(server.ranges) == download.TRIES


def test_server_that_always_stalls(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.05)
    server.script = [stalls_at_once]
    message = refusal(server.task, folder)
    assert f"{server.host} sends nothing for 0.05 s, 5 times in a row" in message
    assert "kept" not in message


@pytest.mark.parametrize("answer", [ignores_range, sends_another_range], ids=lambda answer: answer.__name__)
def test_a_resumed_download_begins_anew_where_the_server_wants_it_so(
    server: Server, folder: Path, answer: Callable[[Request], None]
) -> None:
    server.script = [truncates, answer, good]
    fetch(server.task, folder)
    assert_has(folder)
    assert server.ranges == [None, f"bytes={CUT}-", None][: 2 if answer is ignores_range else 3]


@pytest.mark.parametrize("answer", [never_ends, announces_too_much], ids=lambda answer: answer.__name__)
def test_an_answer_that_is_too_long_is_not_kept(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Request], None]
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 10 * len(CONTENT))
    server.script = [answer]
    message = refusal(server.task, folder)
    assert f"What {server.host} sends as matbench_jdft2d.json.gz is not the official file: it has more than" in message
    assert len(server.ranges) == 1
    assert not part_of(server.task, tmp_path).exists()


def test_a_whole_part_is_only_checked(server: Server, folder: Path, tmp_path: Path) -> None:
    part = part_of(server.task, tmp_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    fetch(server.task, folder)
    assert_has(folder)
    assert server.n_sent == 0


@pytest.mark.parametrize("left", [CONTENT[:0], b"x" * 1000, CONTENT + b"x"], ids=["empty", "wrong", "too long"])
def test_a_bad_part_of_an_earlier_command_is_thrown_away(
    server: Server, folder: Path, tmp_path: Path, left: bytes
) -> None:
    part = part_of(server.task, tmp_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    fetch(server.task, folder)
    assert_has(folder)
    assert server.ranges[-1] is None


def test_length_that_the_host_does_not_send(server: Server, folder: Path) -> None:
    server.script = [does_not_say_how_much]
    totals = set()
    fetch(server.task, folder, lambda _, total: totals.add(total))
    assert_has(folder)
    assert totals == {None}


def test_encoding_does_not_touch_the_file(server: Server, folder: Path) -> None:
    def declares_gzip(request: Request) -> None:
        assert request.headers["Accept-Encoding"] == "identity"
        headers = {"Content-Length": len(CONTENT), "Content-Encoding": "gzip"}
        request.answer(200, headers, CONTENT)

    server.script = [declares_gzip]
    fetch(server.task, folder)
    assert_has(folder)


def test_wrong_hash(server: Server, folder: Path, tmp_path: Path) -> None:
    server.script = [lies]
    message = refusal(server.task, folder)
    assert server.host in message
    assert server.task.sha256 in message
    assert hashlib.sha256(b"something").hexdigest() in message
    assert "--data-dir" in message
    assert server.ranges == [None]  # a second try would bring the same
    assert not part_of(server.task, tmp_path).exists()


def test_wrong_hash_leaves_the_file_of_that_name(server: Server, folder: Path) -> None:
    (folder / server.task.file_name).write_bytes(b"an older one")
    server.script = [lies]
    with pytest.raises(DataError, match="not the official file"):
        fetch(server.task, folder)
    assert (folder / server.task.file_name).read_bytes() == b"an older one"
    server.script = [good]
    fetch(server.task, folder)
    assert_has(folder)


def test_redirect(server: Server, folder: Path) -> None:
    server.script = [redirects]
    fetch(server.task, folder)
    assert_has(folder)


def test_endless_redirects(server: Server, folder: Path) -> None:
    server.script = [lambda request: request.answer(302, {"Location": "/", "Content-Length": 0})]
    assert "redirects" in refusal(server.task, folder)


@pytest.mark.parametrize("code", [403, 404, 416])
def test_status_that_another_try_does_not_help(server: Server, folder: Path, code: int) -> None:
    server.script = [status(code)]
    message = refusal(server.task, folder)
    assert f"{server.host} answers {code}" in message
    assert len(server.ranges) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_status_that_passes(server: Server, folder: Path, code: int) -> None:
    server.script = [status(code), status(code), good]
    fetch(server.task, folder)
    assert_has(folder)


def test_reason_that_a_host_gives_is_shortened_and_visible(server: Server, folder: Path) -> None:
    def refuse(request: Request) -> None:
        request.send_response(403, "\x1b[2JGo away " * 50)
        request.end_headers()

    server.script = [refuse]
    message = refusal(server.task, folder)
    assert rf"{server.host} answers 403 \x1b[2JGo away" in message
    assert message.isprintable()
    assert message.count("Go away") < 9


def test_status_that_stays(server: Server, folder: Path) -> None:
    server.script = [status(503)]
    assert f"{server.host} answers 503 Service Unavailable, 5 times in a row" in refusal(server.task, folder)


def test_dead_host(folder: Path, server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        task = replace(server.task, url=f"http://127.0.0.1:{port}/file.json.gz")
        message = refusal(task, folder)
    assert f"127.0.0.1:{port} cannot be reached (Connection refused)" in message
    assert f"download {task.url} by hand" in message
    assert not part_of(task, tmp_path).exists()


def test_no_network(folder: Path) -> None:
    message = refusal(get_task("matbench_jdft2d"), folder)
    assert "ml.materialsproject.org cannot be reached (Name or service not known)" in message


def test_pauses_grow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download, "PAUSE", 1.0)
    monkeypatch.setattr("time.sleep", pauses.append)
    refusal(get_task("matbench_jdft2d"), folder)
    assert pauses == [1, 2, 4, 8]


def test_connection_that_is_closed_without_an_answer(server: Server, folder: Path) -> None:
    server.script = [lambda _: None]
    assert "closed connection without response" in refusal(server.task, folder)


def test_disk_full_while_downloading(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fsync)
    message = refusal(server.task, folder)
    assert "no space for matbench_jdft2d.json.gz (3 MB)" in message
    assert f"in {tmp_path / 'cache' / 'downloads'} (No space left on device)" in message
    assert "SEN_BENCH_CACHE" in message
    assert not part_of(server.task, tmp_path).exists()


def test_file_size_limit_while_downloading(server: Server, folder: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
    try:
        message = refusal(server.task, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no space for matbench_jdft2d.json.gz (3 MB)" in message
    assert "File too large" in message
    assert not part_of(server.task, tmp_path).exists()


@pytest.mark.parametrize("failing", [1, 2], ids=["into pooch's file", "into its place"])
def test_disk_full_when_the_file_is_moved(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    moves = 0
    move = shutil.move

    def move_until_full(source: str | Path, target: str | Path) -> None:
        nonlocal moves
        moves += 1
        if moves < failing:
            move(source, target)
            return
        Path(target).write_bytes(CONTENT[:1000])
        Path(target).unlink() if failing == 2 else None  # a rename never leaves a half file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.move", move_until_full)
        message = refusal(server.task, folder)
    assert f"no space for matbench_jdft2d.json.gz (3 MB) in {folder} (No space left on device)" in message
    assert "--data-dir" in message
    assert part_of(server.task, tmp_path).exists() == (failing == 1)
    fetch(server.task, folder)
    assert_has(folder)
    assert server.n_sent == len(CONTENT) * failing


def test_interrupted_and_called_again(server: Server, folder: Path) -> None:
    def interrupt(done: int, _: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.task, folder, interrupt)
    assert not list(folder.iterdir())
    fetch(server.task, folder)
    assert_has(folder)
    start = int(server.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert start > 10**6
    assert server.ranges == [None, f"bytes={start}-"]


@pytest.mark.parametrize("kind", ["folder", "cache"])
def test_a_folder_that_cannot_be_written(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "file").touch()
    blocked = tmp_path / "file" / "below"
    if kind == "cache":
        monkeypatch.setenv("SEN_BENCH_CACHE", str(blocked))
    with pytest.raises(UsageError) as error:
        fetch(server.task, blocked if kind == "folder" else folder)
    assert f"to {blocked}" in str(error.value)
    assert "(Not a directory)" in str(error.value)
    assert ("--data-dir" if kind == "folder" else "SEN_BENCH_CACHE") in str(error.value)
    assert not list(folder.iterdir())


def test_a_folder_without_permission(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    message = refusal(server.task, folder, UsageError)
    assert f"Cannot write matbench_jdft2d.json.gz to {folder} (Permission denied): name another folder" in message


FETCH = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.data.download import fetch
from benchmarks.data.tasks import get_task

fetch(replace(get_task("matbench_jdft2d"), url=sys.argv[1], sha256=sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.fixture
def another_process(server: Server, folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that fetches into the folder."""
    processes = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FETCH, server.task.url, server.task.sha256, folder]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_download_once(
    server: Server, folder: Path, another_process: Callable[[], subprocess.Popen[str]]
) -> None:
    waits = threading.Event()

    def slowly(request: Request) -> None:
        truncates(request)
        assert waits.wait(20)
        request.wfile.write(CONTENT[CUT:])

    server.script = [slowly, good]
    first = another_process()
    while server.n_sent < CUT:
        time.sleep(0.01)
    second = another_process()
    assert second.stderr is not None
    message = second.stderr.readline()
    assert f"Another process ({first.pid} on {os.uname().nodename}) is downloading matbench_jdft2d.json.gz" in message
    waits.set()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert_has(folder)
    assert server.ranges == [None]


def test_killed_and_called_again(
    server: Server, folder: Path, tmp_path: Path, another_process: Callable[[], subprocess.Popen[str]]
) -> None:
    server.script = [stalls, good]
    process = another_process()
    part = part_of(server.task, tmp_path)
    while not part.exists() or part.stat().st_size < CUT - 2**16:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (folder / server.task.file_name).exists()
    fetch(server.task, folder)
    assert (folder / server.task.file_name).read_bytes() == CONTENT
    assert server.ranges[1] is not None


def test_task_without_official_file(folder: Path) -> None:
    own = Task(name="my_gaps", target="gap", unit="eV", kind="regression", description="gaps of my own")
    assert "my_gaps.json.gz cannot be downloaded" in refusal(own, folder, UsageError)


@pytest.fixture
def official(server: Server, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task of a few crystals whose official file is on the local server."""
    rows = rocksalts(5)
    content = {"index": list(range(5)), "columns": ["structure", "exfoliation_en"], "data": rows}
    server.content = gzip.compress(json.dumps(content).encode())
    digest = hashlib.sha256(server.content).hexdigest()
    task = replace(server.task, sha256=digest, n_rows=5)
    for module in ("data.tasks", "cli.display"):
        monkeypatch.setattr(f"benchmarks.{module}.TASKS", {**TASKS, task.name: task})
    return task


def test_data_set_is_downloaded_and_read(
    server: Server, official: Task, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    seen = []
    dataset = load_dataset(official, jobs=1, download_progress=lambda *done: seen.append(done))
    assert dataset.is_complete
    assert len(dataset.table) == 5
    assert seen == [(1, 1)]
    assert (download_folder() / official.file_name).read_bytes() == server.content
    assert f"Downloading {official.url} to {download_folder()}." in caplog.text

    assert len(load_dataset(official, folder, jobs=1).table) == 5
    assert not list(folder.iterdir())
    assert len(server.ranges) == 1


@pytest.mark.parametrize("how", ["--data-dir", "SEN_BENCH_DATA"])
def test_download_goes_to_the_folder_that_is_named(
    server: Server, official: Task, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "SEN_BENCH_DATA":
        monkeypatch.setenv(how, str(folder))
    load_dataset(official, folder if how == "--data-dir" else None, jobs=1)
    assert [path.name for path in folder.iterdir()] == [official.file_name]
    assert not download_folder().exists()
    assert len(server.ranges) == 1


@pytest.mark.usefixtures("official")
def test_commands_download(sen_bench: Command, folder: Path) -> None:
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", folder, "--jobs", 1)
    assert answer.code == 0
    assert "5 crystals (100.0% of the task)" in answer.out
    assert (folder / "matbench_jdft2d.json.gz").is_file()


def test_command_without_network(sen_bench: Command, caplog: pytest.LogCaptureFixture) -> None:
    answer = sen_bench("prepare", "matbench_jdft2d")
    assert answer.code == 1
    assert "ml.materialsproject.org cannot be reached" in answer.err
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * download.TRIES


def test_table_of_tasks_downloads_nothing(sen_bench: Command, server: Server, official: Task, folder: Path) -> None:
    (folder / "matbench_phonons.partial.json.gz").touch()
    (folder / "matbench_mp_gap.json.gz").touch()
    fetch(official, folder)
    answer = sen_bench("tasks", "--data-dir", folder)
    assert answer.code == 0
    states = {line.split()[1]: line for line in answer.out.splitlines() if "matbench_" in line}
    assert "complete" in states["matbench_jdft2d"]
    assert "to download" in states["matbench_dielectric"]
    assert "partial" in states["matbench_phonons"]
    assert "not the official file" in states["matbench_mp_gap"]
    assert len(server.ranges) == 1
