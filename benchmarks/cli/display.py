"""What the commands show when they have finished."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from benchmarks.base.cache import cache_folder
from benchmarks.base.console import count, duration, figures, make_console, print_table, say
from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError, printable
from benchmarks.base.files import check_folder, expanded, plain
from benchmarks.base.text import csv_text
from benchmarks.cli.progress import first_ids, show_notes
from benchmarks.data.folds import N_FOLDS, depends_on_data, fold_label, n_folds
from benchmarks.data.near_duplicates import NEAR, NearDuplicates
from benchmarks.data.tasks import TASKS, Task, find_data_file
from benchmarks.results.leaderboard import TAGS, published, rank, source
from benchmarks.results.metrics import METRIC_LABELS, primary_metric
from benchmarks.results.recorded import is_tuned_here, labels, recorded_variant, variant_label
from sen.registry import variant_kind

if TYPE_CHECKING:
    from benchmarks.data.dataset import Dataset
    from benchmarks.data.folds import Fold
    from benchmarks.data.graph_table import GraphSettings, GraphTable
    from benchmarks.results.run_config import TrainingConfig
    from benchmarks.results.store import Run, Training
    from benchmarks.results.submission import Submission
    from benchmarks.results.verification import Verified
    from benchmarks.training.plans import Plan
    from benchmarks.training.prediction import Ensemble, Prediction
    from benchmarks.training.tuning import Tuning
    from sen.network import SEN
    from sen.testing import ContractResult

__all__ = [
    "show_blocks",
    "show_contract",
    "show_fields",
    "show_models",
    "show_predictions",
    "show_preparation",
    "show_result",
    "show_split",
    "show_status",
    "show_submission",
    "show_tasks",
    "show_tuning",
    "show_verified",
]

# Columns of `status` that a narrow terminal leaves out, the first one first.
_LESS = ("begun", "rows", "seeds", "std", "variant", "metric")
_INTERVALS = ("interval", "interval_by_spread")


def show_result(plan: Plan, summary: dict[str, Any]) -> None:
    """Print the finished folds of a run, published results or references on the same folds, and where the files are."""
    console, task = make_console(), plan.dataset.task
    if not summary["trainings"]:
        return
    console.print()
    console.print(_fold_table(plan, summary))
    if task.has_leaderboard:
        _show_leaderboard(console, plan, summary)
    elif "references" in summary:
        _show_references(console, plan, summary)
    console.print(
        f"Training took {duration(summary['wall_seconds'])} in all ({summary['device']}), "
        f"peak memory {summary['peak_memory_bytes'] / 2**30:.1f} GiB. Parameters: {summary['parameters']:,}."
    )
    if not plan.dataset.is_complete:
        console.print(
            f"Partial data: {summary['coverage']:.1%} of the rows of {task.name}, not verified by the official hash. "
            "The published models were trained and tested on all rows, so that this result has no rank among them."
        )
    if found := labels(plan.run.read_config(), summary["folds"]):
        console.print(f"Label: {'; '.join(found)}. So it has no rank among the published models.")
    if plan.config.limit is not None:
        console.print(f"Trained on at most {plan.config.limit:,} rows of each fold (--limit).")
    console.print(f"Files: {plan.run.path}", soft_wrap=True)
    path = shlex.quote(str(plan.run.path))
    console.print(
        f"Next: sen-bench report {path} (figures), sen-bench predict {path} FILE (new structures)", soft_wrap=True
    )


def _fold_table(plan: Plan, summary: dict[str, Any]) -> Table:
    task, names = plan.dataset.task, plan.dataset.fold_names
    seeds = len(summary["seeds"]) > 1
    unit = f" in {task.unit}" if task.unit else ""
    table = Table(title=f"{task.title}, {plan.config.variant}: test rows{unit}", title_justify="left")
    table.add_column("fold")
    if seeds:
        table.add_column("seed")
    for name in summary["mean"]:
        table.add_column(METRIC_LABELS[name], justify="right")
    for row in sorted(summary["trainings"], key=lambda row: (row["fold"], row["seed"])):
        labels = [fold_label(row["fold"], *names[row["fold"] : row["fold"] + 1])]
        labels += [str(row["seed"])] if seeds else []
        values = [row[name] for name in summary["mean"]]
        table.add_row(*labels, *(figures(math.nan if value is None else value) for value in values))
    if len(summary["folds"]) > 1:
        table.add_section()
        for label, style in (("mean", "bold"), ("std", "")):
            values = [figures(value) for value in summary[label].values()]
            table.add_row(label, *([""] if seeds else []), *values, style=style)
    return table


def _show_references(console: Console, plan: Plan, summary: dict[str, Any]) -> None:
    """Print the result next to those of reference models."""
    task, metric = plan.dataset.task, primary_metric(plan.dataset.task.kind)
    table = Table(title=f"{metric.label} beside references on the same test rows", title_justify="left")
    table.add_column("model")
    unit = f" ({task.unit})" if task.unit else ""
    table.add_column(f"{metric.label}{unit}", justify="right")
    table.add_row(_ours(plan, summary["folds"]), figures(summary["mean"][metric.name]), style="bold")
    for model, value in summary["references"].items():
        table.add_row(model, figures(value))
    console.print(table)


def _show_leaderboard(console: Console, plan: Plan, summary: dict[str, Any]) -> None:
    """Print the published models on the same folds, with this run among them in order; places are of official ones."""
    task, metric, folds = plan.dataset.task, primary_metric(plan.dataset.task.kind), summary["folds"]
    mean, std = summary["mean"][metric.name], summary["std"][metric.name]
    models = [(entry, entry.on_folds(folds)) for entry in published(task.name)]
    scores = [(entry.model, entry.tags, *score) for entry, score in models if score is not None]
    n_official = sum("official" in tags for _, tags, *_ in scores)
    scores.append((_ours(plan, folds), (), mean, std))
    scores.sort(key=lambda row: row[2], reverse=metric.higher_is_better)
    plural = "s" if len(folds) > 1 else ""
    which = "the five folds" if len(folds) == N_FOLDS else f"only fold{plural} {', '.join(map(str, folds))}"
    table = Table(title=f"Published models, {which}", title_justify="left")
    unit = f" ({task.unit})" if task.unit else ""
    for heading in ("", "model", f"{metric.label}{unit}", "std", "tags"):
        table.add_column(heading, justify="left" if heading in {"model", "tags"} else "right")
    place = 0
    for model, tags, value, spread in scores:
        is_ours = not tags
        counts = summary["is_official"] if is_ours else "official" in tags
        place += counts
        table.add_row(
            str(place) if counts else "–",
            model,
            figures(value),
            figures(spread) if spread is not None and len(folds) > 1 else "",
            ", ".join(tags),
            style="bold" if is_ours else "",
        )
    console.print(table)
    if left_out := [entry.model for entry, score in models if score is None]:
        console.print(f"Without published scores of these folds: {', '.join(left_out)}.")
    if summary["is_official"]:
        console.print(f"Rank {rank(task.name, mean)} beside {n_official} official models.")
    console.print(f"Official: {source()}", style="dim")
    used = {tag for _, tags, *_ in scores for tag in tags} - {"official"}
    if used:
        meanings = "; ".join(f"{tag}: {meaning}" for tag, meaning in TAGS.items() if tag in used)
        console.print(f"Other tags: {meanings}. The report names their sources.", style="dim")


def _ours(plan: Plan, folds: Sequence[int]) -> str:
    label = f"{variant_label(plan.config.model_dump())}, this run"
    found = labels(plan.run.read_config(), folds)
    return f"{label} ({'; '.join(found)})" if found else label


def show_tuning(tuning: Tuning) -> None:
    """Print the recipe that was found beside the one that was given, and where it is."""
    assert tuning.best is not None
    table = Table(title=f"Recipe of {tuning.name}", title_justify="left")
    for heading in ("field", "as given", "best trial"):
        table.add_column(heading, justify="left" if heading == "field" else "right")
    for field, value in tuning.best.fields.items():
        table.add_row(field, *(_plain(each) for each in (tuning.trials[1].fields[field], value)))
    console = make_console()
    console.print(table)
    console.print(f"{tuning.verdict()[0].upper()}{tuning.verdict()[1:]}", soft_wrap=True)
    console.print(f"To train with it: --config {tuning.recipe_path}", soft_wrap=True)


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_preparation(
    dataset: Dataset, graphs: GraphTable, duplicates: NearDuplicates, next_command: Sequence[str]
) -> None:
    """Print what the cache holds for a task, which rows have like crystals, and the command that trains on them."""
    table = dataset.table
    n_nodes, n_edges, n_neighbors = len(graphs.numbers), len(graphs.neighbor), graphs.n_neighbors.sum()
    systems, counts = np.unique(table.crystal_system, return_counts=True)
    console = make_console()
    console.print(
        f"{dataset.task.name} ({dataset.source}): {len(table):,} crystals ({dataset.coverage:.1%} of the task), "
        f"{len(table.numbers):,} atoms, {n_nodes:,} graph nodes with {n_neighbors:,} neighbours, {n_edges:,} edges."
    )
    console.print(", ".join(f"{count:,} {name}" for name, count in zip(systems, counts, strict=True)) + ".")
    show_notes(console, dataset)
    _show_duplicates(console, dataset, duplicates)
    console.print(f"Cached: the crystals and these graphs, in {cache_folder()}.", soft_wrap=True)
    console.print(f"Next: {shlex.join(next_command)}", soft_wrap=True)


def _show_duplicates(console: Console, dataset: Dataset, duplicates: NearDuplicates) -> None:
    """Print which rows have the same crystal, and which have nearly the same one and another target."""
    ids = dataset.table.ids
    if n := len(duplicates.same):
        console.print(
            f"{count(n)} have the crystal of another row once refined to {dataset.symprec:g} Å "
            f"({first_ids(ids[duplicates.same].tolist())}).",
            soft_wrap=True,
        )
    if n := len(duplicates.near):
        first, second = (printable(ids[i]) for i in duplicates.farthest)
        unit = f" {dataset.task.unit}" if dataset.task.unit else ""
        some = first_ids(ids[duplicates.near].tolist())
        console.print(
            f"{count(n)} have nearly the crystal of another row (the same atoms, and distances to neighbours that "
            f"agree to {NEAR:g} Å) and another target ({some}); those of {first} and {second} differ most, by "
            f"{figures(duplicates.difference)}{unit}.",
            soft_wrap=True,
        )


def show_split(dataset: Dataset, folds: Sequence[Fold], files: Sequence[Path]) -> None:
    """Print the folds of a split, and the files that hold it.

    Args:
        dataset: The task with its crystals.
        folds: The folds.
        files: The split file and the files beside it; none where it was not written.
    """
    has_many = any(len(tested.keys) > 1 for tested in dataset.tested)
    table = Table(title=f"{dataset.task.title}: rows of each fold", title_justify="left")
    table.add_column("fold")
    for heading in ("groups tested", "training", "validation", "test"):
        if heading != "groups tested" or has_many:
            table.add_column(heading, justify="right")
    for fold in folds:
        groups = [f"{len(dataset.tested[fold.index].keys):,}"] if has_many else []
        table.add_row(fold.label, *groups, *(f"{len(part):,}" for part in (fold.train, fold.validation, fold.test)))
    console = make_console()
    console.print(table)
    tested = np.unique(np.concatenate([fold.test for fold in folds]), return_counts=True)[1]
    lacking = len(dataset.table) - len(tested)
    if lacking or (tested > 1).any():
        console.print(
            f"Of {count(len(dataset.table))} {lacking:,} are tested in no fold, and {(tested > 1).sum():,} in several."
        )
    show_notes(console, dataset)
    if files:
        console.print(f"Files: {files[0]}, and {count(len(files) - 1, 'CSV file')} beside it.", soft_wrap=True)


def show_submission(path: Path, submission: Submission) -> None:
    """Print the scores of a submission file that `export` wrote, and how to submit it."""
    table = Table(title="MatBench submission, over the five folds", title_justify="left")
    for heading in ("task", "metric", "mean", "std", "seeds"):
        table.add_column(heading, justify="right" if heading in {"mean", "std"} else "left")
    averaged, left_out = False, []
    for name, result in submission.tasks.items():
        metric = primary_metric(result.task.kind)
        scores = [fold.scores[metric.name.removeprefix("matbench_")] for fold in result.folds]
        unit = f" ({result.task.unit})" if result.task.unit else ""
        seeds = result.folds[0].parameters["seeds"]
        mean, std = figures(float(np.mean(scores))), figures(float(np.std(scores)))
        table.add_row(name, f"{metric.label}{unit}", mean, std, ",".join(map(str, seeds)))
        averaged |= len(seeds) > 1
        if len(seeds) > 1 and result.task.kind == "classification":
            left_out.append(name)
    console = make_console()
    console.print(table)
    if averaged:
        console.print(
            "Predictions are averaged over the seeds: these are the scores of an ensemble, whereas `sen-bench run` "
            "shows the mean of the scores of the seeds."
        )
    if left_out:
        console.print(
            f"{', '.join(left_out)}: the file does not hold the spread over the seeds, because matbench takes no "
            "uncertainty for a classification."
        )
    console.print(f"File: {path}", soft_wrap=True)
    console.print(
        "To submit it, make a pull request to github.com/materialsproject/matbench with a folder "
        "benchmarks/matbench_v0.1_NAME that holds it as results.json.gz, an info.json and your code; "
        "see docs/how-to/submit-to-matbench.md.",
        soft_wrap=True,
    )


def show_verified(verified: Mapping[str, Verified]) -> None:
    """Print the scores of a submission file beside those that matbench computes, as means over the folds."""
    table = Table(title="Loaded and validated by matbench 0.6; means over the five folds", title_justify="left")
    for heading in ("task", "score", "in the file", "by matbench", ""):
        table.add_column(heading, justify="right" if heading in {"in the file", "by matbench"} else "left")
    for task, scores in verified.items():
        for name, stored in scores.stored.items():
            means = (figures(float(np.mean(values))) for values in (stored, scores.computed[name]))
            table.add_row(task, name, *means, "differs" if name in scores.differing else "the same to 1e-9")
    make_console().print(table)


def show_predictions(ensemble: Ensemble, predictions: Sequence[Prediction], level: float, form: str) -> None:
    """Print predictions, with intervals of this level, as a table, as CSV or as JSON."""
    from benchmarks.training.prediction import prediction_facts

    reason = ensemble.why_no_interval(level)
    note = reason and f"{ensemble.run.path} has no interval: {reason}."
    if form == "table":
        _show_prediction_table(ensemble, predictions, level, note)
        return
    if note:
        say(note, err=True)
    rows = prediction_facts(ensemble, predictions)
    if form == "csv":
        flat = [_flat(row, len(ensemble.trainings)) for row in rows]
        sys.stdout.write(csv_text([list(flat[0]), *(list(row.values()) for row in flat)]))
        return
    task = ensemble.facts["task"]
    content = {
        "task": task["name"],
        "target": task["target"],
        "unit": task["unit"],
        "kind": task["kind"],
        variant_kind(ensemble.config.variant): ensemble.config.variant,
        "level": level,
        "models": [{"seed": training.seed, "fold": training.fold} for training in ensemble.trainings],
        "predictions": [row | {"by_model": entry.by_model} for row, entry in zip(rows, predictions, strict=True)],
    }
    print(json.dumps(plain(content), indent=1))  # noqa: T201 - the console of rich would wrap it


def _labels(labels: Sequence[str] | None) -> str:
    """Return a set of labels as it is printed: "false or true"; nothing where there is no set."""
    return "" if labels is None else " or ".join(labels) or "neither"


def _flat(row: Mapping[str, Any], n_models: int) -> dict[str, Any]:
    """Return what is said of a structure in CSV: one value for each column."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in _INTERVALS:
            flat[f"{name}_low"], flat[f"{name}_high"] = value or ("", "")
        else:
            flat[name] = value
    flat["never_seen"] = _never_seen(row["never_seen"], n_models)
    if "labels" in row:
        flat["labels"] = _labels(row["labels"])
    return flat


