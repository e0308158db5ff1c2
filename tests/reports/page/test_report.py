"""The report command: facts without HTML, honest states, bad input."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from benchmarks.data.tasks import TASKS
from benchmarks.results.store import Training
from reports.page.report import choose_sections
from reports.page.section import Table, load_section, section_names
from reports.study.differences import compare_results
from reports.study.reading import read_studies
from tests.benchmarks.conftest import Answer, change_facts
from tests.reports.made_runs import N_ROWS, make_resampled, make_run, official, own
from tests.reports.page.conftest import OWN_SECTIONS, methods_of

Command = Callable[..., Answer]


def texts(name: str, facts: dict[str, Any]) -> str:
    """Everything that a section says in words."""
    blocks = load_section(name).show(facts)
    return " ".join(str(value) for block in blocks for value in vars(block).values() if isinstance(value, str))


def test_runs_on_one_data_set_with_two_targets_are_two_parts(sen_bench: Command, tmp_path: Path) -> None:
    for target in ("a", "b"):
        make_run(tmp_path / "runs" / target, own(tmp_path / "data", target=target))
    out = tmp_path / "report.html"
    answer = sen_bench("report", tmp_path / "runs", "-o", out, "--sections", ",".join(OWN_SECTIONS))
    assert answer.code == 0, answer.err
    found = json.loads(out.with_suffix(".json").read_text())["tasks"]
    assert [part["task"]["target"] for part in found] == ["a", "b"]
    ids = re.findall(r'\sid="([^"]+)"', out.read_text())
    assert len(ids) == len(set(ids))
    assert {"mine-overview", "mine-2-overview"} <= set(ids)


def test_an_archive_gives_the_report_of_its_runs(sen_bench: Command, tmp_path: Path) -> None:
    runs, archive, out = tmp_path / "runs", tmp_path / "results.zip", tmp_path / "report.html"
    dataset = official(tmp_path / "data")
    for block in ("mlp", "capsule"):
        make_run(runs, dataset, block=block, seeds=[0, 1])
    for weights in runs.rglob("model.safetensors"):
        weights.unlink()
    assert sen_bench("archive", runs, "-o", archive).code == 0
    texts, pages = [], []
    for source in (runs, archive):
        answer = sen_bench("report", source, "-o", out, "--overwrite", "--data-dir", tmp_path / "data")
        assert answer.code == 0, answer.err
        texts.append(out.with_suffix(".json").read_text().replace(str(source), "RUNS"))
        pages.append(out.read_text().replace(str(source), "RUNS"))
    of_runs, of_archive = (
        re.sub(r'"(made|seconds)": [^\n]+', "", re.sub(r'"20\d\d-[^"]+"', "", text)) for text in texts
    )
    assert of_archive == of_runs
    assert abs(len(pages[0]) - len(pages[1])) < 100


def test_the_pair_of_a_page_is_in_its_command(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    dataset = official(tmp_path / "data")
    for block in ("mlp", "capsule", "egnn"):
        make_run(tmp_path / "runs", dataset, block=block)
    (pair,) = report("--pair", "egnn,capsule")["sections"]["systems"]["facts"]["violins"]
    assert (pair["one"]["label"], pair["other"]["label"]) == ("egnn", "capsule")
    command = json.loads((tmp_path / "report.json").read_text())["command"]
    assert command[command.index("--pair") + 1] == "egnn,capsule"


def test_a_pair_of_an_unknown_name_is_refused(sen_bench: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    answer = sen_bench("report", tmp_path / "runs", "-o", tmp_path / "x.html", "--pair", "mlp,capsul")
    assert answer.code == 2
    assert answer.err == "Error: --pair: there is no result called 'capsul'. Available: mlp.\n"
    assert not (tmp_path / "x.html").exists()


def test_facts_of_the_overview(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset, seeds=[0, 1])
    make_run(tmp_path / "runs", dataset, block="capsule", noise=0.3)
    (study,) = read_studies([tmp_path / "runs"], data_dir=tmp_path / "data")
    facts = plain(load_section("overview").analyse(study, lambda *_: None))
    results = {result["label"]: result for result in facts["results"]}
    scores = [
        np.mean([run.read_metrics(Training(seed, fold))["metrics"]["mae"] for seed in (0, 1)]) for fold in range(5)
    ]
    assert results["mlp"]["mean"]["mae"] == pytest.approx(np.mean(scores))
    assert results["mlp"]["std"]["mae"] == pytest.approx(np.std(scores))
    assert results["mlp"]["seeds"] == {str(fold): [0, 1] for fold in range(5)}
    assert results["mlp"]["rows"] == N_ROWS
    assert not results["mlp"]["is_official"]  # partial data
    (contrast,) = facts["differences"]["contrasts"]
    assert contrast == {
        **plain(asdict(compare_results(study)[0])),
        "relative": contrast["difference"] / contrast["score"],
        "seeds_for_target": None,
    }
    assert (contrast["first"], contrast["second"], contrast["rows"]) == ("mlp", "capsule", N_ROWS)
    said = texts("overview", facts)
    assert "Not assessable: mlp against capsule (no fold has two seeds of both)." in said
    assert "Elsewhere in this report the MAE of a fold varies by " in said
    assert contrast["on_new_data"]["verdict"] == "better"
    assert "is better than" not in said  # the table says it
    assert "ran on 9.4 % of the official rows" in said


def test_nothing_on_new_data_with_a_file_that_names_no_folds(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset)
    folds = {name: training.fold for training in run.trainings() for name in run.read_predictions(training).ids}
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"{name},5.5\n" for name in folds))
    (found,) = report("--against", file)["sections"]["overview"]["facts"]["differences"]["contrasts"]
    assert found["on_new_data"]["reason"] == "its folds are not known"
    assert found["on_new_data"]["low"] is None
    file.write_text("id,prediction,fold\n" + "".join(f"{name},5.5,{fold}\n" for name, fold in folds.items()))
    (found,) = report("--against", file)["sections"]["overview"]["facts"]["differences"]["contrasts"]
    assert 0 < found["on_new_data"]["p"] < 1
    assert found["folds"] == [0, 1, 2, 3, 4]
    assert found["on_these_folds"]["reason"] == "a published file is of one training"


def test_facts_are_enough_to_show(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = report()
    assert list(facts["sections"]) == list(OWN_SECTIONS)
    for name, section in facts["sections"].items():
        assert section["state"] == "shown"
        assert list(load_section(name).show(section["facts"]))


def test_one_fold_of_one_run(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[3])
    facts = report()["sections"]
    assert facts["overview"]["facts"]["differences"] is None
    assert facts["overview"]["facts"]["results"][0]["std"] == {}
    said = texts("overview", facts["overview"]["facts"])
    assert "meV/atom (fold 3 alone, 1 seed, n = " in said


def test_different_folds_are_never_compared_by_their_means(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0, 1])
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[2])
    facts = report()["sections"]
    said = texts("overview", facts["overview"]["facts"])
    assert "must not be compared" in said
    assert (
        "These cannot be compared, because they have no training with the same seed and fold, or no row, in common: mlp"
        in said
    )
    assert facts["overview"]["facts"]["differences"]["apart"] == [["mlp", "capsule"]]
    assert facts["worst"]["facts"]["left_out"] == ["capsule"]


def test_fewer_rows_of_all_folds_are_never_compared_by_their_means(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    make_run(tmp_path / "runs", official(tmp_path / "part", n=30), block="capsule", noise=0.01)
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5\n" for i in range(1, 41)))
    facts = report("--against", file, sections="overview")["sections"]["overview"]["facts"]
    assert [result["has_all_rows"] for result in facts["results"]] == [False, True, False]
    assert {len(result["folds"]) for result in facts["results"]} == {5}
    said = texts("overview", facts)
    assert "must not be compared. Rows are missing from capsule (5 folds, n = 30)." in said
    assert "Of 2 runs" not in said
    (table,) = (block for block in load_section("overview").show(facts) if getattr(block, "name", "") == "results")
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["mlp", "capsule", "theirs"]
    assert "; models with fewer rows come last" in table.caption


def test_means_of_the_same_rows_are_compared_though_they_are_not_all(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[1, 2])
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[1, 2], noise=0.3)
    said = texts("overview", report(sections="overview")["sections"]["overview"]["facts"])
    assert re.search(r"Of 2 runs mlp has the lowest MAE: .*over 2 folds, 1 seed, n = 2\d\)", said)
    assert "ran on 9.4 % of the official rows" in said


def test_no_order_is_claimed_where_no_run_has_all_rows(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0, 1])
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[1, 2])
    said = texts("overview", report(sections="overview")["sections"]["overview"]["facts"])
    assert "jdft2d; none has all the rows that others have, and their means must not be compared." in said
    assert "best first" not in said


def test_two_tasks_in_one_page(tmp_path: Path, sen_bench: Command) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    make_run(tmp_path / "runs", own(tmp_path / "data"), folds=[0])
    out = tmp_path / "report.html"
    answer = sen_bench(
        "report", tmp_path / "runs", "-o", out, "--data-dir", tmp_path / "data", "--sections", "parity,systems"
    )
    assert answer.code == 0, answer.err
    html = out.read_text()
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert f"-o parity.html --data-dir {tmp_path}/data --sections parity<" in html
    assert f"-o {out} --data-dir {tmp_path}/data --sections parity,systems</code>" in html
    assert json.loads(out.with_suffix(".json").read_text())["command"][-2:] == ["--sections", "parity,systems"]
    for name in ("matbench-jdft2d", "matbench-jdft2d-parity", "mine-systems", "methods"):
        assert name in ids
        assert f'href="#{name}"' in html
    numbers = re.findall(r"<b>(Figure|Table) (\d+)\.</b>", html)
    for kind in ("Figure", "Table"):
        assert [int(n) for k, n in numbers if k == kind] == list(range(1, 1 + sum(k == kind for k, _ in numbers)))
    assert [task["task"]["name"] for task in json.loads((tmp_path / "report.json").read_text())["tasks"]] == [
        *("matbench_jdft2d", "mine")
    ]


def test_the_lead_says_which_runs_are_on_partial_data(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    def lead() -> str:
        report(sections="overview")
        (text,) = re.findall(r'<p class="lead">(.*?)</p>', (tmp_path / "report.html").read_text(), re.DOTALL)
        return str(text)

    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, block="egnn")
    assert "The data are partial: 9.43 % of the official rows." in lead()
    make_run(tmp_path / "runs", official(tmp_path / "part", n=30), block="tfn")
    whole = make_run(tmp_path / "runs", dataset, block="capsule")
    facts = whole.read_config()
    change_facts(whole, {**facts, "data": {**facts["data"], "is_complete": True, "coverage": 1.0}})
    told = re.findall(r"The data [^.]* partial: [\d.]+ %", lead())
    assert told == ["The data of egnn, mlp are partial: 9.43 %", "The data of tfn are partial: 4.72 %"]


def test_limit_is_told(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), flags={"limit": 20})
    said = texts("overview", report()["sections"]["overview"]["facts"])
    assert "at most 20 training rows in each fold (--limit)" in said


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("split", ["folds", "holdout:0.6/0.2/0.2"])
def test_own_data(tmp_path: Path, report: Callable[..., dict[str, Any]], kind: str, split: str) -> None:
    dataset = own(tmp_path / "data", kind=kind, split=split)
    folds = range(5) if split == "folds" else [0]
    make_run(tmp_path / "runs", dataset, folds=folds)
    make_run(tmp_path / "runs", dataset, block="capsule", folds=folds, noise=0.3)
    facts = report()["sections"]
    assert all(section["state"] == "shown" for section in facts.values()), facts
    said = texts("overview", facts["overview"]["facts"])
    assert ("split once" in said) == (split != "folds")
    few = "(a class has fewer than 10 test rows)"
    assert few in said or ("(one fold says nothing of other training rows)" in said) == (split != "folds")
    html = (tmp_path / "report.html").read_text()
    assert "Differences are those of declared contrasts" in methods_of(html)
    assert ("Scores are means over folds" in methods_of(html)) == (split == "folds")
    assert "matbench_rocauc" not in html
    assert ("balanced accuracy" in html) == (kind == "classification")
    assert "MatBench v0.1" not in html


def test_an_official_classification_stands_beside_what_matbench_calls_rocauc(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    run = make_run(tmp_path / "runs", own(tmp_path / "data", kind="classification"))
    facts = run.read_config()
    task = TASKS["matbench_mp_is_metal"]
    change_facts(run, {**facts, "task": task.facts(), "config": {**facts["config"], "task": task.name}})
    facts = report()["sections"]
    overview = facts["overview"]["facts"]
    assert overview["metric"]["name"] == "matbench_rocauc"
    score = overview["results"][0]["mean"]["matbench_rocauc"]
    assert score == pytest.approx(overview["results"][0]["mean"]["balanced_accuracy"])
    assert overview["results"][0]["mean"]["rocauc"] >= score
    said = texts("overview", overview)
    assert "mlp 1." in said  # a made-up run is the best of all
    assert "MatBench 'rocauc'" in said
    assert facts["systems"]["state"] == "absent"


def test_without_crystals_the_report_says_what_is_missing(
    tmp_path: Path, report: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "elsewhere"))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))  # without the crystals
    facts = report()["sections"]
    assert facts["systems"]["state"] == "absent"
    assert "--data-dir" in facts["systems"]["reason"]
    assert facts["worst"]["state"] == "shown"
    assert "Formulas, space groups and causes are missing." in texts("worst", facts["worst"]["facts"])
    assert facts["overview"]["state"] == "shown"


def test_hostile_names_stay_text(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    hostile, control = "<script>alert(1)<!--", "\x1b[31m\u202e\x07"
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset, name=f'{control}{hostile}" onload="x')
    facts = run.read_config()
    change_facts(run, {**facts, "task": {**facts["task"], "description": f"What {hostile} is & is not{control}"}})
    file = tmp_path / f"{control}{hostile}.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5\n" for i in range(1, 60)))
    report("--against", file)
    html = (tmp_path / "report.html").read_text()
    opened = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag == "script":
                opened.append(attributes)
            assert not [name for name, _ in attributes if name.startswith("on")]

    Parser().feed(html)
    assert opened == [[]]
    assert r"\x1b[31m\u202e\x07&lt;script&gt;alert(1)&lt;!--" in html
    files = [base64.b64decode(file).decode() for file in re.findall(r"charset=utf-8;base64,([^\"]+)", html)]
    assert any(r"\x1b[31m" in file for file in files)
    for text in (html, *files, (tmp_path / "report.json").read_text()):
        assert not set(text) & set(control.replace("[31m", ""))


PLUGIN = """
from reports.page.section import {imports}

