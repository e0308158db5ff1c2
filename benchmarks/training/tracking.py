"""Curves of trainings for TensorBoard, which shows them in a browser while a run goes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.base.errors import UsageError
from benchmarks.training.execution import OnEpoch
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.trainer import Epoch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Log", "check_log", "tracked"]

Log = Literal["tensorboard"]
OnEnd = Callable[[PlannedTraining, Any], None]


def check_log(log: Log | None) -> None:
    """Check that what writes the curves is installed.

    Raises:
        UsageError: It is not.
    """
    if log is None:
        return
    try:
        import torch.utils.tensorboard
    except ImportError:
        raise UsageError(
            '--log tensorboard needs the package tensorboard: pip install "sen-bench[tensorboard]".'
        ) from None
    del torch


@contextmanager
def tracked(log: Log | None, *, on_epoch: OnEpoch, on_end: OnEnd) -> Iterator[dict[str, Any]]:
    """Yield the two callbacks for `benchmarks.training.execution.execute`, which write curves as well.

    Each training has event files of its own, in a folder beside that of its result. The curves are the columns
    `train_loss`, `validation` and `learning_rate` of history.csv, and a training that is continued continues them.
    Files that cannot be written are a warning and do not end a training.

    Args:
        log: What the curves are written for; None: there are none.
        on_epoch: Called after every epoch of every training.
        on_end: Called with each training that ends, and its outcome.
    """
    if log is None:
        yield {"on_epoch": on_epoch, "on_end": on_end}
        return
    tracker = _Tracker()

    def epoch(planned: PlannedTraining, done: Epoch) -> None:
        tracker.write(planned, done)
        on_epoch(planned, done)

    def end(planned: PlannedTraining, outcome: Any) -> None:
        tracker.close(planned)
        on_end(planned, outcome)

    try:
        yield {"on_epoch": epoch, "on_end": end}
    finally:
        tracker.close_all()


class _Tracker:
    def __init__(self) -> None:
        self._writers: dict[PlannedTraining, SummaryWriter] = {}
        self._ended: set[PlannedTraining] = set()
        # Threads that listen to workers report epochs.
        self._lock = Lock()

    def write(self, planned: PlannedTraining, epoch: Epoch) -> None:
        """Write that an epoch has ended."""
        with self._lock, _warned(planned):
            if planned in self._ended:  # a message of a worker that arrives after its result
                return
            if planned not in self._writers:
                self._writers[planned] = _open(planned, epoch.epoch)
            writer = self._writers[planned]
            for name in ("train_loss", "validation", "learning_rate"):
                if not math.isnan(value := getattr(epoch, name)):
                    writer.add_scalar(name, value, epoch.epoch)
            writer.flush()

    def close(self, planned: PlannedTraining) -> None:
        """Close the file of a training that has ended."""
        with self._lock, _warned(planned):
            self._ended.add(planned)
            if writer := self._writers.pop(planned, None):
                writer.close()

    def close_all(self) -> None:
        """Close the files of the trainings that were stopped."""
        for planned in list(self._writers):
            self.close(planned)


def _open(planned: PlannedTraining, epoch: int) -> SummaryWriter:
    """Open a file for the epochs from this one on; those that are there were written after the last saved state."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    plan, training = planned
    fields = dict(_flat(plan.config.model_dump(mode="json"))) | {"seed": training.seed, "fold": training.fold}
    writer = SummaryWriter(str(plan.run.log_path(training)), purge_step=epoch)
    for summary in hparams(fields, {"validation": math.nan}):
        writer._get_file_writer().add_summary(summary)  # noqa: SLF001 - add_hparams would make a run of its own of them
    return writer


@contextmanager
def _warned(planned: PlannedTraining) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        plan, training = planned
        logging.getLogger("sen_bench").warning(
            "%s is not written, and its training continues: %s.", plan.run.log_path(training), error
        )


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | str]]:
    """Yield the fields of a configuration by dotted names, with values that TensorBoard takes."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else str(value)