def _show_prediction_table(
    ensemble: Ensemble, predictions: Sequence[Prediction], level: float, note: str | None
) -> None:
    console, task, n_models = make_console(), ensemble.facts["task"], len(ensemble.trainings)
    what = "probability" if task["kind"] == "classification" else task["target"]
    unit = f" ({task['unit']})" if task["unit"] else ""
    n_trained = count(n_models, "model")
    share = f"{100 * level:g} %"
    bounds: dict[str, Callable[[Prediction], str]] = {}
    if note is None and ensemble.is_classification:
        bounds[f"{share} set"] = lambda entry: _labels(entry.labels)
    elif note is None:
        bounds[f"{share} interval"] = lambda entry: _ends(entry.interval)
        if predictions[0].interval_by_spread:
            bounds[f"{share} interval by spread"] = lambda entry: _ends(entry.interval_by_spread)
    any_unseen = any(entry.never_seen for entry in predictions)
    texts, unseen = ("file", "formula", "space group"), ("never seen in training",) if any_unseen else ()
    columns: dict[str, JustifyMethod] = dict.fromkeys(texts, "left")
    columns |= dict.fromkeys((f"{what}{unit}", "spread", *bounds), "right")
    columns |= dict.fromkeys(unseen, "left")
    rows = []
    for entry in predictions:
        sample = entry.sample
        cells = (str(sample.source), sample.formula, str(sample.crystal.space_group or "unknown"))
        numbers = (figures(entry.mean), figures(entry.spread), *(write(entry) for write in bounds.values()))
        rows.append((*cells, *numbers, *(_never_seen(entry.never_seen, n_models) for _ in unseen)))
    title = f"{task['name']}, {ensemble.config.variant}: {n_trained}"
    print_table(console, title, columns, rows, ("space group", "formula", "spread"))
    models = "; ".join(map(str, ensemble.trainings))
    if n_models > 1:
        models = f"mean and standard deviation (ddof 1) over {models}"
    console.print(f"Models: {models}.")
    console.print(note or _about_bounds(ensemble, level), soft_wrap=True)
    if any_unseen:
        console.print("A prediction for an element that was never seen in training is a guess.")
    if heavy := [str(entry.sample.source) for entry in predictions if entry.sample.heavy_hydrogen]:
        console.print(f"Deuterium or tritium is read as hydrogen: {', '.join(heavy)}.")


