"""The machine a run takes place on: device, threads, memory, versions."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.base.errors import UsageError

__all__ = [
    "check_device_name",
    "hold_device",
    "n_cores",
    "n_threads",
    "peak_memory",
    "pick_device",
    "prepare_arithmetic",
    "provenance",
    "reset_peak_memory",
]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# Where the code is: what else differs from the commit is no part of what ran.
_ROOMS = ("sen", "baselines", "benchmarks", "ablations", "reports")


def n_cores() -> int:
    """Number of processor cores this process may use: affinity and container limits count."""
    import joblib

    return int(joblib.cpu_count())


def n_threads() -> int:
    """Number of threads to compute with: OMP_NUM_THREADS, else one for each core."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else n_cores()


def check_device_name(name: str) -> None:
    """Check that a device is called as one may be.

    Raises:
        UsageError: It is not.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"There is no device {name!r}. Available: auto, cpu, cuda, cuda:N.")


def pick_device(name: str) -> str:
    """Return "cpu", "cuda" or "cuda:N" for what was asked: "auto" or one of these.

    Raises:
        UsageError: No such device, or a GPU was asked for and there is none.
    """
    import torch

    check_device_name(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA was asked for (--device), but torch finds no usable GPU here: use --device cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UsageError(f"There is no GPU {index}: torch finds {torch.cuda.device_count()}, counted from 0.")
    return name


@contextlib.contextmanager
def hold_device(device: str) -> Iterator[str]:
    """Give the device to train on: for "cuda" the first GPU that no other training on this machine holds.

    The system frees a GPU's lock however its holder ends. Where all are held, one is shared.
    """
    import torch

    if device != "cuda":
        yield device
        return
    from filelock import FileLock, Timeout

    count = torch.cuda.device_count()
    for index in range(count):
        lock = FileLock(Path(tempfile.gettempdir()) / f"sen-bench-{os.getuid()}-{_gpu_name(index)}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield f"cuda:{index}"
        finally:
            torch.cuda.empty_cache()
            lock.release()
        return
    yield f"cuda:{os.getpid() % count}"


def _gpu_name(index: int) -> str:
    """Name of a GPU that does not depend on which of them this process may see."""
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)


def prepare_arithmetic(threads: int) -> None:
    """Make this process ready for training on so many CPU threads.

    Denormal numbers, to which unused Gaussians and their gradients decay, are flushed to zero: a processor takes many
    times longer over them. And glibc is told to keep the large blocks that training frees and takes again at every
    step; giving them back to the system each time cost half as much again per epoch. Other C libraries are left alone.
    """
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 is to mean float32, in convolutions as in matrix products
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def reset_peak_memory() -> None:
    """Have `peak_memory` forget what this process needed before, as far as the system can (Linux with glibc).

    A process that trains one training after the other would report the largest of them for each.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Largest resident memory of this process in bytes, since its start or the last `reset_peak_memory`."""
    # Not from getrusage, by which a worker inherits the peak of the process that started it.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def provenance() -> dict[str, str | None]:
    """Versions, git commit of the code (None outside a checkout) and machine, for the record of a result.

    Looked up once in a process, when its first training begins: later commits are not of the code that it loaded.
    """
    import torch

    packages = ("sen-bench", "torch", "torch-geometric", "e3nn", "numpy", "moyopy", "pymatgen", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        # Which instructions torch computes with: with others sums are rounded otherwise.
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout that holds this code, with "-dirty" where it differs; None elsewhere."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
        return done.stdout.strip()

    try:
        # Installed below somebody's own repository, git would tell that one's commit.
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", *_ROOMS) else "")
    except (OSError, subprocess.SubprocessError):
        return None
