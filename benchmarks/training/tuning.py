"""A recipe chosen for a variant by rows held out of the training rows; see docs/how-to/tune-a-recipe.md.

Each trial is a training of the ordinary kind, on a split for tuning (`benchmarks.data.folds.tuning_split`), in a store
of its own in the cache. Its score is kept when it ends, and the store is removed when all trials have ended.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.base.cache import cache_folder, digest
from benchmarks.base.console import count, figures
from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError, printable
from benchmarks.base.files import parse_json, read_file, write_bytes, write_json
from benchmarks.base.interrupts import StopRequest
from benchmarks.base.locks import lock
from benchmarks.base.workers import Progress
from benchmarks.base.zip_path import ZipPath, open_path
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import tuning_split
from benchmarks.results.metrics import primary_metric
from benchmarks.results.run_config import RunConfig, Tuned, build_config, given_fields
from benchmarks.training.execution import OnEpoch, execute, n_workers
from benchmarks.training.plans import Plan, PlannedTraining, make_plan
from benchmarks.training.search import propose, search_space, value_of
from benchmarks.training.trainer import check_model

if TYPE_CHECKING:
    from benchmarks.training.cluster import Cluster

__all__ = ["Trial", "Tuning", "check_trials", "tune"]

_FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried.

    Attributes:
        number: Counted from 1, which is the recipe as it was given.
        fields: Value of each dotted field that is searched.
        score: MatBench's score on the rows that judge, mean over the seeds; None of a trial that failed.
        failure: Why it failed.
        seconds: Wall time of its trainings.
    """

    number: int
    fields: dict[str, Any]
    score: float | None
    failure: str | None = None
    seconds: float = 0.0