def _ends(ends: tuple[float, float] | None) -> str:
    """Return an interval as it is printed: "1.200 to 3.400"."""
    return "" if ends is None else " to ".join(map(figures, ends))


def _about_bounds(ensemble: Ensemble, level: float) -> str:
    """Say by how many rows the intervals of this level are calibrated, and for what they hold."""
    sizes = sorted(map(len, ensemble.calibrators.values()))
    rows = "" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to "
    what, of_folds = ("Set", "in at least half of the sets") if ensemble.is_classification else ("Interval", "medians")
    several = f"; {of_folds} of the folds" if len(sizes) > 1 else ""
    whole = "each fold" if several else "the fold"
    calibrated = f"Calibrated by the {rows}{count(sizes[-1], 'test row')} of {whole}{several}."
    made = f"{what}: made for {100 * level:g} % of structures like those"
    pretrained = ensemble.config.pretrained
    if is_tuned_here(ensemble.facts, ensemble.calibrators) or (pretrained and pretrained.allow_overlap):
        return (
            f"{made} of the task, and guarantees nothing: test rows may have chosen the recipe or trained the weights "
            f"that it started from. {calibrated}"
        )
    if depends_on_data(ensemble.facts["task"]["split"]):  # what a fold tests is unlike the rest
        return f"{made} that {whole} tests, and guarantees nothing for others. {calibrated}"
    covers = f"covers {100 * level:g} %"
    if several:  # see `merge_intervals`
        covers = f"made to cover {100 * level:g} % and guaranteed to cover {100 * max(0, 2 * level - 1):g} %"
    return f"{what}: {covers} of structures like those of the task, and promises nothing of others. {calibrated}"


