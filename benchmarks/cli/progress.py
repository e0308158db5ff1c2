"""What commands show while crystals are read and models trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.base.console import NotebookLines, count, drawn, duration, figures, make_console
from benchmarks.base.errors import SenBenchError, printable
from benchmarks.results.metrics import METRIC_LABELS, primary_metric
from sen.registry import variant_kind

if TYPE_CHECKING:
    from benchmarks.base.workers import Progress as ProgressCallback
    from benchmarks.data.dataset import Dataset
    from benchmarks.results.run_config import RunConfig
    from benchmarks.training.plans import Plan, PlannedTraining
    from benchmarks.training.pretrained import Start
    from benchmarks.training.trainer import Epoch
    from benchmarks.training.tuning import Trial, Tuning

__all__ = ["RunDisplay", "TrainingDisplay", "TuningDisplay", "first_ids", "recipe", "show_notes", "start_lines"]

# Number of rows that are named where there may be many.
_SHOWN = 5


def recipe(config: RunConfig) -> str:
    """Return a sentence on the epochs, on weight decay and, where the model has it, on dropout."""
    from benchmarks.results.run_config import is_fitted

    if is_fitted(config.variant):
        return "Fitted at once."
    words = [f"Epochs: {config.training.epochs}", f"weight decay: {config.training.weight_decay:g}"]
    if (dropout := getattr(config.model, "dropout", None)) is not None:
        words.append(f"dropout: {dropout:g}")
    return f"{', '.join(words)}."


def first_ids(ids: Sequence[str]) -> str:
    """Return the first ids of a list, for a message: "mb-phonons-0001, mb-phonons-0007, ..."."""
    return ", ".join(map(printable, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")


def show_notes(console: Console, dataset: Dataset) -> None:
    """Print what was changed in the data: rows that are left out or do not train, and isotopes read as hydrogen."""
    if skipped := dataset.skipped:
        console.print(f"{count(len(skipped))} left out because they cannot be used:", soft_wrap=True)
        for row in skipped[:_SHOWN]:
            console.print(f"  row {printable(row.id)} {row.problem}", soft_wrap=True)
        if len(skipped) > _SHOWN:
            console.print(f"  and {len(skipped) - _SHOWN:,} more; config.json in the folder of a run lists all of them")
    if left_out := dataset.left_out:
        rows = count(len(left_out.ids))
        console.print(f"{rows} with formulas of {left_out.task} neither train nor validate.", soft_wrap=True)
    if ids := dataset.read_as_hydrogen:
        verb = "holds" if len(ids) == 1 else "hold"
        what = f"{verb} deuterium or tritium, read as hydrogen"
        console.print(f"{count(len(ids))} {what} ({first_ids(ids)}).", soft_wrap=True)


def start_lines(start: Start) -> Iterator[str]:
    """Say what is taken from another run, and what its weights know of the rows here."""
    drawn = f"; drawn: {', '.join(start.drawn[:_SHOWN])}{', ...' if len(start.drawn) > _SHOWN else ''}"
    yield (
        f"Every training starts from {start.weights}, {start.share:.1%} of the parameters in "
        f"{count(len(start.taken), 'tensor')} of its weights{drawn if start.drawn else ''}."
    )
    known = "may know any row" if start.known is None else f"know the crystals of {count(len(start.known))}"
    if start.weights.record.allow_overlap:
        yield f"These weights {known} of the data (--allow-overlap): the results are labelled and have no rank."
    else:
        yield f"These weights {known} of the data, and of no test row."


class TrainingDisplay(ABC):
    """What a command shows while it trains: a live view on a terminal, and lines that stay in any output.

    A notebook has a line for each training under way in place of the live view.

    `benchmarks.training.execution.execute` calls `epoch`, `end` and `wait`.

    Attributes:
        console: Console that everything is printed on.
        lines_per_training: Number of lines about the epochs of a training, where there is no terminal.
    """

    lines_per_training = 10
    _live: Live | Progress

    def __init__(self) -> None:
        self.console = make_console()
        self._notebook = NotebookLines.find()
        self._unit = ""
        self._ended: set[PlannedTraining] = set()
        # Threads that listen to workers report epochs.
        self._lock = Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self.console.is_terminal:
            self._stack.enter_context(drawn(self._live))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, whatever happened."""
        self._stack.close()
        if self._notebook:
            self._notebook.drop()

    def epoch(self, planned: PlannedTraining, epoch: Epoch) -> None:
        """Show that an epoch has ended; in a file or a pipe, print a line about some of them."""
        with self._lock:
            if planned in self._ended:  # a message of a worker that arrives after its result
                return
            self._advance(planned, epoch)
        if self.console.is_terminal:
            return
        epochs = planned.plan.config.training.epochs
        left = epoch.seconds / epoch.epoch * (epochs - epoch.epoch)
        line = f"{self._progress(planned, epoch)}, epoch {epoch.epoch} of {epochs}, {duration(left)} left"
        if self._notebook:
            self._notebook.show(planned, line)
        elif epoch.epoch % max(1, epochs // self.lines_per_training) == 0:
            self._print(line)

    def end(self, planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError) -> None:
        """Print a line about a training that has ended: its result, or why it failed."""
        with self._lock:
            self._ended.add(planned)
            self._close(planned)
        if self._notebook:
            self._notebook.drop(planned)
        if isinstance(outcome, SenBenchError):
            self._print(f"{self._name(planned)} failed: {outcome}", style="red")
        else:
            self._print(self._result(planned, outcome))

    def wait(self, pending: Sequence[PlannedTraining]) -> None:
        """Say which trainings another process is training."""
        names = "; ".join(map(self._name, pending))
        self._print(f"Another process is training {names}: waiting for it.")

    def _progress(self, planned: PlannedTraining, epoch: Epoch) -> str:
        if math.isnan(epoch.validation):
            return f"{self._name(planned)}: training loss {figures(epoch.train_loss)}"
        return f"{self._name(planned)}: validation {figures(epoch.validation)}{self._unit}"

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, soft_wrap=True)

    @abstractmethod
    def _name(self, planned: PlannedTraining) -> str:
        """Name of a training in lines."""

    @abstractmethod
    def _advance(self, planned: PlannedTraining, epoch: Epoch) -> None:
        """Show a finished epoch in the live view."""

    @abstractmethod
    def _close(self, planned: PlannedTraining) -> None:
        """Take a training that has ended out of the live view."""

    @abstractmethod
    def _result(self, planned: PlannedTraining, record: dict[str, Any]) -> str:
        """The line about a finished training."""