class Tuning:
    """The search for a recipe of one variant on one data set, which goes on from the trials in its folder.

    Args:
        name: Name of the variant, in messages.
        variant: Name of the block or model.
        given: What its configuration is built from beside that, as `build_config` takes it: recipe, file, flags and
            assignments. Fields that the user has given are not searched, and stand in the recipe file.
        dataset: The crystals.
        folds: Folds of which no test row is read: those that train in all of them are trained on and judge.
        seeds: Seeds of the trainings of each trial; the first one also draws the trials.
        trials: Number of trials.
        out: Folder of the run store; an archive in its place is only read.
        progress: Called with the number of graphs that are built.

    Attributes:
        space: What is searched, by dotted fields.
        plan: Plan of the first trial, the recipe as it was given.
        n_trials: Number of trials.
        trials: Those that have ended, by number.

    Raises:
        UsageError: Optuna is not installed, a space is not sound, nothing is left to search, a given field cannot stand
            in a recipe file, or `make_plan` raises it.
        DataError: The trials cannot be read, or `make_plan` raises it.
    """

    def __init__(
        self,
        name: str,
        variant: str,
        given: Mapping[str, Any],
        dataset: Dataset,
        *,
        folds: Sequence[int],
        seeds: Sequence[int],
        trials: int,
        out: Path,
        progress: Progress | None = None,
    ) -> None:
        self.name, self.n_trials = name, trials
        self._variant, self._given, self._dataset = variant, given, dataset
        self._fields = given_fields(**{key: value for key, value in given.items() if key != "recipe"})
        self._folds, self._seeds = tuple(sorted(folds)), list(seeds)
        _check_given(self._fields, f"{given.get('file') or 'The configuration'}, given for {name},")
        self._inner = replace(dataset, task=replace(dataset.task, split=tuning_split(dataset.task.split, folds)))
        make = partial(make_plan, self.configure({}), self._inner, folds=[0], seeds=self._seeds, progress=progress)
        self.plan = make(out=out, is_trial=True)
        config = self.plan.config
        self.space = search_space(config, self._fields)
        self.metric = primary_metric(dataset.task.kind)
        identity = digest(
            config=config.model_dump(mode="json"),
            data=self._inner.digest,
            seeds=self._seeds,
            space={field: repr(values) for field, values in self.space.items()},
        )[:10]
        self._path = open_path(out) / dataset.task.name / f"tuning-{config.variant}-{identity}"
        self._scratch = cache_folder() / f"{self._path.name}-{digest(out=str(out.resolve()))[:10]}"
        self._outcomes: dict[int, list[dict[str, Any] | SenBenchError]] = {}
        self.trials = self._read()

    @property
    def is_archived(self) -> bool:
        """Whether the trials are in an archive."""
        return isinstance(self._path, ZipPath)

    @property
    def folder(self) -> Path:
        """The folder of the trials, to write to.

        Raises:
            UsageError: It is in an archive.
        """
        if isinstance(self._path, ZipPath):
            lacks = f", and lacks {count(len(self.left), 'trial')} of {self.n_trials}" if self.left else ""
            raise UsageError(
                f"{self._path} is in an archive, which is never changed{lacks}: name a folder of runs with --out."
            )
        return self._path

    @property
    def left(self) -> list[int]:
        """Numbers of the trials that have not ended."""
        return [number for number in range(1, self.n_trials + 1) if number not in self.trials]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, the first of equal ones; None while there is none."""
        scored = [
            trial for number, trial in sorted(self.trials.items()) if number <= self.n_trials and not trial.failure
        ]
        return min(scored, key=self._loss, default=None)

    @property
    def recipe_path(self) -> Path:
        """The recipe file, which `write_recipe` writes."""
        return self.folder / "recipe.toml"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the same search during the block; what they have found until then is read.

        Raises:
            UsageError: The folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"The folder {self.folder} cannot be written ({error.strerror}).") from error
        with lock(self.folder / ".lock", f"tuning {self.name}"):
            self.trials = self._read()
            yield

    def propose(self, n: int) -> dict[int, dict[str, Any]]:
        """Return the fields of the next `n` trials at most, by number.

        They depend on the seed, the numbers, and the trials that had ended before the first of them was proposed, so
        that a search that was stopped goes on as if it had not been.
        """
        if not self.left:
            return {}
        first = self.left[0] - (self.left[0] - 1) % n
        known = [trial for number, trial in sorted(self.trials.items()) if number < first]
        proposed: dict[int, dict[str, Any]] = {}
        for number in range(first, min(first + n, self.n_trials + 1)):
            if number in self.trials:
                proposed[number] = self.trials[number].fields
            elif number == 1:
                proposed[number] = {field: value_of(self.plan.config, field) for field in self.space}
            else:
                seed = np.random.SeedSequence([self._seeds[0], number]).generate_state(1)
                scores = [(trial.fields, self._loss(trial)) for trial in known]
                proposed[number] = propose(self.space, scores, list(proposed.values()), int(seed[0]))
        return {number: fields for number, fields in proposed.items() if number not in self.trials}

    def configure(self, fields: Mapping[str, Any]) -> RunConfig:
        """Return the configuration in which these dotted fields have these values.

        Raises:
            UsageError: The fields do not fit each other, or the model refuses them.
        """
        searched = [f"{field}={json.dumps(value)}" for field, value in fields.items()]
        given = {**self._given, "assignments": [*self._given.get("assignments", ()), *searched]}
        task = self._dataset.task
        config = build_config(task.name, self._variant, defaults=task.defaults, **given)
        check_model(config)
        return config

    def plan_trial(self, config: RunConfig) -> Plan:
        """Return the plan of a trial with this configuration.

        Raises:
            UsageError: See `make_plan`, as for `DataError`.
            DataError: A file cannot be read.
        """
        return make_plan(config, self._inner, folds=[0], seeds=self._seeds, out=self._scratch / "trials")

    def end(self, number: int, fields: Mapping[str, Any], outcome: dict[str, Any] | SenBenchError) -> Trial | None:
        """Note how a training of a trial has ended; return the trial if it was the last one, and keep it on the disk.

        Args:
            number: Number of the trial.
            fields: Value of each field that is searched.
            outcome: The record of the training, or why it failed.

        Raises:
            UsageError: The trials cannot be written.
        """
        outcomes = self._outcomes.setdefault(number, [])
        outcomes.append(outcome)
        if len(outcomes) < len(self._seeds):
            return None
        records = [outcome for outcome in outcomes if isinstance(outcome, dict)]
        errors = [outcome for outcome in outcomes if isinstance(outcome, SenBenchError)]
        scores = [record["metrics"][self.metric.name] for record in records]
        if None in scores:
            errors.append(RunError(f"Its {self.metric.label} is not defined."))
        if errors:
            return self.refuse(number, fields, errors[0])
        seconds = sum(record["wall_seconds"] for record in records)
        return self._keep(Trial(number, dict(fields), statistics.fmean(scores), None, seconds))

    def refuse(self, number: int, fields: Mapping[str, Any], error: SenBenchError) -> Trial:
        """Note that a trial has failed and why, and return it.

        Raises:
            UsageError: The trials cannot be written.
        """
        return self._keep(Trial(number, dict(fields), None, printable(error, 300)))

    def _keep(self, trial: Trial) -> Trial:
        self.trials[trial.number] = trial
        try:
            trials = [asdict(trial) for _, trial in sorted(self.trials.items())]
            content = {"format": _FORMAT, "trials": trials, "digest": self._digest(trials)}
            write_json(self.folder / "trials.json", content)
        except OSError as error:
            raise UsageError(f"{self.folder}/trials.json cannot be written ({error.strerror}).") from error
        return trial

    def write_recipe(self) -> Path:
        """Write the recipe file of the best trial, remove what the trainings left behind, and return its path.

        Raises:
            RunError: All trials failed.
            UsageError: It cannot be written.
        """
        text = self.recipe()
        try:
            write_bytes(self.recipe_path, text.encode())
        except OSError as error:
            raise UsageError(f"{self.recipe_path} cannot be written ({error.strerror}).") from error
        shutil.rmtree(self._scratch, ignore_errors=True)
        return self.recipe_path

    def recipe(self) -> str:
        """Return the text of the recipe file of the best trial, once all trials have ended.

        Raises:
            RunError: All trials failed.
        """
        import tomli_w

        if (best := self.best) is None:
            raise RunError(
                f"All {self.n_trials} trials of {self.name} failed, the first one because: {self.trials[1].failure}"
            )
        tuned = Tuned(
            variant=self.plan.config.variant,
            recipe=self._given.get("recipe", "own"),
            task=self._dataset.task.name,
            data=self._dataset.digest,
            folds=self._folds,
            trials=self.n_trials,
            without=self._dataset.left_out.digest if self._dataset.left_out else None,
        )
        tables: dict[str, dict[str, Any]] = {"tuned": tuned.model_dump()}
        for field, value in {**self._fields, **best.fields}.items():
            table, _, name = field.rpartition(".")
            if table and value is not None:  # a limit of rows is no part of a recipe; TOML has no null, the default
                tables.setdefault(table, {})[name] = value
        return f"# Written by sen-bench tune: {self.verdict()}\n\n{tomli_w.dumps(tables)}"

    def verdict(self) -> str:
        """Return a sentence on the best trial and on the recipe as it was given."""
        best, given = self.best, self.trials[1]
        assert best is not None
        n_judging = len(self.plan.fold(self.plan.trainings[0]).test)
        was = f"failed ({given.failure})" if given.score is None else f"has {self._with_unit(given.score)}"
        return (
            f"trial {best.number} of {self.n_trials} has the best {self.metric.label}, {self._with_unit(best.score)}, "
            f"on {n_judging:,} rows held out of the training rows; the recipe as given, trial 1, {was}."
        )

    def describe(self, trial: Trial) -> str:
        """Return a line about a trial that has ended."""
        said = (
            f"failed: {trial.failure}"
            if trial.score is None
            else f"{self.metric.label} {self._with_unit(trial.score)} on the rows that judge"
        )
        return f"{self.trial_name(trial.number)}: {said}"

    def trial_name(self, number: int) -> str:
        """Return what a trial is called in messages."""
        return f"{self.name}, trial {number} of {self.n_trials}"

    def _with_unit(self, score: float | None) -> str:
        unit = self._dataset.task.unit if self._dataset.task.kind == "regression" else ""
        return f"{figures(score if score is not None else math.nan)} {unit}".strip()

    def _loss(self, trial: Trial) -> float:
        if trial.score is None:
            return math.inf
        return -trial.score if self.metric.higher_is_better else trial.score

    def _digest(self, trials: list[dict[str, Any]]) -> str:
        """Return the hash of the trials of this search, as trials.json has them."""
        return digest(search=self._path.name, trials=trials)

    def _read(self) -> dict[int, Trial]:
        path = self._path / "trials.json"
        try:
            content = parse_json(read_file(path))
            if (version := content["format"]) != _FORMAT:
                raise DataError(
                    f"{path} has format {printable(version)}, and this version of sen-bench reads {_FORMAT}: go on "
                    "with the version that wrote it, or give another --out."
                )
            trials = [Trial(**line) for line in content["trials"]]
            sound = all(trial.fields.keys() == self.space.keys() for trial in trials)
            if sound and content["digest"] != self._digest(content["trials"]):
                raise DataError(
                    f"{path} was altered after sen-bench wrote it: put back what it was, or remove it to begin again."
                )
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise DataError(f"{path} does not hold the trials of this search: remove it to begin again.")
        return {trial.number: trial for trial in trials}


def check_trials(trials: int, option: str) -> None:
    """Check that the value of an option is a number of trials, and that Optuna is installed.

    Raises:
        UsageError: It is not.
    """
    if trials < 1:
        raise UsageError(f"{option} takes a number of trials from 1 on, not {trials}.")
    try:
        import optuna
        import tomli_w
    except ModuleNotFoundError as error:
        raise UsageError(f'Tuning needs the package {error.name}: pip install "sen-bench[tune]".') from None
    del optuna, tomli_w


def _check_given(given: Mapping[str, Any], source: str) -> None:
    if any(field.startswith("tuned.") for field in given):
        raise UsageError(
            f"{source} is a recipe that was tuned already: give the configuration that it was tuned from, or leave out "
            "the tuning."
        )
    if nulls := [field for field, value in given.items() if value is None]:
        raise UsageError(
            f"{nulls[0]} cannot be null where a recipe is tuned: TOML, in which it is written, has no null."
        )


def tune(
    tunings: Sequence[Tuning],
    *,
    device: str,
    stop: StopRequest,
    jobs: int = 1,
    cluster: Cluster | None = None,
    on_begin: Callable[[Plan, str], None] = lambda *_: None,
    on_epoch: OnEpoch = lambda *_: None,
    on_end: Callable[[PlannedTraining], None] = lambda *_: None,
    on_trial: Callable[[Tuning, Trial], None] = lambda *_: None,
    on_wait: Callable[[Sequence[PlannedTraining]], None] = lambda *_: None,
) -> list[Path]:
    """Run the trials that are missing, up to `jobs` at the same time, and write the recipe file of each search.

    All searches go on together, one trial of each or, where more fit, several, which are proposed at once: results are
    the same for the same number of them.

    Args:
        tunings: The searches.
        device: See `execute`, as for `stop`, `jobs`, `cluster`, `on_epoch` and `on_wait`.
        stop: Whether to stop.
        jobs: Number of trainings at the same time.
        cluster: Cluster that trains.
        on_begin: Called with the plan of a trial and its name.
        on_epoch: Called after every epoch.
        on_end: Called with each training that ends.
        on_trial: Called with each trial that ends.
        on_wait: Called when another process trains.

    Returns:
        The recipe files.

    Raises:
        Interrupted: A stop was requested; the trials that have ended are kept.
        RunError: All trials of a search failed; or a training ended for a reason that is not in its recipe, such as the
            death of its process, and its trial is not kept.
        UsageError: Files cannot be written.
    """
    with ExitStack() as stack:
        # In one order, so that no two commands wait for each other.
        for tuning in sorted(tunings, key=lambda tuning: tuning.folder):
            stack.enter_context(tuning.held())
        workers = cluster.n_workers() if cluster else n_workers(jobs, sum(tuning.n_trials for tuning in tunings))
        each = max(1, workers // len(tunings))
        begun: dict[Plan, tuple[Tuning, int, dict[str, Any]]] = {}
        faults: dict[str, SenBenchError] = {}

        def end(planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError) -> None:
            tuning, number, fields = begun[planned.plan]
            on_end(planned)
            # A training leaves a note of a failure that the same recipe meets again.
            if isinstance(outcome, SenBenchError) and planned.plan.run.read_failure(planned.training) is None:
                faults.setdefault(tuning.trial_name(number), outcome)
            elif trial := tuning.end(number, fields, outcome):
                on_trial(tuning, trial)

        while any(tuning.left for tuning in tunings):
            begun = _begin(tunings, each, on_begin, on_trial)
            execute(
                # Those that are finished as well: their command was stopped before it noted that.
                [PlannedTraining(plan, training) for plan in begun for training in plan.trainings],
                device=device,
                stop=stop,
                jobs=jobs,
                cluster=cluster,
                on_epoch=on_epoch,
                on_end=end,
                on_wait=on_wait,
            )
            if faults:
                lines = "".join(f"\n  {name}: {printable(fault, 300)}" for name, fault in faults.items())
                raise RunError(
                    f"{count(len(faults), 'trial')} ended without a score, and not because of the recipe; the same "
                    f"command tries again:{lines}"
                )
        return [tuning.write_recipe() for tuning in tunings]


def _begin(
    tunings: Sequence[Tuning],
    each: int,
    on_begin: Callable[[Plan, str], None],
    on_trial: Callable[[Tuning, Trial], None],
) -> dict[Plan, tuple[Tuning, int, dict[str, Any]]]:
    """Plan the next trials of every search; return the search, the number and the fields of each."""
    begun: dict[Plan, tuple[Tuning, int, dict[str, Any]]] = {}
    for tuning in tunings:
        for number, fields in tuning.propose(each).items():
            try:
                config = tuning.configure(fields)
            except UsageError as error:
                on_trial(tuning, tuning.refuse(number, fields, error))
            else:
                begun[plan := tuning.plan_trial(config)] = tuning, number, fields
                on_begin(plan, tuning.trial_name(number))
    return begun