def _never_seen(elements: dict[str, int], n_models: int) -> str:
    """List elements that models never saw, and how many models unless it is all of them: "Xe, F (2 of 5 models)"."""
    return ", ".join(e if n == n_models else f"{e} ({n} of {n_models} models)" for e, n in elements.items())


def show_tasks(data_dir: Path | None) -> None:
    """Print the tasks.

    Raises:
        UsageError: There is no folder `data_dir`.
    """
    if data_dir is not None:
        check_folder(expanded(data_dir), "(--data-dir)")
    columns: dict[str, JustifyMethod] = {"task": "left", "rows": "right"}
    columns |= dict.fromkeys(("target", "unit", "kind", "data"), "left")
    rows = [
        (
            task.name,
            f"{task.n_rows:,}" if task.n_rows else "",
            task.target,
            task.unit,
            task.kind,
            _data_state(task, data_dir),
        )
        for task in TASKS.values()
    ]
    console = make_console()
    print_table(console, "Tasks", columns, rows, ("kind", "unit", "target", "rows"))
    console.print(
        "prototypes is a demonstration, not a benchmark. Data: --data-dir or SEN_BENCH_DATA, otherwise downloaded."
    )


def _data_state(task: Task, data_dir: Path | None) -> str:
    if task.url is None:
        return "built in"
    try:
        file = find_data_file(task, data_dir)
    except UsageError:
        return "folder not found"
    except DataError:
        return "not the official file"
    return file.coverage if file else "to download"


