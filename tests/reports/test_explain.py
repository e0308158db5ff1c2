from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.own_data import own_task
from benchmarks.results.store import Run, Training
from tests.benchmarks.conftest import MODEL, Answer, Install
from tests.reports.made_models import made_dataset, mixed_rows, store_models

Command = Callable[..., Answer]

CIF = """data_x
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{atoms}
"""
PEROVSKITE = "Ba1 Ba 0 0 0\nTi1 Ti 0.5 0.5 0.48\nO1 O 0.5 0.5 0.03\nO2 O 0.5 0 0.53\nO3 O 0 0.5 0.53"
COPPER = "Cu1 Cu 0 0 0\nCu2 Cu 0.5 0.5 0\nCu3 Cu 0.5 0 0.5\nCu4 Cu 0 0.5 0.5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, Path]:
    root = tmp_path_factory.mktemp("explain")
    dataset: Dataset = made_dataset(root / "data", mixed_rows(40))
    capsule = store_models(root / "runs", dataset, variant="capsule", folds=(1, 3))
    mlp = store_models(root / "runs", dataset, variant="mlp", folds=(0,))
    (root / "perovskite.cif").write_text(CIF.format(a=4.0, c=4.3, atoms=PEROVSKITE))
    (root / "copper.cif").write_text(CIF.format(a=3.6, c=3.6, atoms=COPPER))
    (root / "<script>alert(1)<!--.cif").write_text(CIF.format(a=4.1, c=4.3, atoms=PEROVSKITE))
    (root / "broken.cif").write_text("data_x\n")
    return capsule, mlp, root


def facts_of(file: Path) -> list[dict[str, Any]]:
    sections = json.loads(file.with_suffix(".json").read_text())["tasks"][0]["sections"]
    return [section["facts"] for section in sections.values()]


def test_files_and_rows_become_one_page(made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path) -> None:
    capsule, _, root = made
    row = capsule.read_predictions(Training(0, 3)).ids[0]
    other = next(f"mb-jdft2d-{i:03d}" for i in range(1, 41) if i not in _tested(capsule))
    out = tmp_path / "x.html"
    names = f"{root}/perovskite.cif,{root}/copper.cif, {row} ,{other}"
    answer = sen_bench("explain", capsule.path, "--crystals", names, "-o", out, "--data-dir", root / "data")
    assert answer.code == 0, answer.err
    perovskite, copper, tested, unknown = facts_of(out)
    assert (perovskite["formula"], perovskite["fold"], perovskite["is_test_row"]) == ("BaTiO3", 1, False)
    assert sorted(o["multiplicity"] for o in perovskite["orbits"]) == [1, 1, 1, 2]
    for summary in perovskite["summary"].values():
        assert summary["equivalent"] == 0
        assert summary["inequivalent"] > 0
    assert len(perovskite["capsules"]["presence"]) == 16
    assert [len(pose) for pose in perovskite["capsules"]["pose"]] == [6] * 16
    for share in perovskite["capsules"]["share"]:
        assert sum(share) == pytest.approx(1)
    assert copper["atoms_primitive"] == 1
    assert copper["summary"]["angle"] == {"equivalent": 0, "inequivalent": None, "elements": None}
    # A row is explained by the model that did not see it, and predicted as that model did.
    assert (tested["fold"], tested["is_test_row"]) == (3, True)
    predictions = capsule.read_predictions(Training(0, 3))
    assert tested["prediction"] == pytest.approx(predictions.prediction[0], rel=1e-4)
    assert tested["target"] == pytest.approx(predictions.target[0])
    assert (unknown["fold"], unknown["is_test_row"]) == (1, False)
    page = out.read_text()
    assert "<title>BaTiO3, Cu" in page
    assert " by capsule on matbench_jdft2d – Crystals explained by sen-bench</title>" in page
    assert "<p>perovskite.cif: BaTiO3" in page  # the folder is of no use to others
    assert f"<p>{row}: " in page
    assert "has one atom, so there are no inequivalent atoms to compare" in page
    assert "--sections" not in page
    assert "BaTiO3" in answer.out
    assert "may have been trained on it" in answer.out


