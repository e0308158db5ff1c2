"""What a study file may hold, and what is said of one that is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from benchmarks.base.errors import UsageError
from studies.study_file import StudyFile, find_study_file, read_study_file
from tests.conftest import REPOSITORY

PROVIDED = ("accuracy", "fine_tuning", "log_kvrh", "mp_gap", "paper", "phonons", "quick", "recipe")


def read(tmp_path: Path, text: str) -> StudyFile:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study_file(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[ablate.a]\nblok = 'mlp'", "there is no key ablate.a.blok. Did you mean blocks?"),
        ("[ablate.a]\nmax_seeds = 3", "there is no key ablate.a.max_seeds. Did you mean max-seeds or"),
        ("[ablate.a]\nout = 'runs'", "there is no key ablate.a.out."),
        ("[ablate.a]\n[reports.b]", "there is no key reports. Did you mean report?"),
        ("[ablat.a]", "there is no key ablat. Did you mean ablate?"),
        ("[ablate.a]\n[report.b]\nrun = ['a']", "there is no key report.b.run. Did you mean runs?"),
        ("[ablate.a]\nseeds = '3'", "ablate.a.seeds: Input should be a valid integer (given: '3')."),
        ("[ablate.a]\nseeds = 0", "ablate.a.seeds: Input should be greater than or equal to 1 (given: 0)."),
        ("[ablate.a]\ncontrast = 'mlp:tfn'", "ablate.a.contrast: Input should be a valid array (given: 'mlp:tfn')."),
        ("[ablate.a]\nseed = nan", "ablate.a.seed: Input should be a"),
        ("[ablate]\nblocks = 'mlp'", "ablate.blocks is no table: give each one a name, such as [ablate.first]"),
        ("[[ablate]]\nblocks = 'mlp'", "ablate is no table: give each one a name"),
        ("", "it holds no ablation: add a table such as [ablate.first]"),
        ("[ablate]", "it holds no ablation"),
        ("[ablate.a]\n[archive.'../b']", "archive.../b: a name has letters, digits and _.+- and begins with"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith(f"{tmp_path / 'study.toml'}: {problem}")


def test_runs_are_those_of_ablations_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"archive\.b: runs names no ablation 'gap' .* Did you mean gaps\?"):
        read(tmp_path, "[ablate.gaps]\n[archive.b]\nruns = ['gap']")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The study file .*study\.toml is not valid TOML: "):
        read(tmp_path, "[ablate")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_study_file(tmp_path / "binary.toml")


def test_keys_are_the_options_of_the_command(tmp_path: Path) -> None:
    text = "[ablate.a]\nblocks = ['mlp', 'tfn']\nfolds = [0, 1]\nseeds = 3\nset = ['sen.rounds=1,3', 'sen.heads=2']"
    table = read(tmp_path, text).ablate["a"]
    words = "--blocks mlp,tfn --folds 0,1 --seeds 3 --set sen.rounds=1,3 --set sen.heads=2"
    assert table.words() == words.split()
    assert table.options() == {
        "blocks": "mlp,tfn",
        "folds": "0,1",
        "seeds": 3,
        "set_": ["sen.rounds=1,3", "sen.heads=2"],
    }


def test_the_audit_of_the_paper_takes_one_line_more(tmp_path: Path) -> None:
    text = find_study_file("paper").read_text()
    assert "against" not in read(tmp_path, text).report["paper"].options()
    found = read(tmp_path, text.replace("# against = ", "against = ")).report["paper"].options()
    assert found["against"] == [Path("sen_published_predictions.json.gz")]


def test_files_are_looked_for_in_the_data_folder_and_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    for folder in (data, here):
        folder.mkdir()
    for path in (data / "gaps.csv", here / "recipe.toml", here / "gaps.csv"):
        path.touch()
    monkeypatch.chdir(here)
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    text = "[ablate.a]\ntask = 'gaps.csv'\nconfig = ['recipe.toml', 'mlp=paper']\n[report.b]\nagainst = ['a.json.gz']"
    content = read(tmp_path, text)
    located = content.ablate["a"].located(data).options()
    assert located == {"task": str(data / "gaps.csv"), "config": ["recipe.toml", "mlp=paper"]}
    assert content.ablate["a"].located(None).options()["task"] == "gaps.csv"
    with pytest.raises(UsageError, match=r"^a\.json\.gz is neither in .*data nor in the current folder: name"):
        content.report["b"].located(data)
    (data / "gaps.csv").unlink()
    (here / "gaps.csv").unlink()
    with pytest.raises(UsageError, match=r"^gaps\.csv is not in the current folder: name the folder"):
        content.ablate["a"].located(None)
    # A task has its own list of names.
    assert read(tmp_path, "[ablate.a]\ntask = 'phonon'").ablate["a"].located(data).options() == {"task": "phonon"}


@pytest.mark.parametrize("name", PROVIDED)
def test_study_files_come_with_sen_bench(name: str) -> None:
    content = read_study_file(find_study_file(name))
    assert content.archive
    assert content.report or name == "recipe"  # whose table is that of docs/recipe.md


def test_the_plan_keeps_to_its_hours_and_names_studies_that_come_with_sen_bench() -> None:
    questions = tomllib.loads((REPOSITORY / "docs" / "plan.toml").read_text())["question"]
    assert sum(question["hours"] for question in questions) <= 60
    assert {question["study"] for question in questions if "study" in question} < set(PROVIDED)


def test_the_example_of_the_guide_is_a_study_file(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "how-to" / "write-a-study.md").read_text()
    content = read(tmp_path, guide.partition("```toml\n")[2].partition("```")[0])
    assert set(content.ablate) == {"blocks", "rounds"}


def test_a_file_goes_before_a_name_and_other_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {path.stem for path in find_study_file("quick").parent.glob("*.toml")} == set(PROVIDED)
    Path("quick").write_text("[ablate.a]")
    assert find_study_file("quick") == Path("quick")
    with pytest.raises(UsageError, match=r"^There is no file phonon, .* Did you mean phonons\?"):
        find_study_file("phonon")
    with pytest.raises(UsageError, match=r"is no file: name a study file, or one that comes with sen-bench: "):
        find_study_file(str(tmp_path))