def show_blocks() -> None:
    """Print the installed blocks, with the number of parameters of the parts of SEN at default sizes.

    Raises:
        RunError: Some blocks cannot be loaded or built; the others are printed.
    """
    from benchmarks.results.run_config import build_config
    from benchmarks.training.trainer import build_model, n_parameters, parameters_by_part
    from sen.network import SEN
    from sen.registry import block_names

    columns: dict[str, JustifyMethod] = {"block": "left"}
    columns |= dict.fromkeys(("parameters", "head", "SEN in all", "relative to capsule"), "right")
    columns |= dict.fromkeys(("reads", "source"), "left")
    rows = []
    models: dict[str, SEN] = {}
    broken: list[str] = []
    for name in block_names():
        try:
            model = build_model(build_config("prototypes", name))
        except UsageError as error:
            broken.append(str(error))
        else:
            assert isinstance(model, SEN)
            models[name] = model
    of_capsule = n_parameters(models["capsule"])
    for name, model in models.items():
        total, parts = n_parameters(model), parameters_by_part(model)
        reads = "edge vectors, full cells" if model.block.needs_vectors else "distances, asymmetric units"
        share = f"{total / of_capsule - 1:+.0%}"
        rows.append([name, f"{parts['block']:,}", f"{parts['head']:,}", f"{total:,}", share, reads, model.block.source])
    console = make_console()
    print_table(console, "Symmetry blocks of SEN", columns, rows, ("head", "relative to capsule"))
    console.print(
        f"SEN in all: the block, the head and the features, which have {n_parameters(models['capsule'].features):,} "
        "parameters with every block. The readout has none unless sen.readout or sen.head_input is set."
    )
    if broken:
        raise RunError(" ".join(broken))