def _tested(run: Run) -> set[int]:
    return {int(name[-3:]) for training in run.trainings() for name in run.read_predictions(training).ids}


def test_rows_whose_ids_look_like_files_are_rows(sen_bench: Command, tmp_path: Path) -> None:
    content = {"index": [f"icsd/{i}.cif" for i in range(40)], "columns": ["structure", "gap"], "data": mixed_rows(40)}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    dataset = load_dataset(own_task(tmp_path / "mine.json", target="gap"), jobs=1)
    run = store_models(tmp_path / "runs", dataset, folds=(1,))
    row, out = run.read_predictions(Training(0, 1)).ids[0], tmp_path / "x.html"
    assert row.endswith(".cif")
    answer = sen_bench("explain", run.path, "--crystals", row, "-o", out, "--data-dir", tmp_path)
    assert answer.code == 0, answer.err
    assert row in out.read_text()
    answer = sen_bench("explain", run.path, "--crystals", "icsd/40.cif", "-o", tmp_path / "y.html")
    assert answer.code == 2
    assert "no file or folder icsd/40.cif" in answer.err


def test_a_row_is_explained_by_a_run_of_0_1(runs_of_0_1: Path, sen_bench: Command, tmp_path: Path) -> None:
    run, out = Run(runs_of_0_1 / "prototypes" / "mlp-c82ce5750e"), tmp_path / "x.html"
    predictions = run.read_predictions(Training(1, 0))
    answer = sen_bench("explain", run.path, "--crystals", predictions.ids[0], "-o", out)
    assert answer.code == 0, answer.err
    (facts,) = facts_of(out)
    assert (facts["is_test_row"], facts["prediction"]) == (True, pytest.approx(predictions.prediction[0], rel=1e-4))


def test_a_block_without_capsules(made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path) -> None:
    _, mlp, root = made
    out = tmp_path / "x.html"
    answer = sen_bench("explain", mlp.path, "--crystals", root / "perovskite.cif", "-o", out)
    assert answer.code == 0, answer.err
    assert facts_of(out)[0]["capsules"] is None
    assert "gives no shares of capsules" in out.read_text()


def test_a_model_is_explained_by_its_final_environments(
    made: tuple[Run, Run, Path], install: Install, sen_bench: Command, tmp_path: Path
) -> None:
    root = made[2]
    install(
        "opaque",
        f"{MODEL}\n    def forward(self, batch): return replace(super().forward(batch), atoms=None)\n",
        "model",
    )
    schnet, opaque = (
        store_models(tmp_path / "runs", made_dataset(tmp_path / "data", mixed_rows(40)), variant=name, folds=(0,))
        for name in ("schnet", "opaque")
    )
    out = tmp_path / "x.html"
    answer = sen_bench("explain", schnet.path, "--crystals", root / "perovskite.cif", "-o", out)
    assert answer.code == 0, answer.err
    (facts,) = facts_of(out)
    assert facts["summary"]["ks"]["equivalent"] == 0
    assert facts["summary"]["angle"]["inequivalent"] > 0
    page = out.read_text()
    assert "schnet has no environments before a block" in page
    assert "after the block" not in page
    answer = sen_bench("explain", opaque.path, "--crystals", root / "perovskite.cif", "-o", tmp_path / "y.html")
    assert answer.code == 1
    assert answer.err.endswith("Error: opaque cannot be explained: the model gives no environments of atoms.\n")


def test_removed_weights_are_said(made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path) -> None:
    import shutil

    capsule, _, root = made
    run = Run(tmp_path / "runs" / "matbench_jdft2d" / capsule.path.name)
    shutil.copytree(capsule.path, run.path)
    (run.training_path(Training(0, 3)) / "model.safetensors").unlink()
    row, out = run.read_predictions(Training(0, 3)).ids[0], tmp_path / "x.html"
    options = ("--crystals", row, "-o", out, "--data-dir", root / "data")
    answer = sen_bench("explain", run.path, *options)
    assert answer.code == 0, answer.err
    # The model that was tested on it is gone, and the other one may have been trained on it.
    assert (facts_of(out)[0]["fold"], facts_of(out)[0]["is_test_row"]) == (1, False)
    assert "The weights of fold 3, seed 0 of" in out.read_text()
    (run.training_path(Training(0, 1)) / "model.safetensors").unlink()
    answer = sen_bench("explain", run.path, *options, "--overwrite")
    assert (answer.code, f"{run.path} holds no weights (they were removed" in answer.err) == (1, True)


