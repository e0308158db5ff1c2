"""Say how often two names of one block come out different: each name has its own seeds of the same run.

    sen-bench run prototypes --block mlp --seeds 120 --folds 0 --epochs 8 --limit 300
    python -m tools.same_block runs/prototypes/mlp-HASH --seeds 3

The run's seeds make as many repetitions as they suffice for, each of so many seeds of a first and of a second name.
About one repetition in twenty comes out different by chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.base.console import count
from benchmarks.base.errors import SenBenchError, UsageError
from benchmarks.results.contrasts import Compared, Comparison, compare
from benchmarks.results.metrics import primary_metric
from benchmarks.results.store import Run, Training, find_run

__all__ = ["repetitions"]


def main() -> None:
    """Read the arguments and print each repetition and how many came out different."""
    parser = argparse.ArgumentParser(prog="python -m tools.same_block", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run with many seeds")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each name")
    arguments = parser.parse_args()
    try:
        found = list(repetitions(find_run(arguments.run), arguments.seeds))
    except SenBenchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    for comparison in found:
        answer = comparison.on_these_folds
        print(f"{comparison.difference / comparison.score:+.1%}  p = {answer.p:.3f}  {answer.verdict}")
    different = sum(each.on_these_folds.verdict in {"better", "worse"} for each in found)
    print(f"{different} of {len(found)} repetitions came out different.")


def repetitions(run: Run, n_seeds: int) -> Iterator[Comparison]:
    """Compare each group of seeds of a run with the next one, as two variants with the same seeds.

    Raises:
        UsageError: A group has fewer than 2 seeds, or the run has too few for two groups.
        DataError: A result cannot be read.
    """
    if n_seeds < 2:
        raise UsageError(f"--seeds takes 2 seeds of each name or more, because one has no noise, not {n_seeds}.")
    kind = run.read_config()["task"]["kind"]
    metric = primary_metric(kind)
    trainings = run.trainings()
    seeds = sorted({training.seed for training in trainings})
    if len(seeds) < 2 * n_seeds:
        raise UsageError(
            f"{run.path} has {count(len(seeds), 'seed')}, and two names of {n_seeds} seeds take {2 * n_seeds}: train "
            "more with `sen-bench run --seeds`."
        )
    groups = [seeds[i : i + n_seeds] for i in range(0, len(seeds) - n_seeds + 1, n_seeds)]
    for first, second in zip(groups[::2], groups[1::2], strict=False):
        pair = []
        for name, group in (("first", first), ("second", second)):
            as_named = {Training(group.index(each.seed), each.fold): each for each in trainings if each.seed in group}
            score = {new: run.read_metrics(old)["metrics"][metric.name] for new, old in as_named.items()}
            pair.append(Compared(name, score, {new: run.read_predictions(old) for new, old in as_named.items()}, 0.25))
        yield from compare([(pair[0], pair[1])], kind, higher_is_better=metric.higher_is_better)


if __name__ == "__main__":
    main()
