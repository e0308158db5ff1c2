"""The machine that a run uses: device, threads, memory, versions."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import platform
import re
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import UsageError
from benchmarks.base.locks import Taken, lock
from benchmarks.base.text import whole_number

__all__ = [
    "check_device_name",
    "hold_device",
    "memory",
    "n_cores",
    "n_threads",
    "peak_memory",
    "pick_device",
    "prepare_arithmetic",
    "provenance",
    "reset_peak_memory",
]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# The packages: only a difference in them from the commit is a difference in what ran.
_PACKAGES = ("sen", "baselines", "benchmarks", "ablations", "reports")


def n_cores() -> int:
    """Return the number of processor cores that this process may use, by its affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


def n_threads() -> int:
    """Return the number of threads to compute with: OMP_NUM_THREADS, else one for each core."""
    return whole_number(os.environ.get("OMP_NUM_THREADS", "")) or n_cores()


def check_device_name(name: str) -> None:
    """Check the name of a device.

    Raises:
        UsageError: The name is not one of auto, cpu, cuda and cuda:N.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise UsageError(f"There is no device {name!r}. Available: auto, cpu, cuda, cuda:N.")


def pick_device(name: str) -> str:
    """Return the device to use, "cpu", "cuda" or "cuda:N"; "auto" takes a GPU where there is one.

    Raises:
        UsageError: There is no such device.
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
    """Yield the device to train on: for "cuda", the first GPU that no other training of this user holds.

    The system releases the lock of a GPU however its holder ends. Where all GPUs are held, one is shared, as where
    locks are refused, with a warning.
    """
    import torch

    if device != "cuda":
        yield device
        return
    count = torch.cuda.device_count()
    with contextlib.ExitStack() as stack:
        index = _hold_gpu(count, stack)
        try:
            yield f"cuda:{os.getpid() % count if index is None else index}"
        finally:
            torch.cuda.empty_cache()


def _hold_gpu(count: int, stack: contextlib.ExitStack) -> int | None:
    """Hold the lock of the first free GPU until the stack is closed; return the GPU, or None if there is none."""
    try:
        folder = _lock_folder()
        for index in range(count):
            with contextlib.suppress(Taken):
                # Several machines may share the folder.
                if stack.enter_context(lock(folder / f"{platform.node()}-{_gpu_name(index)}.lock")):
                    return index
    except OSError as error:
        logging.getLogger("sen_bench").warning(
            "Trainings may share a GPU, because none can be locked: %s cannot be used (%s).",
            error.filename,
            error.strerror,
        )
    return None


def _lock_folder() -> Path:
    """Return the folder for locks of GPUs, which nobody but this user can enter; it is created if it does not exist.

    Raises:
        OSError: It cannot be created, or others can enter it.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # After `su` the variable still names the folder of the other user.
    if runtime.is_absolute() and _is_private(runtime):
        folder = runtime / "sen-bench"
    else:
        folder = cache_folder() / f"locks-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(errno.EPERM, "it is no folder that only you can enter: remove it", str(folder))
    return folder


def _is_private(folder: Path) -> bool:
    """Whether this is a folder, and no link to one, that belongs to this user and that nobody else can enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _gpu_name(index: int) -> str:
    """Return a name of a GPU that does not depend on which GPUs this process may see."""
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)


def prepare_arithmetic(threads: int) -> None:
    """Prepare this process for training on this many CPU threads.

    Denormal numbers, to which unused Gaussians and their gradients decay, are flushed to zero: a processor takes many
    times longer to compute with them. And glibc is set to keep the large blocks of memory that every training step
    frees and takes again; returning them to the system each time made an epoch take half as long again. Other C
    libraries are left alone.

    Raises:
        UsageError: There is no folder for temporary files. Libraries need one, and their errors do not say so.
    """
    import torch

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise UsageError("No folder for temporary files can be written: set TMPDIR to one that can.") from None

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, in convolutions as in matrix products
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def memory(device: str) -> int:
    """Return the memory in bytes of a GPU, or that which this process may use on the CPU."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        return min(installed, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return installed


def reset_peak_memory() -> None:
    """Let `peak_memory` start again, as far as the system supports it (Linux with glibc).

    Otherwise a process that runs several trainings in turn would report the peak of the largest for each.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the largest resident memory of this process in bytes, since its start or the last `reset_peak_memory`."""
    # Not from getrusage: there a worker inherits the peak of the process that started it.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def provenance() -> dict[str, str | None]:
    """Return versions, git commit of the code (None outside a checkout) and machine, for the record of a result.

    They are looked up once in a process, when its first training begins: it has not loaded the code of later commits.
    """
    import torch

    packages = ("sen-bench", "torch", "e3nn", "numpy", "moyopy", "pymatgen", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        # The instruction set that torch uses: with another, sums are rounded differently.
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout of this code, with "-dirty" where the code differs; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
        return done.stdout.strip()

    try:
        # If sen-bench is installed inside another repository, git would return the commit of that one.
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", *_PACKAGES) else "")
    except (OSError, subprocess.SubprocessError):
        return None