def test_hostile_names_stay_text(made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path) -> None:
    _, mlp, root = made
    out = tmp_path / "x.html"
    answer = sen_bench("explain", mlp.path, "--crystals", root / "<script>alert(1)<!--.cif", "-o", out)
    assert answer.code == 0, answer.err
    assert "<script>alert" not in out.read_text()
    assert "&lt;script&gt;alert" in out.read_text()


@pytest.mark.usefixtures("no_graph_of_polonium")
def test_a_crystal_without_a_graph_is_named(made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path) -> None:
    file = tmp_path / "po.vasp"
    file.write_text("polonium\n1.0\n3.35 0 0\n0 3.35 0\n0 0 3.35\nPo\n1\nDirect\n0 0 0\n")
    answer = sen_bench("explain", made[1].path, "--crystals", file, "-o", tmp_path / "x.html")
    assert answer.code == 1
    assert f"  {file} cannot be used (IndexError: cell list is full)." in answer.err


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        ("mb-jdft2d-999", 2, "neither a structure file nor a row of matbench_jdft2d, whose ids run from mb-jdft2d-001"),
        ("nothere.cif", 2, "There is no file or folder nothere.cif"),
        ("ROOT/broken.cif", 1, "broken.cif has a CIF without atoms"),
        ("ROOT/perovskite.cif,ROOT/broken.cif", 1, "Nothing is explained"),
        (" , ", 2, "--crystals takes structure files and row ids"),
        ("ROOT/runs", 2, "There is no structure file"),
    ],
)
def test_bad_crystals(
    made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path, names: str, code: int, message: str
) -> None:
    capsule, _, root = made
    out = tmp_path / "x.html"
    chosen = names.replace("ROOT", str(root))
    answer = sen_bench("explain", capsule.path, "--crystals", chosen, "-o", out, "--data-dir", root / "data")
    assert answer.code == code
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not out.exists()


def test_bad_runs_and_files(
    made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capsule, _, root = made
    file = root / "perovskite.cif"
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    empty = Run(tmp_path / "empty" / capsule.path.name)
    empty.write_config(capsule.read_config())
    answer = sen_bench("explain", empty.path, "--crystals", file, "-o", tmp_path / "x.html")
    assert (answer.code, "no finished fold" in answer.err) == (2, True)
    answer = sen_bench("explain", root / "runs", "--crystals", file, "-o", tmp_path / "x.html")
    assert (answer.code, "is not a run, but there are runs below it" in answer.err) == (2, True)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    answer = sen_bench("explain", capsule.path, "--crystals", "mb-jdft2d-001", "-o", tmp_path / "x.html")
    assert (answer.code, "not available" in answer.err) == (2, True)
    (tmp_path / "there.html").write_text("mine")
    answer = sen_bench("explain", capsule.path, "--crystals", file, "-o", tmp_path / "there.html")
    assert (answer.code, "--overwrite" in answer.err) == (2, True)
    assert (tmp_path / "there.html").read_text() == "mine"


def test_a_file_that_cannot_be_read_is_not_taken_for_the_page(
    made: tuple[Run, Run, Path], sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capsule, _, root = made

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "model.safetensors")

    options = ("--crystals", root / "perovskite.cif", "-o", tmp_path / "x.html")
    with monkeypatch.context() as patched:
        patched.setattr("reports.explain.explain", refuse)
        answer = sen_bench("explain", capsule.path, *options)
    assert answer.code == 1
    assert "cannot be explained: [Errno 13] Permission denied: 'model.safetensors'." in answer.err
    assert "--out" not in answer.err
    monkeypatch.setattr("benchmarks.base.files.write_bytes", refuse)
    answer = sen_bench("explain", capsule.path, *options)
    assert (answer.code, "x.html cannot be written (Permission denied)" in answer.err) == (2, True)
