from __future__ import annotations

import errno
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.base import cache
from benchmarks.base.cache import DamagedCache, cache_folder, load_or_build, read_arrays, write_arrays
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.files import file_digest
from benchmarks.base.locks import lock

ARRAYS = {
    "a": np.arange(1000, dtype=np.float32).reshape(250, 4),
    "b": np.array([3, 1, 2], dtype=np.uint8),
    "none": np.zeros((0, 3)),
}


def write(folder: Path) -> None:
    write_arrays(folder, [ARRAYS], {"made": "here"})


def cut(folder: Path) -> None:
    content = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(content[:-4])


def flip(folder: Path) -> None:
    content = bytearray((folder / "a.npy").read_bytes())
    content[-1] ^= 1
    (folder / "a.npy").write_bytes(content)


def change_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))


def half_write(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[")


def replace_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def lose_array(folder: Path) -> None:
    (folder / "b.npy").unlink()


def add_array(folder: Path) -> None:
    (folder / "c.npy").write_bytes(b"")


def lose_entry(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["arrays"]["b.npy"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def lose_hash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["arrays"]["b.npy"]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make_manifest_a_folder(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


def make_array_a_folder(folder: Path) -> None:
    (folder / "b.npy").unlink()
    (folder / "b.npy").mkdir()


def nest_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


DAMAGES = {
    cut: r"a\.npy is 4124 bytes long, not 4128",
    flip: r"a\.npy is altered",
    change_version: r"written by another version \(format 0, this is 1\)",
    half_write: r"manifest\.json is missing",
    garble_manifest: r"manifest\.json is cut or altered",
    replace_manifest: r"manifest\.json is altered",
    lose_array: r"b\.npy is missing",
    add_array: r"c\.npy was added",
    lose_entry: r"b\.npy was added",
    lose_hash: r"is altered \('sha256'\)",
    make_manifest_a_folder: r"manifest\.json cannot be read \(Is a directory\)",
    make_array_a_folder: r"b\.npy (is \d+ bytes long|cannot be read)",
    nest_manifest: r"manifest\.json is cut or altered",
}


def test_round_trip(tmp_path):
    write(tmp_path / "x")
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["meta"] == {"made": "here"}
    arrays = read_arrays(tmp_path / "x")
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert not array.flags.writeable


def test_pieces_are_joined(tmp_path):
    pieces = [{"x": np.full((n, 2), n, dtype=np.int32)[:, ::-1], "y": np.arange(n)} for n in (3, 0, 5)]
    write_arrays(tmp_path / "x", iter(pieces), {})
    arrays = read_arrays(tmp_path / "x")
    for name in ("x", "y"):
        np.testing.assert_array_equal(arrays[name], np.concatenate([piece[name] for piece in pieces]))


def test_writing_replaces(tmp_path):
    write_arrays(tmp_path / "x", [{"old": np.arange(3)}], {})
    write(tmp_path / "x")
    assert read_arrays(tmp_path / "x").keys() == ARRAYS.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    """A build is abandoned if nobody holds its lock, however old it is."""
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path))
    key = "0123456789abcdef" * 2
    left = [f".graphs-{key}.0a1b2c3d", f".crystals-{key}.0a1b2c3d.old", f".prototypes-{key}.0a1b2c3d"]
    others = [
        ".oh-my-zsh",
        ".vscode-server",
        f".graphs-{key}",
        f".graphs-{key}.0a1b2c3d.mine",
        f"graphs-{key}.0a1b2c3d",
    ]
    under_way = f".crystals-{key[::-1]}.ffffffff"
    for name in (*left, *others, under_way):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    os.utime(tmp_path / under_way, (0, 0))
    with lock(tmp_path / f".crystals-{key[::-1]}.lock"):
        load_or_build(f"prototypes-{key}", lambda: [ARRAYS], {})
    found = {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert found == {*others, under_way, f"prototypes-{key}"}


def test_nothing_is_removed_where_no_build_can_be_locked(tmp_path, monkeypatch):
    def flock(_descriptor, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path))
    temporary = tmp_path / f".graphs-{'0' * 32}.0a1b2c3d"
    temporary.mkdir()
    arrays = load_or_build("x", lambda: [ARRAYS], {})
    np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])
    assert temporary.is_dir()


def test_a_system_that_refuses_processes_is_not_taken_for_a_cache_that_cannot_be_written(tmp_path):
    def pieces():
        yield ARRAYS
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with pytest.raises(RunError, match=r"Resource temporarily unavailable.*--jobs 1"):
        write_arrays(tmp_path / "x", pieces(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.items())
def test_damage_is_found(tmp_path, damage, problem):
    write(tmp_path / "x")
    damage(tmp_path / "x")
    with pytest.raises(DamagedCache, match=problem):
        read_arrays(tmp_path / "x")


FILES = ["a.npy", "b.npy", "none.npy", "manifest.json"]


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
def test_a_cut_is_called_a_cut(file, share):
    with (
        # The line feed at the end of the manifest is no loss.
        damaged(file, lambda content: content[: int(share * len(content.rstrip(b"\n")))]) as folder,
        pytest.raises(DamagedCache, match=rf"{file} is (\d+ bytes long, not \d+: it is cut|cut)"),
    ):
        read_arrays(folder)


@given(st.sampled_from(FILES[:3]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_is_called_an_alteration(file, share, bit):
    with (
        damaged(file, lambda content: flipped(content, share, bit)) as folder,
        pytest.raises(DamagedCache, match=rf"{file} is altered: its hash"),
    ):
        read_arrays(folder)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_in_the_manifest_is_found_or_changes_no_array(share, bit):
    """Only a manifest's meta, which is for people, can change unseen."""
    with damaged("manifest.json", lambda content: flipped(content, share, bit)) as folder:
        try:
            arrays = read_arrays(folder)
        except DamagedCache:
            return
        assert arrays.keys() == ARRAYS.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[name])


def flipped(content: bytes, share: float, bit: int) -> bytes:
    changed = bytearray(content)
    changed[int(share * len(content))] ^= 1 << bit
    return bytes(changed)


@contextmanager
def damaged(file: str, change: Callable[[bytes], bytes]) -> Iterator[Path]:
    """A cache in which the content of one file is changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "x"
        write(folder)
        (folder / file).write_bytes(change((folder / file).read_bytes()))
        yield folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_may_not_be_read_is_named(tmp_path, file):
    write(tmp_path / "x")
    (tmp_path / "x" / file).chmod(0)
    with pytest.raises(DamagedCache, match=rf"{file} cannot be read \(Permission denied\)"):
        read_arrays(tmp_path / "x")


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.items())
def test_damage_is_repaired_with_a_warning(tmp_path, monkeypatch, caplog, damage, problem):
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path))
    built = []

    def build():
        built.append(1)
        return [ARRAYS]

    load_or_build("x", build, {})
    load_or_build("x", build, {})
    assert len(built) == 1
    assert not caplog.records
    damage(tmp_path / "x")
    with caplog.at_level(logging.WARNING, "sen_bench"):
        arrays = load_or_build("x", build, {})
    assert len(built) == 2
    assert len(caplog.records) == 1
    assert str(tmp_path / "x") in caplog.text
    assert re.search(problem, caplog.text)
    np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])


def test_a_cache_that_is_damaged_as_soon_as_it_is_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "put_in_place", lambda temporary, folder: (temporary.rename(folder), cut(folder)))
    with pytest.raises(RunError, match=r"damaged as soon as it is written \(a\.npy is 4124 bytes long"):
        load_or_build("x", lambda: [ARRAYS], {})


BUILD = """
import os, sys, time
import numpy as np
from benchmarks.base.cache import load_or_build

def build():
    print(f"{os.getpid()} builds", flush=True)
    for i in range(20):
        time.sleep(float(sys.argv[2]) / 20)
        yield {"a": np.arange(1000)}

arrays = load_or_build(sys.argv[1], build, {})
assert (arrays["a"] == np.tile(np.arange(1000), 20)).all()
"""
NAME = f"graphs-{'0' * 32}"


def building(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that builds the cache NAME in a folder, or waits for one that does."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, NAME, str(seconds)],
        env=os.environ | {"SEN_BENCH_CACHE": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.deep
def test_processes_that_start_at_once_build_a_cache_once(tmp_path):
    for i in range(3):
        processes = [building(tmp_path / str(i), 0.1) for _ in range(6)]
        outputs = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * 6, outputs
        assert sum(out.count("builds") for out, _ in outputs) == 1
        assert sorted(path.name for path in (tmp_path / str(i)).iterdir()) == [f".{NAME}.lock", NAME]


def test_those_who_wait_go_on_when_the_builder_is_killed(tmp_path):
    builder = building(tmp_path, 60)
    assert builder.stdout.readline() == f"{builder.pid} builds\n"
    waiting = building(tmp_path, 0)
    message = waiting.stderr.readline()
    assert f"Another process ({builder.pid} on " in message
    assert f"is building the cache {tmp_path / NAME}: waiting for it." in message
    assert len(list(tmp_path.glob(f".{NAME}.????????"))) == 1
    builder.kill()
    out, err = waiting.communicate()
    assert (waiting.returncode, out, err) == (0, f"{waiting.pid} builds\n", "")
    builder.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def test_failed_build_leaves_nothing(tmp_path):
    def pieces():
        yield ARRAYS
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_arrays(tmp_path / "x", pieces(), {})
    assert not list(tmp_path.iterdir())


def test_nothing_is_unpickled(tmp_path):
    write(tmp_path / "x")
    np.save(tmp_path / "x" / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    path = tmp_path / "x" / "a.npy"
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    manifest["arrays"]["a.npy"] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    (tmp_path / "x" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedCache):
        read_arrays(tmp_path / "x")


def test_unwritable_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"file.*SEN_BENCH_CACHE"):
        load_or_build("x", lambda: [ARRAYS], {})


WRITE_AND_READ = """
import sys
from pathlib import Path
import numpy as np
from benchmarks.base.cache import DamagedCache, read_arrays, write_arrays
folder = Path(sys.argv[1])
for _ in range(40):
    write_arrays(folder, [{"a": np.arange(1000)}], {})
    try:
        arrays = read_arrays(folder)
    except DamagedCache:  # caught the other process between its two renames
        continue
    assert (arrays["a"] == np.arange(1000)).all()
"""


def test_two_processes_write_the_same_key(tmp_path):
    command = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path / "x")]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    read_arrays(tmp_path / "x")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SEN_BENCH_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("SEN_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sen-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "sen-bench"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 54321)  # a user without an entry in passwd
    with pytest.raises(UsageError, match="no home folder: set SEN_BENCH_CACHE"):
        cache_folder()


def test_digest():
    assert cache.digest(a=1, b=2.5) == cache.digest(b=2.5, a=1)
    assert cache.digest(a=1) != cache.digest(a=2)
