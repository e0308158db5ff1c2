"""The audit in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.base.console import count, figures
from benchmarks.results.metrics import primary_metric
from reports.audit.breakdown import describe
from reports.study.wording import after_number, in_brackets, signed

__all__ = ["other_sets", "show_audit", "verdict"]


def verdict(facts: Mapping[str, Any]) -> str:
    """Say in one paragraph what an audit found, for a reviewer to paste.

    Args:
        facts: What `reports.audit.facts.audit` returned.
    """
    sentences = [*_on_ids(facts), *_on_folds(facts), *_on_score(facts), *_on_bias(facts), *_on_others(facts)]
    return " ".join(sentences)


def other_sets(sets: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """Say what else a file holds, and what of it can be checked and what cannot.

    Args:
        sets: What `reports.audit.facts.check_other_sets` returned.
        facts: Form and name of the file, under `form` and `file`.
    """
    if facts["form"] == "submission" and sets:
        return [f"Predictions for {', '.join(entry['task'] for entry in sets)}; choose one of them with --task."]
    return [_on_set(entry, facts["file"]) for entry in sets]


def show_audit(facts: Mapping[str, Any], console: Console) -> None:
    """Print an audit: the verdict, and the tables behind it."""

    def tell(text: str, style: str | None = None) -> None:
        console.print(text, soft_wrap=not console.is_terminal, style=style)

    tell(verdict(facts))
    for table in _tables(facts):
        console.print()
        console.print(table)
    console.print()
    for sentence in describe(facts["breakdown"], facts["unit"], facts["model"])[1:]:
        tell(sentence)
    if sentences := other_sets(facts["also"], facts):
        console.print("\nAlso in the file:", style="bold")
        for sentence in sentences:
            tell(f"- {sentence}")
    if facts["leaderboard"]["n_models"]:
        tell(f"Published: {facts['leaderboard']['source']}", style="dim")


def _tables(facts: Mapping[str, Any]) -> Iterator[Table]:
    if facts["folds"]["folds"]:
        yield _fold_table(facts)
    yield _system_table(facts)
    if facts["against"]:
        yield _model_table(facts)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    return table


def _fold_table(facts: Mapping[str, Any]) -> Table:
    headings = ("fold", "test rows", "in the file", "share", "scored", f"{_metric(facts)}{in_brackets(facts['unit'])}")
    table = _table("Official folds", *headings)
    scores = {fold["fold"]: fold for fold in facts["by_fold"]}
    for fold in facts["folds"]["folds"]:
        score = scores.get(fold["fold"], {"n": 0, "score": None})
        given = (f"{fold['n_test']:,}", f"{fold['n']:,}", f"{fold['share']:.2%}")
        table.add_row(str(fold["fold"]), *given, f"{score['n']:,}", _figure(score["score"]))
    return table


def _system_table(facts: Mapping[str, Any]) -> Table:
    unit = in_brackets(facts["unit"])
    columns = {
        f"MAE{unit}": "mae",
        "95 % of it": "mae_interval",
        f"MAD{unit}": "mad",
        "MAE/MAD": "relative",
        "95 % of that": "relative_interval",
        f"bias{unit}": "bias",
    }
    if facts["kind"] == "classification":
        columns = {
            "accuracy": "accuracy",
            "95 % of it": "accuracy_interval",
            "balanced accuracy": "balanced_accuracy",
            "95 % of that": "balanced_accuracy_interval",
            "share true": "positive",
        }
    table = _table("Crystal systems, with 95 % intervals", "system", "n", *columns)
    for system in (*facts["breakdown"]["systems"], facts["breakdown"]["overall"]):
        name = system["group"] + (" (few rows)" if system["is_small"] else "")
        style = "bold" if system["group"] == "all" else "dim" if system["is_small"] else None
        table.add_row(name, f"{system['n']:,}", *(_cell(system[key]) for key in columns.values()), style=style)
    return table


def _model_table(facts: Mapping[str, Any]) -> Table:
    what = "MAE" if facts["kind"] == "regression" else "wrong labels"
    own = f"its {what}{in_brackets(facts['unit'])}"
    headings = ("model", "n", own, "of this file", "this minus other", "95 % of that")
    table = _table("Other models on the same rows", *headings)
    for entry in facts["against"]:
        cells = ["–"] * 4
        if entry["comparison"] is not None:
            overall = entry["comparison"]["overall"]
            cells = [_cell(overall[key]) for key in ("other", "one", "difference", "difference_interval")]
        table.add_row(entry["model"], f"{entry['n']:,}", *cells)
    return table


def _cell(value: float | Sequence[float | None] | None) -> str:
    if isinstance(value, Sequence):
        return " to ".join(map(_figure, value)) if any(end is not None for end in value) else "–"
    return _figure(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else figures(value)


def _metric(facts: Mapping[str, Any]) -> str:
    return "MAE" if facts["kind"] == "regression" else primary_metric("classification").label


def _examples(some: Mapping[str, Any]) -> str:
    """Return the first few of some ids, in brackets."""
    return f"({', '.join(some['first'])}{', ...' if some['n'] > len(some['first']) else ''})"


def _on_ids(facts: Mapping[str, Any]) -> Iterator[str]:
    ids = facts["ids"]
    name = facts["file"] if facts["form"] == "csv" else f"{facts['file']} ({facts['model']}, {facts['set']})"
    yield (
        f"{name} holds {count(facts['n'], 'prediction')} for {facts['task']}: {ids['n_rows']:,} of its "
        f"{facts['n_rows']:,} rows, {ids['coverage']:.1%}."
    )
    if foreign := ids["foreign"]["n"]:
        whose = f"; they look like rows of {ids['foreign']['task']}" if ids["foreign"]["task"] else ""
        verb = "is" if foreign == 1 else "are"
        yield f"{count(foreign, 'id')} {verb} no row of it {_examples(ids['foreign'])}{whose}."
    if repeated := ids["repeated"]["n"]:
        differ = ids["repeated"]["conflicting"]
        told = f"{differ:,} of them with different predictions" if differ else "always with the same prediction"
        again = f"{count(repeated, 'id')} {'occurs' if repeated == 1 else 'occur'} more than once"
        yield f"{again} {_examples(ids['repeated'])}, {told}; the first prediction counts."
    if broken := ids["not_usable"]["n"]:
        what = "finite number" if facts["kind"] == "regression" else "probability"
        yield f"For {count(broken)} the prediction is no {what} {_examples(ids['not_usable'])}; they are not scored."


def _on_folds(facts: Mapping[str, Any]) -> Iterator[str]:
    folds = facts["folds"]
    which = folds["which"]
    if folds["kind"] == "unknown":
        yield (
            "Which official folds they are cannot be told: the folds of a classification depend on the labels of all "
            "rows, which are not at hand."
        )
    elif folds["kind"] == "whole":
        yield from _on_whole_folds(folds)
    elif folds["kind"] == "part":
        share = folds["folds"][which[0]]["share"]
        yield f"They are rows of the official fold {which[0]}, {share:.1%} of it{_and_extra(folds)}."
    else:
        shares = [folds["folds"][fold]["share"] for fold in which]
        number = "all five" if len(which) == len(folds["folds"]) else f"{len(which)}"
        yield (
            f"They are not an official test fold: their rows are of {number} folds, "
            f"{min(shares):.1%} to {max(shares):.1%} of each{_as_many(facts)}."
        )
    if folds["states_folds"]:
        yield from _on_stated_folds(folds)
    elif folds["kind"] != "unknown":
        yield _on_training(folds)


def _on_stated_folds(folds: Mapping[str, Any]) -> Iterator[str]:
    if folds["n_misplaced"]:
        yield f"{count(folds['n_misplaced'])} stand in another fold than the official one."
    elif folds["n_misplaced"] == 0:
        yield (
            "The file names the fold of each row, and it is the official one; that no model was trained on the "
            "rows that it predicts rests on the word of its authors."
        )


def _on_training(folds: Mapping[str, Any]) -> str:
    """Say whether models trained as MatBench asks could have made the predictions of a file that states no folds."""
    if folds["kind"] == "spread":
        return (
            "No model that was trained as MatBench asks, on four folds, has all of them as test rows, and the file "
            "names no model or fold for a row: which rows were trained on cannot be told, so that this is no MatBench "
            "result."
        )
    if len(folds["which"]) > 1:
        return (
            "The file names no model or fold for a row: whether each was predicted by the model that had not been "
            "trained on it cannot be told, so that this is no MatBench result."
        )
    if folds["extra"]["n"]:
        return (
            f"A model trained on the other four folds could not have had the {count(folds['extra']['n'])} of other "
            "folds as test rows, and one fold of five is no MatBench result."
        )
    return (
        "One model trained on the other four folds could have made them; the file does not show that it did, and "
        "one fold of five is no MatBench result."
    )


def _as_many(facts: Mapping[str, Any]) -> str:
    """Say where there are as many rows as a fold has: then they are a fifth that was drawn in another way."""
    n_test = facts["folds"]["folds"][0]["n_test"]
    return ", as many in all as one fold has" if abs(facts["ids"]["n_rows"] / n_test - 1) < 0.01 else ""


def _on_whole_folds(folds: Mapping[str, Any]) -> Iterator[str]:
    which, missing = folds["which"], folds["missing"]
    if len(which) == len(folds["folds"]):
        name = "all five official folds"
    else:
        plural = "s" if len(which) > 1 else ""
        name = f"the official fold{plural} {', '.join(f'fold_{fold}' for fold in which)}"
    less = f" less {count(missing['n'])} {_examples(missing)}" if missing["n"] else ""
    yield f"They are {name}{less}{_and_extra(folds)}."


def _and_extra(folds: Mapping[str, Any]) -> str:
    extra = folds["extra"]
    return f", and {count(extra['n'])} of other folds {_examples(extra)}" if extra["n"] else ""


def _on_score(facts: Mapping[str, Any]) -> Iterator[str]:
    overall, rows, unit = facts["breakdown"]["overall"], facts["rows"], after_number(facts["unit"])
    scored = f"the {count(rows['n_scored'])} whose targets are at hand" if rows["n_not_at_hand"] else "these rows"
    if rows["n_scored"] < facts["ids"]["n_rows"] and not rows["n_not_at_hand"]:
        scored = f"the {count(rows['n_scored'])} that can be scored"
    origin = "the official data" if rows["is_verified"] else rows["source"]
    if facts["kind"] == "regression":
        relative = (
            f", {overall['relative']:.1%} of the targets' own mean absolute deviation" if overall["relative"] else ""
        )
        yield (
            f"On {scored} (targets from {origin}) the MAE is {_figure(overall['mae'])}{unit} "
            f"[{_ends(overall['mae_interval'])}]{relative}."
        )
    else:
        yield (
            f"On {scored} (targets from {origin}) the accuracy is {_figure(overall['accuracy'])} "
            f"[{_ends(overall['accuracy_interval'])}] and the balanced accuracy, MatBench's 'rocauc', "
            f"{_figure(overall['balanced_accuracy'])} [{_ends(overall['balanced_accuracy_interval'])}]."
        )
    yield _on_claim(facts["claim"], unit)
    if (targets := facts["targets"]) is not None and targets["n"]:
        yield _on_targets(targets, unit)


def _on_targets(targets: Mapping[str, Any], unit: str) -> str:
    if targets["differ"]["n"]:
        return (
            f"Its own targets are others than the official ones for {count(targets['differ']['n'])} of "
            f"{targets['n']:,} {_examples(targets['differ'])}, by up to {_figure(targets['largest'])}{unit}; the "
            "official ones are used."
        )
    if targets["largest"]:
        return f"Its own targets are the official ones to within {targets['largest']:.1g}{unit}, as if rounded."
    return "Its own targets are the official ones."


def _on_claim(claim: Mapping[str, Any] | None, unit: str) -> str:
    if claim is None:
        return "The file claims no score."
    by = "the file claims" if claim["source"] == "file" else "is claimed"
    if claim["is_met"]:
        return f"That agrees with the {claim['value']:.4g}{unit} that {by}."
    if claim["is_inside"]:
        return (
            f"That is not the {claim['value']:.4g}{unit} that {by}, which lies in the interval, as the score of other "
            "rows would."
        )
    known = claim["value"] > 0 and claim["found"] is not None
    times = f", but {claim['found'] / claim['value']:.2f} times as much" if known else ""
    return f"That is not the {claim['value']:.4g}{unit} that {by}{times}."


def _is_too_good(claim: Mapping[str, Any]) -> bool:
    """Whether less is claimed than was found; an infinite error is None."""
    return not claim["is_met"] and (claim["found"] is None or bool(claim["found"] > claim["value"]))


def _on_bias(facts: Mapping[str, Any]) -> Iterator[str]:
    bias, unit = facts["bias"], after_number(facts["unit"])
    if facts["kind"] == "classification":
        yield (
            f"The mean probability is off the share of true labels by {bias['mean']:+.4f} [{_ends(bias['interval'])}]."
        )
        return
    yield f"The mean bias (prediction minus target) is {signed(bias['mean'])}{unit} [{_ends(bias['interval'])}]."
    if (affine := facts["affine"]) is not None:
        claim, beside = facts["claim"], ""
        if claim is not None and _is_too_good(claim):
            low, high = affine["mae_interval"]
            if affine["mae"] <= claim["value"]:
                beside = ", no more than the claim: a shift and scale of the published numbers could explain it"
            elif low is not None and low <= claim["value"] <= high:
                beside = (
                    ", an interval with the claim in it: a shift and scale of the published numbers could explain it"
                )
            else:
                beside = ", still more than the claim"
        yield (
            f"Without the bias the MAE would be {_figure(affine['shifted'])}{unit}. After an affine refit by least "
            f"squares ({_figure(affine['intercept'])} + {_figure(affine['slope'])} x prediction), which is fitted on "
            f"the test targets and no result, it would be {_figure(affine['mae'])}{unit} "
            f"[{_ends(affine['mae_interval'])}]{beside}."
        )


def _on_others(facts: Mapping[str, Any]) -> Iterator[str]:
    unit = after_number(facts["unit"])
    what = "MAE" if facts["kind"] == "regression" else "share of wrong labels"
    for entry in facts["against"]:
        if entry["comparison"] is None:
            yield f"{entry['model']} ({entry['file']}) predicts none of these rows."
            continue
        overall = entry["comparison"]["overall"]
        rows = "the same rows" if entry["n"] == facts["rows"]["n_scored"] else f"the {count(entry['n'])} that both have"
        yield (
            f"{entry['model']} has {what} {_figure(overall['other'])}{unit} on {rows}: {facts['model']} is "
            f"{_better(overall)} (difference {signed(overall['difference'])}{unit} "
            f"[{_ends(overall['difference_interval'])}])."
        )
    board = facts["leaderboard"]
    if board["rank"] is not None:
        yield (
            f"With a mean {_metric(facts)} of {_figure(board['mean'])}{unit} over the five folds it takes rank "
            f"{board['rank']} beside {board['n_models']} published models."
        )
    elif board["n_models"]:
        yield f"It has no rank beside the {board['n_models']} published models: {board['reason']}."


def _better(overall: Mapping[str, Any]) -> str:
    return {"one": "better", "other": "worse", None: "not shown to be better or worse"}[overall["better"]]


def _on_set(entry: Mapping[str, Any], file: str) -> str:
    told = f"{entry['set']}: {count(entry['n'], 'prediction')}"
    if not entry["n"]:
        return f"{told}."
    claim = f", for which it claims {entry['claim']}" if entry["claim"] else ""
    if entry["task"] is not None:
        return f"{told} for {entry['task']}{claim}; to be checked with `sen-bench audit {file} --task {entry['task']}`."
    repeated = f"{count(entry['n_repeated'], 'id')} twice" if entry["n_repeated"] else "no id twice"
    broken = f"{entry['n_not_finite']:,} are no finite number" if entry["n_not_finite"] else "all are finite numbers"
    span = f" from {_figure(entry['range'][0])} to {_figure(entry['range'][1])}" if entry["range"] else ""
    sentence = (
        f"{told}{claim}. What can be checked: {repeated}, {broken}{span}. What cannot: its ids ({entry['example']}, "
        "...) are of no MatBench task, and the file has neither their targets nor the rows trained on, so that neither "
        "the claim nor the split can be verified."
    )
    return " ".join([sentence, *map(_on_shared, entry["shared"])])


def _on_shared(shared: Mapping[str, Any]) -> str:
    if not shared["n"]:
        return f"It shares no row with {shared['set']}."
    told = (
        f"With {shared['set']} it shares {count(shared['n'])}, on which the two predictions differ by "
        f"{_figure(shared['difference'])} [{_ends(shared['interval'])}] on average"
    )
    bound, (low, high) = shared["bound"], shared["interval"]
    if bound is None or low is None:
        return f"{told}."
    amount = "more than" if low > bound else "less than" if high < bound else "about"
    return (
        f"{told}: {amount} {bound:.4g}, the most there could be if both claims held on these rows and both sets had "
        "the same targets there (databases change)."
    )


def _ends(interval: Sequence[float | None]) -> str:
    return ", ".join(_figure(end) for end in interval) if any(end is not None for end in interval) else "no interval"
