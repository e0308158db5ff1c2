from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache
from benchmarks.cache import DamagedCache, cache_folder, load_or_build, read_arrays, write_arrays
from benchmarks.errors import UsageError
from benchmarks.files import file_digest

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


DAMAGES = [cut, flip, change_version, half_write, garble_manifest, replace_manifest, lose_array]


def test_round_trip(tmp_path):
    write(tmp_path / "x")
    arrays, meta = read_arrays(tmp_path / "x")
    assert meta == {"made": "here"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert not array.flags.writeable


def test_pieces_are_joined(tmp_path):
    pieces = [{"x": np.full((n, 2), n, dtype=np.int32)[:, ::-1], "y": np.arange(n)} for n in (3, 0, 5)]
    write_arrays(tmp_path / "x", iter(pieces), {})
    arrays, _ = read_arrays(tmp_path / "x")
    for name in ("x", "y"):
        np.testing.assert_array_equal(arrays[name], np.concatenate([piece[name] for piece in pieces]))


def test_writing_replaces(tmp_path):
    write_arrays(tmp_path / "x", [{"old": np.arange(3)}], {})
    write(tmp_path / "x")
    assert read_arrays(tmp_path / "x")[0].keys() == ARRAYS.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(tmp_path, damage):
    write(tmp_path / "x")
    damage(tmp_path / "x")
    with pytest.raises(DamagedCache):
        read_arrays(tmp_path / "x")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired_and_said(tmp_path, monkeypatch, caplog, damage):
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
    np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])


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
from benchmarks.cache import DamagedCache, read_arrays, write_arrays
folder = Path(sys.argv[1])
for _ in range(40):
    write_arrays(folder, [{"a": np.arange(1000)}], {})
    try:
        arrays, _ = read_arrays(folder)
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


def test_digest():
    assert cache.digest(a=1, b=2.5) == cache.digest(b=2.5, a=1)
    assert cache.digest(a=1) != cache.digest(a=2)
