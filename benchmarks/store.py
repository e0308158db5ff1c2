"""The run store: one folder per run, one folder per finished fold in it, each written whole or not at all.

A run is `runs/<task>/<block>-<hash>/` with `config.json`, `summary.json` and, for every finished unit,
`seed_0/fold_0/` with `predictions.csv`, `metrics.json`, `history.csv`, `model.safetensors` and `manifest.json`, which
holds the hashes of the others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FORMAT", "Run", "Unit", "find_runs"]

FORMAT = 1


@dataclass(frozen=True, order=True)
class Unit:
    """One fold of one seed: the unit of work and of resume."""

    seed: int
    fold: int

    def __str__(self) -> str:
        """How messages name the unit."""
        return f"fold {self.fold}, seed {self.seed}"


class Run:
    """The folder of one run.

    Args:
        path: The folder; `create` makes a new one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path, task: str, name: str, facts: Mapping[str, Any]) -> Run:
        """Open the run `name` of a task, writing its config.json if it is new.

        Raises:
            UsageError: The folder cannot be written.
        """
        run = cls(root / task / name)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if not (run.path / "config.json").exists():
                _write_json(run.path / "config.json", {"format": FORMAT, **facts})
            elif not os.access(run.path, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise UsageError(
                f"The run folder {run.path} cannot be written ({error.strerror}): choose another with --out."
            ) from None
        return run

    def unit_path(self, unit: Unit) -> Path:
        """Folder of a finished unit."""
        return self.path / f"seed_{unit.seed}" / f"fold_{unit.fold}"

    def units(self) -> list[Unit]:
        """All finished units, verified by hash; a damaged one counts as missing and is said to be."""
        found = []
        for path in sorted(self.path.glob("seed_*/fold_*")):
            seed, fold = path.parent.name.removeprefix("seed_"), path.name.removeprefix("fold_")
            if seed.isdigit() and fold.isdigit() and self._is_whole(path):
                found.append(Unit(int(seed), int(fold)))
        return sorted(found)

    def read_metrics(self, unit: Unit) -> dict[str, Any]:
        """Read what was recorded of a finished unit."""
        return _read_json(self.unit_path(unit) / "metrics.json")

    def read_config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            DataError: It is not JSON.
        """
        return _read_json(self.path / "config.json")

    def write_unit(
        self,
        unit: Unit,
        *,
        predictions: Sequence[tuple[str, float, float]],
        record: Mapping[str, Any],
        history: Sequence[Any],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Write a finished unit, replacing an older one.

        Args:
            unit: Which fold of which seed.
            predictions: (row id, target, prediction) of every test row.
            record: Metrics and how they came about.
            history: One dataclass instance per epoch.
            weights: State of the trained model.

        Raises:
            UsageError: It cannot be written.
        """
        from safetensors.torch import save_file

        final = self.unit_path(unit)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
        try:
            temporary.mkdir(parents=True)
            _write_csv(temporary / "predictions.csv", ("id", "target", "prediction"), predictions)
            epochs = [asdict(epoch) for epoch in history]
            _write_csv(temporary / "history.csv", tuple(epochs[0]), [tuple(epoch.values()) for epoch in epochs])
            _write_json(temporary / "metrics.json", {"format": FORMAT, **record})
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
                temporary / "model.safetensors",
                metadata={"format": str(FORMAT)},
            )
            hashes = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            _write_json(temporary / "manifest.json", {"format": FORMAT, "sha256": hashes})
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
        except OSError as error:
            raise UsageError(f"The result of {unit} cannot be written to {final} ({error.strerror}).") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json in one step."""
        temporary = self.path / f".summary.{secrets.token_hex(4)}"
        _write_json(temporary, summary)
        temporary.replace(self.path / "summary.json")

    def _is_whole(self, path: Path) -> bool:
        try:
            manifest = _read_json(path / "manifest.json")
            whole = manifest["format"] == FORMAT and all(
                _sha256(path / name) == expected for name, expected in manifest["sha256"].items()
            )
        except (OSError, DataError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            logging.getLogger("sen_bench").warning("The result in %s is damaged and counts as missing.", path)
        return whole


def find_runs(root: Path) -> Iterator[Run]:
    """Yield every run below a folder, in order of their paths.

    Raises:
        UsageError: There is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}: name the one that was given to `sen-bench run` as --out.")
    for config in sorted(root.rglob("config.json")):
        if "config" in (run := Run(config.parent)).read_config():
            yield run


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for good: on the disk when this returns, numbers that are not finite as null."""
    with path.open("w") as file:
        json.dump(_finite(content), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
