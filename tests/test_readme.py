"""What README shows is true: it is short, and its commands run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

# .ci/run calls these itself: it installs sen-bench as README says and ends with that study.
_BY_CI = {"git", "python", "pip", "sen-bench study quick"}


def _commands() -> list[str]:
    """Return the lines of README that are to be pasted into a shell, without those that CI runs itself."""
    lines = [line.strip() for line in re.findall(r"^    (\S.*)$", README, flags=re.MULTILINE)]
    commands = [line for line in lines if line.startswith("sen-bench")]
    assert {line.split()[0] for line in lines} == {"#", "git", "python", "pip", "sen-bench"}
    return [command for command in commands if command not in _BY_CI]


def test_readme_is_short_and_names_what_there_is() -> None:
    assert len(README.splitlines()) <= 150
    points = PROJECT["entry-points"]
    for command in points["sen_bench.commands"]:
        assert f"sen-bench {command}" in README
    for name in (*points["sen_bench.blocks"], *points["sen_bench.models"]):
        assert f"`{name}`" in README
    assert f"version = {{{PROJECT['version']}}}" in README


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


@pytest.mark.deep
def test_commands_of_the_readme_run_as_they_stand(tmp_path: Path, data_dir: Path) -> None:
    """In their order, as a new user pastes them; matbench_phonons is there already, so that nothing is downloaded."""
    cubes = [(f"x{i}", 3.0 + i / 50, ("Na", "K", "Rb")[i % 3]) for i in range(60)]
    rows = ["id,structure,band_gap"]
    for name, length, element in cubes:
        lattice = {"matrix": [[length, 0, 0], [0, length, 0], [0, 0, length]]}
        sites = [
            {"species": [{"element": species, "occu": 1}], "abc": abc}
            for species, abc in ((element, [0, 0, 0]), ("Cl", [0.5] * 3))
        ]
        structure = json.dumps(
            {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": sites}
        )
        rows.append(f'{name},"{structure.replace(chr(34), chr(34) * 2)}",{length - 2:.3f}')
    (tmp_path / "crystals.csv").write_text("\n".join(rows) + "\n")
    environment = {
        **os.environ,
        "SEN_BENCH_DATA": str(data_dir),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands, shown = _commands(), []
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        shown.append(done.stdout)
    assert commands[0] == "sen-bench run prototypes --block capsule"
    error, deviation = (
        float(re.findall(rf"{row} +│ +([\d.]+)", shown[0])[0]) for row in ("this run", "mean absolute deviation")
    )
    assert error < 0.1 * deviation
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Na" in done.stdout
