"""Let the real matbench 0.6 check a submission file; run by a Python that has matbench and not sen-bench.

    python check_submission.py results.json.gz targets.json again.json

`targets.json` holds the targets of every task in the official order; they replace the official data, which matbench
would download. matbench loads the file, validates it and scores its predictions again, and must refuse damaged copies
of it. The file that matbench writes of the content goes to `again.json`.
"""

from __future__ import annotations

import copy
import gzip
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from matbench.bench import MatbenchBenchmark
from matbench.constants import VERSION
from matbench.util import hash_dictionary

TOLERANCE = 1e-9
# The program of `sen-bench verify`. Its folder must not be on the path, where its modules would hide those of Python.
_SPEC = spec_from_file_location("matbench_script", Path(__file__).parents[1] / "benchmarks/results/matbench_script.py")
assert _SPEC is not None
assert _SPEC.loader is not None
script = module_from_spec(_SPEC)
_SPEC.loader.exec_module(script)


def main(file: Path, targets: Path, again: Path) -> None:
    """Check the file; a failed assertion ends it."""
    assert VERSION == "0.6", VERSION
    content = json.loads(gzip.decompress(file.read_bytes()))
    benchmark = script.load(content)
    truth = json.loads(targets.read_text())
    assert set(truth) == set(content["tasks"])
    for name in truth:
        results = content["tasks"][name]["results"]
        compare(results, script.record(name, results, truth[name]))
        check_means(benchmark.scores[name], results)
        print(f"{name}: five folds loaded, validated and scored, equal to {TOLERANCE:g}")
    for damage in (edited, row_lost, row_of_another_fold, whole_number, score_left_out, fold_lost):
        refuse(content, damage)
    benchmark.to_file(again)


def compare(ours: Any, theirs: Any) -> None:
    """Require the same keys and texts, and numbers equal to the tolerance."""
    if isinstance(ours, dict):
        assert isinstance(theirs, dict)
        assert set(ours) == set(theirs), set(ours) ^ set(theirs)
        for key, value in ours.items():
            compare(value, theirs[key])
    elif isinstance(ours, float):
        assert abs(ours - theirs) <= TOLERANCE * max(1, abs(theirs)), (ours, theirs)
    else:
        assert ours == theirs, (ours, theirs)


def check_means(scores: dict[str, dict[str, float]], results: dict[str, Any]) -> None:
    """Require that the benchmark's means are those of the folds in the file."""
    for metric, statistics in scores.items():
        folds = [results[fold]["scores"][metric] for fold in results]
        compare(sum(folds) / len(folds), float(statistics["mean"]))


def refuse(content: dict[str, Any], damage: Any) -> None:
    """Require that matbench refuses the damaged content."""
    spoilt = copy.deepcopy(content)
    damage(spoilt)
    if damage is not edited:
        del spoilt["hash"]
        spoilt["hash"] = hash_dictionary(spoilt)
    try:
        MatbenchBenchmark.from_dict(spoilt)
    except (KeyError, TypeError, ValueError) as error:
        print(f"{damage.__name__}: refused ({type(error).__name__})")
    else:
        raise AssertionError(f"matbench took a file although {damage.__name__}")


def _first(content: dict[str, Any], part: str) -> dict[str, Any]:
    return next(iter(content["tasks"].values()))["results"]["fold_0"][part]


def edited(content: dict[str, Any]) -> None:
    """Change a prediction and leave the hash as it was."""
    data = _first(content, "data")
    data[next(iter(data))] *= 0.5


def row_lost(content: dict[str, Any]) -> None:
    """Leave out a prediction."""
    _first(content, "data").popitem()


def row_of_another_fold(content: dict[str, Any]) -> None:
    """Exchange the predictions of two folds."""
    results = next(iter(content["tasks"].values()))["results"]
    results["fold_0"], results["fold_1"] = results["fold_1"], results["fold_0"]


def whole_number(content: dict[str, Any]) -> None:
    """Write a prediction without its decimal point."""
    data = _first(content, "data")
    data[next(iter(data))] = 1


def score_left_out(content: dict[str, Any]) -> None:
    """Leave out a score."""
    _first(content, "scores").popitem()


def fold_lost(content: dict[str, Any]) -> None:
    """Leave out a fold."""
    del next(iter(content["tasks"].values()))["results"]["fold_4"]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