class RunDisplay(TrainingDisplay):
    """What commands show of one run, or of the crystals that they read: progress bars on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._live = self._bars = Progress(
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
        self._bar_of: dict[PlannedTraining, TaskID] = {}

    def progress(self, description: str) -> ProgressCallback:
        """Return a callback (done, total) that draws a bar, from its first call on."""
        bar: TaskID | None = None

        def advance(done: int, total: int | None) -> None:
            nonlocal bar
            if self._notebook and done == total:
                self._notebook.drop(advance)
            elif self._notebook:
                self._notebook.show(advance, f"{description}: {done:,}{f' of {total:,}' if total else ''}")
            if bar is None:
                bar = self._bars.add_task(description, total=total)
            self._bars.update(bar, completed=done, total=total, visible=done != total)

        return advance

    def start(self, plan: Plan, device: str) -> None:
        """Print what is going to be done, and draw a bar for all epochs of all missing trainings."""
        table, task, variant = plan.dataset.table, plan.dataset.task, plan.config.variant
        share = "" if plan.dataset.is_complete else f" ({plan.dataset.coverage:.1%} of the task: partial data)"
        self.console.print(
            f"{task.title}: {len(table):,} crystals{share}, {variant_kind(variant)} {variant}, {device}. "
            f"{len(plan.missing)} of {len(plan.trainings)} trainings to do, in {plan.run.path}"
        )
        show_notes(self.console, plan.dataset)
        if plan.missing:
            self.console.print(recipe(plan.config))
        if plan.start is not None:
            for line in start_lines(plan.start):
                self._print(line)
        if plan.under_way:
            self.console.print(f"Continuing where they were stopped: {'; '.join(map(str, plan.under_way))}.")
        self._unit = f" {task.unit}" if task.unit else ""
        self._epochs = plan.config.training.epochs
        if plan.missing:
            self._all = self._bars.add_task("All epochs", total=self._epochs * len(plan.missing))

    def _name(self, planned: PlannedTraining) -> str:
        return str(planned)

    def _advance(self, planned: PlannedTraining, epoch: Epoch) -> None:
        if planned not in self._bar_of:
            self._bar_of[planned] = self._bars.add_task(self._name(planned), total=self._epochs)
        # A training that continues begins in the middle.
        self._bars.advance(self._all, epoch.epoch - self._completed(planned))
        self._bars.update(self._bar_of[planned], completed=epoch.epoch, description=self._progress(planned, epoch))

    def _close(self, planned: PlannedTraining) -> None:
        if planned in self._bar_of:
            self._bars.advance(self._all, self._epochs - self._completed(planned))
            self._bars.remove_task(self._bar_of.pop(planned))

    def _completed(self, planned: PlannedTraining) -> float:
        """Epochs that the bar of a training shows."""
        return next(task.completed for task in self._bars.tasks if task.id == self._bar_of[planned])

    def _result(self, planned: PlannedTraining, record: dict[str, Any]) -> str:
        name = primary_metric(record["kind"]).name
        chosen = f"best epoch {record['best_epoch']} of {record['epochs']}"
        trained = chosen if record["rows"]["validation"] else count(record["epochs"], "epoch")
        return (
            f"{self._name(planned)}: {METRIC_LABELS[name]} {figures(record['metrics'][name])}{self._unit} "
            f"({trained}, {duration(record['wall_seconds'])})"
        )


class TuningDisplay(RunDisplay):
    """What commands show while they tune recipes: a bar for all trials, and one for each that is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Plan, str] = {}

    @property
    def callbacks(self) -> dict[str, Any]:
        """What `benchmarks.training.tuning.tune` calls."""
        return {
            "on_begin": self.begin,
            "on_epoch": self.epoch,
            "on_end": self.close,
            "on_trial": self.trial,
            "on_wait": self.wait,
        }

    def start_trials(self, tunings: Sequence[Tuning]) -> None:
        """Print what is going to be searched, and draw a bar for all trials."""
        for tuning in tunings:
            fold = tuning.plan.fold(tuning.plan.trainings[0])
            n_known = len(fold.train) + len(fold.validation) + len(fold.calibration)
            self._print(
                f"{tuning.name}: {len(tuning.left)} of {count(tuning.n_trials, 'trial')} to do, in {tuning.folder}. "
                f"{n_known:,} rows to train on, {len(fold.test):,} that judge, all of them training rows. "
                f"Searched: {', '.join(tuning.space)}."
            )
        self._all = self._bars.add_task("All trials", total=sum(len(tuning.left) for tuning in tunings))

    def begin(self, plan: Plan, name: str) -> None:
        """Name the trainings of a trial."""
        self._names[plan] = name

    def epoch(self, planned: PlannedTraining, epoch: Epoch) -> None:
        """Show on a terminal that an epoch has ended."""
        with self._lock:
            if planned not in self._ended:
                self._advance(planned, epoch)

    def close(self, planned: PlannedTraining) -> None:
        """Take a training that has ended out of the bars."""
        with self._lock:
            self._ended.add(planned)
            self._close(planned)

    def trial(self, tuning: Tuning, trial: Trial) -> None:
        """Print a line about a trial that has ended."""
        self._bars.advance(self._all)
        self._print(tuning.describe(trial), style="red" if trial.score is None else "")

    def _name(self, planned: PlannedTraining) -> str:
        name = self._names[planned.plan]
        return f"{name}, seed {planned.training.seed}" if len(planned.plan.trainings) > 1 else name

    def _advance(self, planned: PlannedTraining, epoch: Epoch) -> None:
        if planned not in self._bar_of:
            total = planned.plan.config.training.epochs
            self._bar_of[planned] = self._bars.add_task(self._name(planned), total=total)
        self._bars.update(self._bar_of[planned], completed=epoch.epoch, description=self._progress(planned, epoch))

    def _close(self, planned: PlannedTraining) -> None:
        if planned in self._bar_of:
            self._bars.remove_task(self._bar_of.pop(planned))