def show_fields() -> None:
    """Print a line for every configuration field: name, default and meaning, with unit and source where it has them."""
    from benchmarks.results.run_config import all_fields

    console, last = make_console(), ""
    for owner, name, field in all_fields():
        if owner != last:
            console.print(f"Of {owner}:", style="bold", soft_wrap=True)
        console.print(f"  {name} = {_as_set(field.default)}  {field.description or ''}", soft_wrap=True)
        last = owner
    console.print("--set NAME=VALUE sets a field. `sen-bench models` lists the recipes of other models than SEN.")


def _as_set(value: object) -> str:
    """Return a value as --set takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def show_models() -> None:
    """Print the installed models, with their parameters, graph and recipe at the defaults of their publications.

    Raises:
        RunError: Some models cannot be loaded or built; the others are printed.
    """
    from benchmarks.results.run_config import build_config, is_fitted
    from benchmarks.training.trainer import build_model, n_parameters
    from sen.registry import model_names

    columns: dict[str, JustifyMethod] = {"model": "left", "parameters": "right"}
    columns |= dict.fromkeys(("graph", "recipe", "source"), "left")
    rows = []
    broken: list[str] = []
    for name in model_names():
        try:
            config = build_config("", name)
            model = build_model(config)
        except UsageError as error:
            broken.append(str(error))
        else:
            parameters, recipe = f"{n_parameters(model):,}", _recipe(config.training)
            if is_fitted(name):
                parameters, recipe = "as many as fitted", "fitted at once"
            rows.append([name, parameters, _graph(config.graph), recipe, model.source])
    print_table(make_console(), "Models", columns, rows, ())
    if broken:
        raise RunError(" ".join(broken))


def _graph(settings: GraphSettings) -> str:
    nodes = "full cells" if settings.cells == "full" else "asymmetric units"
    nearest = "all" if settings.max_neighbors is None else f"{settings.max_neighbors} nearest"
    return f"{nodes}, {nearest} within {settings.cutoff:g} Å"


def _recipe(recipe: TrainingConfig) -> str:
    validation = "best epoch" if recipe.chooses_epoch else "no validation rows"
    return (
        f"{recipe.optimizer} {recipe.learning_rate:g}, {recipe.schedule}, {recipe.loss}, {recipe.epochs} epochs of "
        f"batches of {recipe.batch_size}, {validation}"
    )


def show_contract(result: ContractResult) -> None:
    """Print a line about a contract that a block or model was tested against."""
    style = {"passed": "green", "failed": "red", "skipped": "yellow"}[result.outcome]
    reason = f": {printable(result.reason, 300)}" if result.reason else ""
    make_console().print(Text.assemble((f"{result.outcome:7}", style), f"  {result.contract}{reason}"), soft_wrap=True)


def show_status(root: Path) -> None:
    """Print the runs below a folder."""
    from benchmarks.results.store import find_runs, is_older_format

    columns: dict[str, JustifyMethod] = dict.fromkeys(
        ("task", "rows", "variant", "run", "seeds", "folds done", "begun", "metric"), "left"
    )
    columns |= {"mean": "right", "std": "right"}
    rows: list[list[str]] = []
    failed: list[str] = []
    older = []
    for run in find_runs(root):
        try:
            records = {training: run.read_metrics(training) for training in run.trainings()}
            rows.append(_status(run, records))
            failed += [f"{rows[-1][0]}, {run.path.name}, {each}: {why}" for each, why in run.failures().items()]
        except SenBenchError as error:
            logging.getLogger("sen_bench").warning("Skipped: %s", error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            logging.getLogger("sen_bench").warning("Skipped: %s lacks what a run records (%r).", run.path, error)
        else:
            older += [run.path.name] if is_older_format(records.values()) else []
    console = make_console()
    if rows:
        print_table(console, f"Runs in {root}", columns, rows, _LESS)
    else:
        console.print(f"There are no runs in {root}.")
    for line in failed:
        console.print(f"Failed: {line}", style="red", soft_wrap=True)
    if older:
        console.print(f"In the older format of sen-bench 0.1: {', '.join(older)}.", soft_wrap=True)


def _status(run: Run, records: Mapping[Training, Mapping[str, Any]]) -> list[str]:
    """Return a run's line of the table, given the records of its finished trainings."""
    from benchmarks.results.store import fold_means

    facts = run.read_config()
    config, task, data = facts["config"], facts["task"], facts["data"]
    names: list[str] = data.get("fold_names", [])
    name, n = primary_metric(task["kind"]).name, len(names) or n_folds(task["split"])
    scores = fold_means({training: record["metrics"][name] for training, record in records.items()})
    rows = "all" if data["is_complete"] else f"{data['coverage']:.1%}"
    return [
        config["task"] if task["split"] == "folds" else f"{config['task']} ({task['split']})",
        rows if config["limit"] is None else f"{rows}, limit {config['limit']:,}",
        ", ".join([recorded_variant(config), *labels(facts, scores)]),
        run.path.name,
        ",".join(str(seed) for seed in sorted({training.seed for training in records})),
        (str(len(scores)) if n is None else f"{len(scores)} of {n}")
        + (f": {','.join(fold_label(fold, *names[fold : fold + 1]) for fold in scores)}" if scores else ""),
        "; ".join(map(str, run.under_way())),
        f"{METRIC_LABELS[name]} {f'({unit})' if (unit := task['unit']) else ''}".strip(),
        figures(float(np.mean(list(scores.values())))) if scores else "",
        figures(float(np.std(list(scores.values())))) if len(scores) > 1 else "",
    ]
