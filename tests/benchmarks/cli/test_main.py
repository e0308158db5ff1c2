"""How `sen-bench` ends when its output cannot be written, in processes of their own."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sen.registry import find_plugins
from tests.benchmarks.conftest import Answer, Write, rocksalts

ARCHIVE = Path(__file__).parents[3] / "docs" / "results" / "recipe.zip"
MAIN = "from benchmarks.cli.main import main; main()"
#: The commands of README and of the guides of 0.1, one of each form.
OF_0_1 = """
run prototypes --block capsule
run matbench_phonons --block capsule --seeds 3 --data-dir DATA
run crystals/ --target band_gap --unit eV --kind classification --split holdout:0.8/0.1/0.1 --on-bad-row skip
run prototypes --folds 0,1 --jobs 2 --epochs 60 --batch-size 32 --device auto --precision tf32
run prototypes --block gated --set block.width=256 --config paper --limit 8000 --overwrite only-missing --seed 1
tasks
blocks
prepare matbench_phonons --data-dir DATA
status runs/
check-block gated
ablate --blocks mlp,egnn,capsule
ablate --task matbench_phonons --blocks all --seeds 3 --jobs 2
ablate --task matbench_mp_gap --blocks all --folds 0 --limit 8000 --epochs 10
ablate --blocks capsule --set sen.rounds=1,3,5
ablate --task matbench_phonons --blocks all --dry-run
ablate --task gaps.json.gz --unit eV --split holdout:0.8/0.1/0.1 --blocks capsule --judge validation
ablate --task matbench_phonons --blocks all --backend dask --scheduler tcp://host:8786 --out runs
predict runs/matbench_phonons/capsule-9911e0d381 a.cif POSCAR more/ --format csv
export runs/matbench_phonons/capsule-9911e0d381 -o results.json.gz
report runs/ -o beside-alignn.html --data-dir DATA --against alignn.results.json.gz
report runs/ -o report.html --sections overview,bias
explain runs/matbench_phonons/capsule-9911e0d381 --crystals a.cif,mb-phonons-0489 --data-dir DATA -o explain.html
audit results.json.gz --task matbench_phonons --data-dir DATA
audit mine.csv --data-dir DATA --against alignn.results.json.gz --claimed 33.1
audit predictions.csv --rows matbench_mp_gap.rows.json.bz2 --against alignn.results.json.gz
"""
FULL = "The output cannot be written (No space left on device)"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("tasks > /dev/full", 1, f"Error: {FULL}.\n"),
        ("--version >&-", 1, "Error: The output cannot be written (Bad file descriptor).\n"),
        ("tasks | true", 141, ""),
        ("tasks --data-dir none 2> /dev/full", 2, ""),
        (f"archive {ARCHIVE} -o a.zip > /dev/full", 0, f"{FULL}; the results are in their files.\n"),
        (f"archive {ARCHIVE} -o a.zip | true", 0, ""),
        (
            f"--version; ulimit -f 0; sen-bench archive {ARCHIVE} -o a.zip",
            2,
            "Error: a.zip cannot be written (File too large).\n",
        ),
    ],
)
def test_what_is_lost_decides_how_a_command_ends(tmp_path: Path, arguments: str, code: int, sentence: str) -> None:
    # The reader of a pipe has gone before the first line.
    command = f'sen-bench() {{ sleep {int("|" in arguments)}; "$PYTHON" -c "$MAIN" "$@"; }}'
    done = subprocess.run(
        ["bash", "-c", f"{command}; set -o pipefail; sen-bench {arguments}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "MAIN": MAIN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, sentence)


def test_what_the_system_refuses_without_naming_a_file_is_a_sentence(
    sen_bench: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("benchmarks.cli.display.show_tasks", refuse)
    answer = sen_bench("tasks")
    assert answer.code == 1
    assert answer.err == "Error: The system refuses what the command needs (Too many open files).\n"


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "pipe.json"),
        ("audit", "absent.json"),
        ("run", "pipe.csv"),
        ("run", "pipe.json"),
        ("prepare", "pipe.parquet"),
        ("run", "prototypes", "--config", "pipe.json"),
    ],
)
def test_a_name_of_no_regular_file_is_wrong_use_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sen_bench: Callable[..., Answer], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe.json", "pipe.csv", "pipe.parquet"):
        os.mkfifo(name)
    answer = sen_bench(*words)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert f"{words[-1]} cannot be read" in answer.err


def test_folders_named_like_the_packages_do_not_stand_in_the_way(tmp_path: Path, write_data: Write) -> None:
    folder, script = tmp_path / "mine", tmp_path / "bin" / "sen-bench"
    script.parent.mkdir()
    script.write_text(f"if __name__ == '__main__':\n    {MAIN}\n")
    for name in ("sen", "baselines", "benchmarks", "ablations", "reports", "studies"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    data = write_data(rocksalts(600))  # as many as two workers share
    command = [sys.executable, script, "prepare", "matbench_jdft2d", "--data-dir", data, "--jobs", "2"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ARCHIVE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "600 crystals" in done.stdout


@pytest.mark.parametrize("line", OF_0_1.strip().splitlines())
def test_command_lines_of_0_1_are_understood(
    line: str, sen_bench: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = line.split(maxsplit=1)[0]
    command, called = find_plugins("sen_bench.commands")[name].load(), []

    @functools.wraps(command)
    def note(*_: object, **options: object) -> None:
        called.append(options)

    monkeypatch.setattr("benchmarks.cli.main.find_plugins", lambda _: {name: SimpleNamespace(load=lambda: note)})
    monkeypatch.setattr("benchmarks.cli.main.has_results_in_files", lambda *_: True)
    answer = sen_bench(*line.split())
    assert (answer.code, len(called)) == (0, 1), answer.err
