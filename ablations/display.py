"""What `sen-bench ablate` shows: the plan, the live view of the grid, the result."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.answers import answers, as_share, how_often_better, n_wanted, seeds_wanted, verdict, with_share
from ablations.detection import Detection, Need
from ablations.grid import Variant
from ablations.judge import Judge, JudgedRows
from ablations.paper import SCALE
from benchmarks.base.console import count, duration, figures, make_console, print_table
from benchmarks.base.errors import SenBenchError
from benchmarks.cli.progress import TrainingDisplay, recipe, show_notes, start_lines
from benchmarks.results.recorded import TUNED_HERE
from benchmarks.results.store import Training

if TYPE_CHECKING:
    from ablations.cost import Cost
    from ablations.results import AblationResult
    from benchmarks.training.plans import Plan, PlannedTraining
    from benchmarks.training.trainer import Epoch

__all__ = ["GridDisplay", "show_first_stage", "show_needs", "show_plan", "show_result"]

_REDRAWN_PER_SECOND = 2
# Narrower terminals show fewer columns; the files have all of them.
_WIDE = 130
_LISTED = 10


@dataclass
class _Line:
    """A line of the live view: the progress of a variant.

    Attributes:
        variant: The variant.
        left: Trainings that have neither finished nor failed.
        scores: Scores of the finished trainings, including those that were finished before.
        failed: Number of trainings that failed.
        under_way: Number of finished epochs of each training under way.
        epoch_seconds: Wall time of an epoch, once known.
    """

    variant: Variant
    left: set[Training]
    scores: list[float] = field(default_factory=list)
    failed: int = 0
    under_way: dict[Training, int] = field(default_factory=dict)
    epoch_seconds: float | None = None

    @property
    def epochs_left(self) -> int:
        """Number of epochs until all trainings are finished."""
        return len(self.left) * self.variant.plan.config.training.epochs - sum(self.under_way.values())


class GridDisplay(TrainingDisplay):
    """What `ablate` shows while it trains: a table of the grid on a terminal.

    Args:
        variants: The grid.
        workers: Trainings at the same time.
        judge: Rows that judge; results on other rows are not shown.
    """

    lines_per_training = 5

    def __init__(self, variants: Sequence[Variant], workers: int, judge: JudgedRows) -> None:
        super().__init__()
        self._lines = {variant.plan: _Line(variant, set(variant.plan.missing)) for variant in variants}
        self._workers = workers
        self._n_missing = sum(len(variant.plan.missing) for variant in variants)
        task = variants[0].plan.dataset.task
        self._judge = Judge(task.kind, judge)
        self._unit = f" {task.unit}" if task.unit else ""
        self._label = _label(self._judge, task.unit)
        for line in self._lines.values():
            plan = line.variant.plan
            done = [each for each in plan.trainings if each not in line.left]
            line.scores = [self._judge.score(plan.run, each, plan.run.read_metrics(each)) for each in done]
        self._start = time.monotonic()
        self._live = Live(
            console=self.console,
            get_renderable=self._view,
            refresh_per_second=_REDRAWN_PER_SECOND,
            transient=True,
        )

    def end(self, planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError) -> None:
        """Print a line about a training that has ended, and count it for its variant."""
        line = self._lines[planned.plan]
        if isinstance(outcome, SenBenchError):
            line.failed += 1
        else:
            line.scores.append(self._judge.score(planned.plan.run, planned.training, outcome))
            line.epoch_seconds = outcome["wall_seconds"] / outcome["epochs"]
        super().end(planned, outcome)

    def _name(self, planned: PlannedTraining) -> str:
        return f"{self._lines[planned.plan].variant}, {planned}"

    def _advance(self, planned: PlannedTraining, epoch: Epoch) -> None:
        line = self._lines[planned.plan]
        line.under_way[planned.training] = epoch.epoch
        line.epoch_seconds = epoch.seconds / epoch.epoch

    def _close(self, planned: PlannedTraining) -> None:
        line = self._lines[planned.plan]
        line.left.discard(planned.training)
        line.under_way.pop(planned.training, None)

    def _result(self, planned: PlannedTraining, record: dict[str, Any]) -> str:
        score = self._lines[planned.plan].scores[-1]
        rows = "" if self._judge.rows == "test" else f"{self._judge.rows} "
        n_left = sum(len(line.left) for line in self._lines.values())
        return (
            f"{self._name(planned)}: {rows}{figures(score)}{self._unit} in {duration(record['wall_seconds'])}; "
            f"{self._n_missing - n_left} of {count(self._n_missing, 'training')} ended{self._time_left()}"
        )

    def _seconds_left(self) -> float | None:
        known = [line.epoch_seconds for line in self._lines.values() if line.epoch_seconds is not None]
        if not known:
            return None
        # For a variant that has not begun, assume the average of the others.
        typical = sum(known) / len(known)
        work = sum(line.epochs_left * (line.epoch_seconds or typical) for line in self._lines.values())
        return work / max(1, min(self._workers, sum(len(line.left) for line in self._lines.values())))

    def _time_left(self) -> str:
        seconds = self._seconds_left()
        return f", about {duration(seconds)} left" if seconds else ""

    def _view(self) -> Group:
        table = Table()
        for heading in ("variant", "done", "failed", "under way", self._label, "epoch", "left"):
            _add_column(table, heading, is_text=heading in {"variant", "under way"})
        for line in self._lines.values():
            plan = line.variant.plan
            seconds = line.epoch_seconds
            under_way = sorted(line.under_way.items())
            table.add_row(
                str(line.variant),
                f"{len(plan.trainings) - len(line.left) - line.failed} of {len(plan.trainings)}",
                str(line.failed or ""),
                "; ".join(f"{training}: {epoch}/{plan.config.training.epochs}" for training, epoch in under_way),
                figures(sum(line.scores) / len(line.scores)) if line.scores else "",
                "" if seconds is None else _seconds(seconds),
                "" if seconds is None or not line.left else duration(line.epochs_left * seconds / self._workers),
            )
        elapsed = duration(time.monotonic() - self._start)
        return Group(table, Text(f"{elapsed} gone{self._time_left()}; Ctrl-C stops, the same command continues."))


def show_plan(variants: Sequence[Variant], costs: Mapping[Plan, Cost], workers: int, source: str) -> None:
    """Print what an ablation would do, and what that would cost.

    Args:
        variants: The grid.
        costs: Cost of a training of each plan that has trainings left to do.
        workers: Number of trainings at the same time.
        source: What the costs were estimated from.
    """
    console = make_console()
    _print_plan(console, variants, costs)
    for variant in variants[:1]:
        show_notes(console, variant.plan.dataset)
    _print_recipes(console, variants)
    if not any(variant.plan.missing for variant in variants):
        console.print("Everything is finished: the command without --dry-run shows the result.")
        return
    n_missing = sum(len(plan.missing) for plan in costs)
    if not n_missing:
        return
    work = sum(cost.training_seconds * len(plan.missing) for plan, cost in costs.items())
    console.print(
        f"{count(n_missing, 'training')} to do, {workers} at a time: about {duration(work / workers)}, estimated from "
        f"{source}. Trainings that stop early (training.patience) or continue from a saved state take less."
    )


def show_first_stage(detection: Detection, costs: Mapping[Plan, Cost], workers: int) -> None:
    """Print what may follow the first seeds of a detection, if anything may.

    Args:
        detection: What is to be found.
        costs: Cost of a training of each plan.
        workers: Number of trainings at the same time.
    """
    if not (more := detection.most - detection.first):
        return
    folds = {plan: len({training.fold for training in plan.trainings}) for plan in costs}
    work = sum(cost.training_seconds * folds[plan] * more for plan, cost in costs.items())
    _print(
        make_console(),
        f"These are the first {detection.first} seeds. Their noise says how many find {100 * detection.share:g} %: "
        f"up to {count(more, 'more seed')} of each variant (--max-seeds {detection.most}), which take about "
        f"{duration(work / workers)}.",
    )


def show_needs(needs: Sequence[Need]) -> None:
    """Print how many seeds each contrast needs, which the first stage of a detection has found."""
    detection = needs[0].detection
    console = make_console()
    title = f"Seeds that find {100 * detection.share:g} %, by the noise of the first {detection.first}"
    columns = ("noise of one seed", "of the rows", "found now", "seeds needed", "seeds in all", "found then")
    rows = []
    for need in needs:
        comparison, noise = need.comparison, need.comparison.noise
        assert noise is not None  # two seeds of each are finished
        rows.append(
            [
                comparison.first,
                comparison.second,
                as_share(math.sqrt(noise.one_seed), comparison),
                as_share(math.sqrt(noise.rows), comparison) if noise.rows else "",
                as_share(comparison.on_these_folds.detectable, comparison),
                n_wanted(need.seeds),
                str(need.trained),
                as_share(need.found, comparison),
            ]
        )
    sides = _sides(("first", "second", *columns), {"first", "second", "seeds needed"})
    print_table(console, title, sides, rows, ("of the rows", "noise of one seed", "found now"))
    _print(
        console,
        "Noise: standard deviation of the difference that other seeds would cause, if each fold had one, and that "
        "other test rows would. Found: the smallest difference that four of five such studies find.",
    )


def _print_plan(console: Console, variants: Sequence[Variant], costs: Mapping[Plan, Cost]) -> None:
    numbers = ("finished", "to do", "of those begun", "parameters", "an epoch", "a training", "all")
    rows = []
    for variant in variants:
        plan, cost = variant.plan, costs.get(variant.plan)
        rows.append(
            [
                str(variant),
                plan.run.path.name,
                str(len(plan.trainings) - len(plan.missing)),
                str(len(plan.missing)),
                str(len(plan.under_way)),
                f"{cost.parameters:,}" if cost else "",
                _seconds(cost.epoch_seconds) if cost else "",
                duration(cost.training_seconds) if cost else "",
                duration(cost.training_seconds * len(plan.missing)) if cost else "",
            ]
        )
    sides = _sides(("variant", "run", *numbers), {"variant", "run"})
    drop = ("of those begun", "parameters", "an epoch", "finished", "a training")
    print_table(console, f"Plan: {variants[0].plan.dataset.task.title}", sides, rows, drop)


def show_result(result: AblationResult, folder: str) -> None:
    """Print the table and the comparisons of an ablation, and where its files are."""
    console = make_console()
    dataset = result.dataset
    compact = console.width < _WIDE
    console.print()
    _print_results(console, result)
    lines = result.parameters()
    rows = [[*line.values()] for line in lines]
    print_table(console, "Parameters", _sides(lines[0], {"variant"}), rows, ())
    if incomplete := [row for row in result.summaries if row.missing]:
        names = "; ".join(
            f"{row.setting} ({row.trainings} of {row.trainings + row.missing} trainings)" for row in incomplete
        )
        _print(console, f"Not complete, and therefore ranked last: {names}.")
    if result.absent:
        _print(console, f"No training is finished of {'; '.join(map(str, result.absent))}.")
    if result.comparisons:
        _show_comparisons(console, result, compact=compact)
    show_notes(console, dataset)
    _print_recipes(console, result.variants)
    if not dataset.is_complete:
        _print(console, f"Partial data: {dataset.coverage:.1%} of the rows of {dataset.task.name}.")
    if result.tuned_here:
        names = "; ".join(result.tuned_here)
        _print(console, f"{TUNED_HERE.capitalize()}: {names}. Some of the test rows may have chosen it.")
    if result.unequal_tuning:
        _print(console, f"{result.unequal_tuning} A comparison is one of models only if each had the same chance.")
    for sentence in _on_limits(result):
        _print(console, sentence)
    console.print(f"Files: {folder}", soft_wrap=True)


def _on_limits(result: AblationResult) -> Iterator[str]:
    """Say on how many training rows variants were trained, if these were limited."""
    if not result.limits:
        return
    rows = " or ".join(f"{limit:,}" for limit in result.limits)
    speaks = any(not comparison.on_new_data.reason for comparison in result.comparisons)
    effect = ", which makes the answer on new data conservative" if speaks else ""
    yield f"Trained on at most {rows} rows of each fold (limit){effect}."
    if "limit" in result.variants[0].setting.values:
        yield (
            "Variants are compared at equal limits alone. `sen-bench report` shows the error against the number of "
            "training rows, in the section learning-curves."
        )


def _print_recipes(console: Console, variants: Sequence[Variant]) -> None:
    """Print what weights the variants start from, and settings that depend on the number of training rows."""
    names_of: dict[str, list[str]] = {}
    for variant in variants:
        starts = [] if variant.plan.start is None else start_lines(variant.plan.start)
        for line in (*starts, recipe(variant.plan.config)):
            names_of.setdefault(line, []).append(str(variant))
    for line, names in names_of.items():
        _print(console, line if len(names) == len(variants) else f"{'; '.join(names)}: {line}")


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=False)


def _print_results(console: Console, result: AblationResult) -> None:
    task = result.dataset.task
    headings = ["variant", _label(result.judge, task.unit), "std, folds", "std, seeds"]
    any_ensemble = any(math.isfinite(row.ensemble) for row in result.summaries)
    has_paper = any(paper is not None for paper in result.paper)
    headings += ["seeds averaged"] if any_ensemble else []
    headings += ["folds", "seeds", "rows", "an epoch", "memory"]
    headings += ["paper, scaled units", "paper, eV"] if has_paper else []
    rows = []
    for row, paper in zip(result.summaries, result.paper, strict=True):
        cells = [str(row.setting), *map(figures, (row.mean, row.std_folds, row.std_seeds))]
        cells += [figures(row.ensemble)] if any_ensemble else []
        cells += [_listed(row.folds), _listed(row.seeds), f"{row.rows:,}", _seconds(row.epoch_seconds)]
        cells.append(f"{row.peak_memory_bytes / 2**30:.1f} GiB")
        if has_paper:
            cells += ["", ""] if paper is None else [f"{paper:.2f}", f"{paper * SCALE:.2f}"]
        rows.append(cells)
    drop = ("memory", "an epoch", "paper, scaled units", "rows", "folds", "seeds", "seeds averaged", "paper, eV")
    title = f"{task.title}: {result.judge.rows} rows"
    print_table(console, title, _sides(headings, {"variant"}), rows, [name for name in drop if name in headings])


def _show_comparisons(console: Console, result: AblationResult, *, compact: bool) -> None:
    if compact:
        _print_comparisons(console, result)
    else:
        console.print(_table_of_comparisons(result))
    for sentence in result.explanations:
        _print(console, sentence)
    if compact:
        _print(console, f"Shares, finds and seeds stand in a terminal of {_WIDE} columns and in the files.")


def _print_comparisons(console: Console, result: AblationResult) -> None:
    """Print the lines that a narrow terminal gets in place of the table, with all that decides a verdict."""
    unit = f" {task.unit}" if (task := result.dataset.task).unit else ""
    _print(console, f"Declared contrasts{f' ({task.split})' if task.split != 'folds' else ''}")
    for comparison in result.comparisons:
        difference = figures(comparison.difference, 3)
        _print(console, f"{comparison.first} less {comparison.second}: {difference}{unit}")
        for question, answer in answers(comparison):
            interval = f"{figures(answer.low, 3)} to {figures(answer.high, 3)}"
            reason = "" if answer.reason else f" (95 % interval {interval}, p {figures(answer.p, 2)})"
            _print(console, f"  {question}: {verdict(answer)}{reason}")
        if comparison.superiority:
            _print(console, f"  first better: {how_often_better(comparison)}")


def _table_of_comparisons(result: AblationResult) -> Table:
    task = result.dataset.task
    split = f" ({task.split})" if task.split != "folds" else ""
    title = f"Declared contrasts{split}{f', in {task.unit}' if task.unit else ''}"
    table = Table(title=title, title_justify="left")
    headings = ["first", "second", "difference", "question", "95 % interval", "p", "verdict", "finds", "seeds"]
    any_share = any(comparison.superiority for comparison in result.comparisons)
    headings += ["first better"] if any_share else []
    texts = {"first", "second", "question", "verdict", "seeds", "first better"}
    for heading in headings:
        _add_column(table, heading, is_text=heading in texts)
    for comparison in result.comparisons:
        difference = comparison.difference
        of_contrast = [comparison.first, comparison.second, with_share(difference, comparison)]
        for question, answer in answers(comparison):
            interval = f"{figures(answer.low, 3)} to {figures(answer.high, 3)}"
            cells = [*(of_contrast or [""] * 3), question, "" if answer.reason else interval]
            seeds = seeds_wanted(comparison, result.declaration.target) if of_contrast else ""
            cells += [figures(answer.p, 2), verdict(answer), with_share(answer.detectable, comparison, 2), seeds]
            if any_share:
                cells.append("" if of_contrast else how_often_better(comparison))
            table.add_row(*cells)
            of_contrast = []
    return table


def _sides(headings: Iterable[str], texts: Collection[str]) -> dict[str, JustifyMethod]:
    """Return to which side each column stands: texts to the left, numbers to the right."""
    return {heading: "left" if heading in texts else "right" for heading in headings}


def _add_column(table: Table, heading: str, *, is_text: bool) -> None:
    """Add a column. Text wraps where the line is short; numbers are never cut."""
    table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")


def _listed(numbers: Sequence[int]) -> str:
    """Return ascending numbers, "0,1,3", many in a row as "0–19"."""
    if len(numbers) > _LISTED and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ",".join(map(str, numbers))


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _label(judge: Judge, unit: str) -> str:
    rows = "" if judge.rows == "test" else f"{judge.rows} "
    return f"{rows}{judge.metric.label}{f' ({unit})' if unit else ''}"
