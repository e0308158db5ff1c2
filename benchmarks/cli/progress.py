"""What is said before crystals are read and models trained, and how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.base.console import count, drawn, duration, figures, make_console
from benchmarks.base.errors import SenBenchError
from benchmarks.results.metrics import METRIC_LABELS, primary_metric

if TYPE_CHECKING:
    from benchmarks.base.workers import Progress as ProgressCallback
    from benchmarks.data.dataset import Dataset
    from benchmarks.results.run_config import RunConfig
    from benchmarks.results.store import Training
    from benchmarks.training.plans import Plan, PlannedTraining
    from benchmarks.training.trainer import Epoch

__all__ = ["RunDisplay", "recipe", "show_notes"]

# Rows named where there may be many.
_SHOWN = 5


def recipe(config: RunConfig) -> str:
    """Tell the epochs, and the weight decay and dropout that follow from the training rows unless given."""
    return (
        f"Epochs: {config.training.epochs}, weight decay: {config.training.weight_decay:g}, "
        f"dropout: {config.sen.dropout:g}."
    )


def show_notes(console: Console, dataset: Dataset) -> None:
    """Print what was done to the data: rows left out, and isotopes that the model does not tell apart."""
    if skipped := dataset.skipped:
        console.print(f"{count(len(skipped))} left out because of what is wrong with them:", soft_wrap=True)
        for row in skipped[:_SHOWN]:
            console.print(f"  row {row.id} {row.problem}", soft_wrap=True)
        if len(skipped) > _SHOWN:
            console.print(f"  and {len(skipped) - _SHOWN:,} more; config.json of a run lists all of them")
    if ids := dataset.read_as_hydrogen:
        some = ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
        verb = "holds" if len(ids) == 1 else "hold"
        console.print(f"{count(len(ids))} {verb} deuterium or tritium, read as hydrogen ({some}).", soft_wrap=True)


class RunDisplay:
    """Progress bars on a terminal, one line per finished fold everywhere."""

    def __init__(self) -> None:
        self.console = make_console()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._trainings: dict[Training, TaskID] = {}
        self._ended: set[Training] = set()
        self._unit = ""
        # Epochs are told by threads that listen to workers.
        self._lock = Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._stack.enter_context(drawn(self._bars))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, whatever happened."""
        self._stack.close()

    def progress(self, description: str) -> ProgressCallback:
        """Return a callback (done, total) that draws a bar, from its first call on."""
        bar: TaskID | None = None

        def advance(done: int, total: int | None) -> None:
            nonlocal bar
            if bar is None:
                bar = self._bars.add_task(description, total=total)
            self._bars.update(bar, completed=done, total=total, visible=done != total)

        return advance

    def start(self, plan: Plan, device: str) -> None:
        """Say what is going to be done and draw a bar for all epochs of all missing trainings."""
        table, task = plan.dataset.table, plan.dataset.task
        share = "" if plan.dataset.is_complete else f" ({plan.dataset.coverage:.1%} of the task: partial data)"
        self.console.print(
            f"{task.name}: {len(table):,} crystals{share}, block {plan.config.block_name}, {device}. "
            f"{len(plan.missing)} of {len(plan.trainings)} trainings to do, in {plan.run.path}"
        )
        show_notes(self.console, plan.dataset)
        if plan.missing:
            self.console.print(recipe(plan.config))
        if plan.under_way:
            self.console.print(f"Going on from where they were stopped: {'; '.join(map(str, plan.under_way))}.")
        self._unit = f" {task.unit}" if task.unit else ""
        self._epochs = plan.config.training.epochs
        if plan.missing:
            self._all = self._bars.add_task("All epochs", total=self._epochs * len(plan.missing))

    def epoch(self, planned: PlannedTraining, epoch: Epoch) -> None:
        """Move the bars of a training; where there is no terminal to draw them on, print a line now and then."""
        training = planned.training
        progress = f"{training}: validation {figures(epoch.validation)}{self._unit}"
        with self._lock:
            if training in self._ended:  # a message of a worker that arrives after its result
                return
            if training not in self._trainings:
                self._trainings[training] = self._bars.add_task(f"{training}", total=self._epochs)
            bar = self._bars.tasks[self._bars.task_ids.index(self._trainings[training])]
            # A training that goes on begins in the middle.
            self._bars.advance(self._all, epoch.epoch - bar.completed)
            self._bars.update(bar.id, completed=epoch.epoch, description=progress)
        if not self.console.is_terminal and epoch.epoch % max(1, self._epochs // 10) == 0:
            left = epoch.seconds / epoch.epoch * (self._epochs - epoch.epoch)
            self.console.print(f"{progress}, epoch {epoch.epoch} of {self._epochs}, {duration(left)} left")

    def wait(self, pending: Sequence[PlannedTraining]) -> None:
        """Say which trainings another process is training."""
        trainings = "; ".join(str(planned.training) for planned in pending)
        self.console.print(f"Another process is training {trainings}: waiting for it.")

    def end(self, planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError) -> None:
        """Print the line of a training that ended."""
        training = planned.training
        with self._lock:
            self._ended.add(training)
            if training in self._trainings:
                done = self._bars.tasks[self._bars.task_ids.index(self._trainings[training])].completed
                self._bars.advance(self._all, self._epochs - done)
                self._bars.remove_task(self._trainings.pop(training))
        if not isinstance(outcome, dict):
            self.console.print(f"{training} failed: {outcome}", style="red")
            return
        name = primary_metric(outcome["kind"]).name
        self.console.print(
            f"{training}: {METRIC_LABELS[name]} {figures(outcome['metrics'][name])}{self._unit} "
            f"(best epoch {outcome['best_epoch']} of {outcome['epochs']}, {duration(outcome['wall_seconds'])})"
        )
