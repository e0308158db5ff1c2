from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.base.errors import UsageError
from benchmarks.base.machine import (
    check_device_name,
    hold_device,
    memory,
    n_cores,
    n_threads,
    peak_memory,
    prepare_arithmetic,
    reset_peak_memory,
)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's runtime folder, on a machine with two GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("benchmarks.base.machine._gpu_name", lambda index: f"test-{index}")
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    return tmp_path / "runtime"


@pytest.mark.usefixtures("runtime")
def test_each_training_holds_a_gpu_of_its_own() -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(hold_device("cuda")) for _ in range(2)]
        assert held == ["cuda:0", "cuda:1"]
        with hold_device("cuda") as shared:
            assert shared in held
    with hold_device("cuda") as free:
        assert free == "cuda:0"


@pytest.mark.parametrize("loose", [True, False], ids=["others can enter the runtime folder", "it is the user's own"])
def test_gpus_are_locked_in_a_folder_of_the_user(runtime: Path, loose: bool) -> None:
    runtime.chmod(0o755 if loose else 0o700)
    folder = runtime.parent / "cache" / f"locks-{os.getuid()}" if loose else runtime / "sen-bench"
    with hold_device("cuda") as held:
        assert held == "cuda:0"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in folder.iterdir()] == [f"{os.uname().nodename}-test-0.lock"]


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def give_away(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)


@pytest.mark.parametrize("spoil", [link, open_to_others, give_away])
def test_no_gpu_is_locked_where_others_can_meddle(
    runtime: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    if spoil is give_away and os.geteuid():
        pytest.skip("only root can give a folder away")
    spoil(runtime / "sen-bench")
    with hold_device("cuda") as held, hold_device("cuda") as again:
        assert held == again
    assert f"{runtime / 'sen-bench'} cannot be used (it is no folder that only you can enter" in caplog.messages[0]
    assert not list((runtime / "sen-bench").iterdir())


@pytest.mark.parametrize("device", ["cpu", "cuda:3"])
def test_device_that_was_named_is_given(device: str) -> None:
    with hold_device(device) as held, hold_device(device) as again:
        assert held == again == device


@pytest.mark.parametrize("name", ["cuda:", "cuda:\u0661", "gpu"])
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="There is no device"):
        check_device_name(name)


@pytest.mark.parametrize("setting", ["²", "0", "two"])
def test_a_setting_that_is_no_number_of_threads_is_ignored(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert n_threads() == n_cores()


def test_a_machine_without_a_folder_for_temporary_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc"])
    with pytest.raises(UsageError, match="set TMPDIR"):
        prepare_arithmetic(1)


def test_provenance_names_the_instruction_set() -> None:
    code = "from benchmarks.base.machine import provenance; print(provenance()['cpu_capability'])"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "DEFAULT\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget the peak")
def test_peak_memory_is_that_since_the_reset() -> None:
    large = np.ones(60_000_000)  # 480 MB
    with_large = peak_memory()
    del large
    reset_peak_memory()
    assert peak_memory() < with_large - 300e6


def test_memory_is_that_of_the_machine_or_of_its_container(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for content, expected in (("max\n", installed), ("1048576\n", 1 << 20), (f"{installed * 2}\n", installed)):
        monkeypatch.setattr(Path, "read_text", lambda _, content=content: content)
        assert memory("cpu") == expected