class Plugin(Section):
    name, title = "plugin", "A plug-in"

    def analyse(self, study, progress):
        {analyse}

    def show(self, facts):
        {show}
"""


def install(site: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Put a package on the path as an installer leaves it, whose `Plugin` is the section plugin."""
    facts = site / "plugin-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[sen_bench.report_sections]\nplugin = plugin_section:Plugin\n")
    (site / "plugin_section.py").write_text(source)
    monkeypatch.delitem(__import__("sys").modules, "plugin_section", raising=False)
    monkeypatch.syspath_prepend(site)


FIGURE = "from reports.page.style import subplots; yield Figure('f', lambda: 1 / 0, 'c', 'm', 'a')"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("Plugin = print", "TypeError: the entry point 'plugin'"),
        (
            PLUGIN.format(imports="Section", analyse="raise ValueError('It ends.')", show="pass"),
            "ValueError: It ends. Everything else",
        ),
        (
            PLUGIN.format(imports="Section", analyse="raise ValueError('no <b>way</b>')", show="pass"),
            "ValueError: no <b>",
        ),
        (PLUGIN.format(imports="Section", analyse="return {'a': study}", show="pass"), "TypeError: JSON holds numbers"),
        (PLUGIN.format(imports="Section", analyse="return {}", show="yield 3"), "TypeError: it shows int"),
        (PLUGIN.format(imports="Section, Figure", analyse="return {}", show=FIGURE), "ZeroDivisionError: division by"),
        (PLUGIN.format(imports="Section", analyse="return {}", show="return None"), "TypeError"),
    ],
)
def test_a_section_that_fails_takes_nothing_else_down(
    tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    install(tmp_path / "site", monkeypatch, source)
    out = tmp_path / "report.html"
    answer = sen_bench("report", tmp_path / "runs", "-o", out, "--sections", "overview,plugin")
    assert answer.code == 1
    assert f"The section 'plugin' failed with {reason}" in answer.err
    assert "Error: The report is written, without what failed: plugin." in answer.err
    sections = json.loads((tmp_path / "report.json").read_text())["tasks"][0]["sections"]
    assert sections["plugin"]["state"] == "failed"
    assert sections["overview"]["state"] == "shown"
    html = out.read_text()
    assert "The section &#39;plugin&#39; failed with" in html
    assert "<b>way" not in html


def test_a_section_that_has_nothing_to_show_says_so(
    tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    imports = "Section\nfrom reports.study.study import Absent"
    raising = "raise Absent('There is no tea: boil water.')"
    install(tmp_path / "site", monkeypatch, PLUGIN.format(imports=imports, analyse=raising, show="pass"))
    answer = sen_bench("report", tmp_path / "runs", "-o", tmp_path / "a.html", "--sections", "plugin")
    assert answer.code == 0
    assert '<p class="absent">There is no tea: boil water.</p>' in (tmp_path / "a.html").read_text()


def test_bad_input_is_told(tmp_path: Path, sen_bench: Command) -> None:
    runs, out = tmp_path / "runs", tmp_path / "report.html"
    make_run(runs, official(tmp_path / "data"), folds=[0])
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.json").write_text("{")

    def told(*arguments: object) -> str:
        answer = sen_bench("report", *arguments)
        assert answer.code in {1, 2}
        assert not out.exists()
        return answer.err

    assert "There is no folder" in told(tmp_path / "nothing", "-o", out)
    for margin in ("2", "-2%", "0%", "100%", "two%"):
        assert "--margin takes a share above 0 and below 100 per cent" in told(runs, "-o", out, f"--margin={margin}")
    assert "there is no variant 'egnn'. Available: mlp" in told(runs, "-o", out, "--contrast", "egnn:mlp")
    assert "There is no run below" in told(tmp_path / "empty", "-o", out)
    assert "no section called 'party'. Did you mean parity" in told(runs, "-o", out, "--sections", "party")
    assert "none of them twice" in told(runs, "-o", out, "--sections", "parity,parity")
    assert "There is no folder" in told(runs, "-o", tmp_path / "no" / "report.html")
    assert "takes the name of an HTML file" in told(runs, "-o", tmp_path / "report")
    assert "no.json is not valid JSON" in told(runs, "-o", out, "--against", tmp_path / "no.json")
    assert "(--data-dir)" in told(runs, "-o", out, "--data-dir", tmp_path / "no")
    assert "cannot be read" in told(runs, "-o", out, "--against", tmp_path / "gone.json")


def test_runs_in_a_folder_whose_name_is_no_utf_8_are_reported(tmp_path: Path, sen_bench: Command) -> None:
    folder = tmp_path / os.fsdecode(b"runs\xff")
    make_run(folder, official(tmp_path / "data"), folds=[0])
    answer = sen_bench("report", folder, "-o", tmp_path / "report.html", "--sections", "overview")
    assert answer.code == 0
    assert "runs\\udcff" in (tmp_path / "report.html").read_text("utf-8")
    assert f"{tmp_path}/runs\\udcff" in json.loads((tmp_path / "report.json").read_text("utf-8"))["command"]


def test_what_exists_is_replaced_on_request_alone(tmp_path: Path, sen_bench: Command) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    command = ("report", tmp_path / "runs", "-o", tmp_path / "report.html", "--sections", "overview")
    (tmp_path / "report.json").write_text("mine")
    answer = sen_bench(*command)
    assert answer.code == 2
    assert "report.json exists" in answer.err
    assert (tmp_path / "report.json").read_text() == "mine"
    assert "was not written by a report" in sen_bench(*command, "--overwrite").err
    assert (tmp_path / "report.json").read_text() == "mine"
    (tmp_path / "report.json").unlink()
    assert sen_bench(*command).code == 0
    assert sen_bench(*command, "--overwrite").code == 0
    assert sen_bench(*command).code == 2


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(*_: object) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr("reports.sections.parity.Parity.analyse", interrupt)
    answer = sen_bench("report", tmp_path / "runs", "-o", tmp_path / "report.html", "--sections", "parity")
    signal.signal(signal.SIGINT, handler)
    assert answer.code == 130
    assert "nothing was written" in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "runs"]


def test_contrasts_and_margin_are_named_and_in_the_command(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    dataset = own(tmp_path / "data")
    for block in ("mlp", "capsule", "egnn"):
        make_run(tmp_path / "runs", dataset, block=block, noise=0.3)

    def told(*options: str) -> tuple[str, str]:
        said = texts("overview", report(*options, sections="overview")["sections"]["overview"]["facts"])
        return said, " ".join(json.loads((tmp_path / "report.json").read_text())["command"])

    said, command = told()
    assert "Every other result is compared with capsule. p-values are adjusted for what is assessable of" in said
    assert "--margin" not in command
    said, command = told("--contrast", "egnn:mlp", "--margin", "12.5 %")
    assert "What is compared was named by --contrast. p-values are adjusted for this contrast alone" in said
    assert "within 12.5 % of the second's score does not matter" in said
    assert "--contrast egnn:mlp --margin 12.5% --sections overview" in command


def test_sections_are_chosen_by_name() -> None:
    assert choose_sections(["parity", "overview"], section_names()) == ["parity", "overview"]
    assert set(OWN_SECTIONS) <= set(choose_sections(None, section_names()))


def test_plain_facts() -> None:
    value = {"a": np.float32(0.5), 2: (np.nan, np.int64(3)), "c": np.arange(2), "d": [float("inf"), None, True]}
    assert plain(value) == {"a": 0.5, "2": [None, 3], "c": [0, 1], "d": [None, None, True]}
    with pytest.raises(TypeError, match="not set"):
        plain({"a": {1}})


def test_the_split_stands_in_every_caption(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    for block in ("mlp", "capsule"):
        make_resampled(tmp_path / "runs", own(tmp_path / "data"), block=block)
    facts = report()["sections"]
    assert all(section["state"] == "shown" for section in facts.values()), facts
    html = (tmp_path / "report.html").read_text()
    captions = re.findall(r"<b>(?:Figure|Table) \d+\.</b> (.*?)<span", html, re.DOTALL)
    assert len(captions) > 4
    assert all("Split: resample." in caption for caption in captions)
    methods = methods_of(html)
    assert "Rows were split at random 8 times, with the seeds 0, 1 and so on (ShuffleSplit)" in methods
    assert "In each fold" in methods
    assert "Clopper and Pearson 1934" in methods
