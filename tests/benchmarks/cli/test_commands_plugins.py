"""Blocks that other packages bring: the how-to taken literally, and blocks that fail."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Structure

from benchmarks.base.errors import UsageError
from benchmarks.data.folds import Fold
from benchmarks.results.run_config import build_config, restore_config
from benchmarks.results.submission import read_submission
from benchmarks.training.trainer import _identity
from sen.registry import variant_code
from tests.benchmarks.conftest import BLOCK, MODEL, Answer, Install, Write, rocksalts
from tests.conftest import REPOSITORY

Command = Callable[..., Answer]
Follow = Callable[[str, str], tuple[list[str], list[str]]]

#: The block that docs/how-to/add-a-block.md of version 0.1 adds, which declares no `atom_width`.
BLOCK_OF_0_1 = """
from pydantic import Field
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config
from sen.ops import segment_sum
from torch import nn


class GatedConfig(Config):
    width: int = Field(512, ge=1, description="Width of an atom's environment after the block.")


class Block(SymmetryBlock):
    Config = GatedConfig

    def __init__(self, width, config):
        super().__init__(width, config)
        self.material_width = config.width
        self.layers = nn.Sequential(nn.Linear(width, 2 * config.width), nn.GLU())

    def forward(self, env, graph):
        atoms = self.layers(env)
        return SymmetryOutput(atoms, segment_sum(graph.weight[:, None] * atoms, graph.crystal, graph.n_crystals))
"""

#: What makes a run with any block take seconds.
SMALL_SEN = (
    *("--folds", 0, "--epochs", 1, "--set", "sen.encoder_width=16", "--set", "sen.head_width=16"),
    *("--set", "sen.dropout=0", "--set", "training.learning_rate=0.002", "--set", "training.batch_size=8"),
    *("--set", "training.weight_decay=0.01"),
)


needs_pip = pytest.mark.skipif(not (find_spec("pip") and find_spec("setuptools")), reason="needs pip and setuptools")


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Install the package of a how-to as it says, given its file and its module; return its other two commands."""

    def install_package(file: str, module: str) -> tuple[list[str], list[str]]:
        text = (REPOSITORY / "docs" / "how-to" / file).read_text()
        listings = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))
        n_lines = sum(listing.count("\n") for listing in listings.values())
        assert n_lines < 40
        install, check, run = (line.split() for line in listings["sh"].splitlines())
        package, site = tmp_path / "package", tmp_path / "site"
        package.mkdir()
        (package / "pyproject.toml").write_text(listings["toml"])
        (package / f"{module}.py").write_text(listings["python"])
        offline = ("--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet", "--target", site)
        subprocess.run([sys.executable, "-m", *install, *offline], cwd=package, check=True)
        monkeypatch.syspath_prepend(site)
        return check[1:], run[1:]

    return install_package


@needs_pip
@pytest.mark.usefixtures("unlearnt")
def test_how_to_adds_a_model(follow: Follow, write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    check, run = follow("add-a-model.md", "pair_model")
    answer = sen_bench(*check)
    assert answer.code == 0, answer.out
    assert [line for line in answer.out.splitlines() if not line.startswith("passed ")] == [
        "skipped  inner vectors rotate with the crystal: it has no vectors"
    ]

    # The command of the how-to, on data that take seconds.
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    run[run.index("prototypes")] = "matbench_jdft2d"
    few = ("--epochs", 1, "--batch-size", 8, "--data-dir", data, "--out", out)
    answer = sen_bench(*run, *few)
    assert answer.code == 0
    assert "(best epoch 1 of 1, " in answer.out
    answer = sen_bench(*run, *few, "--set", "training.validation=0", "--out", tmp_path / "of_all_rows")
    assert "(1 epoch, " in answer.out
    (path,) = out.glob("matbench_jdft2d/pair-*")
    record = json.loads((path / "seed_0" / "fold_0" / "metrics.json").read_text())
    assert record["model"] == "pair"
    assert record["model_code"].startswith("pair-model 0.1 ")
    config = json.loads((path / "config.json").read_text())["config"]
    assert (config["model_name"], config["pair"], config["graph"]["cutoff"]) == ("pair", {"width": 32}, 6.0)
    assert config["training"]["weight_decay"] == 0.01
    assert " pair " in sen_bench("models").out
    assert " pair " in sen_bench("status", out).out

    # Beside a block, on the same rows.
    ablate = (
        "ablate",
        "--task",
        "matbench_jdft2d",
        "--models",
        "pair",
        "--blocks",
        "mlp",
        "--set",
        "training.epochs=1",
    )
    answer = sen_bench(*ablate, "--folds", 0, "--data-dir", data, "--out", out)
    assert answer.code == 0, answer.err
    page = tmp_path / "report.html"
    answer = sen_bench("report", out, "-o", page, "--data-dir", data)
    assert answer.code == 0, answer.err
    assert "pair" in page.read_text()


@needs_pip
@pytest.mark.deep
@pytest.mark.usefixtures("unlearnt")
def test_a_model_of_the_how_to_becomes_a_submission(
    follow: Follow, data_dir: Path, sen_bench: Command, tmp_path: Path
) -> None:
    follow("add-a-model.md", "pair_model")
    out, file = tmp_path / "runs", tmp_path / "results.json.gz"
    options = ("--model", "pair", "--epochs", 1, "--set", "training.learning_rate=0.01")
    answer = sen_bench("run", "matbench_phonons", *options, "--data-dir", data_dir, "--out", out)
    assert answer.code == 0, answer.err
    (run,) = out.glob("matbench_phonons/pair-*")
    answer = sen_bench("export", run, "-o", file)
    assert answer.code == 0, answer.err
    submission = read_submission(file)
    assert submission.user_metadata["algorithm"] == "pair"


@needs_pip
@pytest.mark.usefixtures("unlearnt")
def test_how_to_adds_a_block(follow: Follow, write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    check, run = follow("add-a-block.md", "gated_block")
    answer = sen_bench(*check)
    assert answer.code == 0, answer.out
    lines = answer.out.splitlines()
    assert [line for line in lines if not line.startswith("passed ")] == [
        "skipped  inner vectors rotate with the crystal: it has no vectors"
    ]
    assert "passed   rotation does not matter" in lines

    # The command of the how-to, on data and with a model that take seconds.
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    run[run.index("prototypes")] = "matbench_jdft2d"
    answer = sen_bench(*run, "--data-dir", data, "--out", out, *SMALL_SEN, "--set", "block.width=16")
    assert answer.code == 0, answer.err
    (metrics,) = out.glob("matbench_jdft2d/gated-*/seed_0/fold_0/metrics.json")
    assert json.loads(metrics.read_text())["block"] == "gated"
    listed = sen_bench("blocks")
    assert "gated" in listed.out


@pytest.mark.usefixtures("unlearnt")
def test_the_block_of_the_how_to_of_0_1_is_sound_and_trains(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install("gated", BLOCK_OF_0_1)
    check = sen_bench("check-block", "gated")
    assert check.code == 0, check.out
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    words = ("run", "matbench_jdft2d", "--block", "gated", "--data-dir", data, "--out", out, *SMALL_SEN)
    answer = sen_bench(*words, "--set", "block.width=16")
    assert answer.code == 0, answer.err


def test_block_that_raises_is_reported_in_one_sentence(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forward = 'def forward(self, env, graph): raise ValueError("the matrix is singular,\\nand not even square")'
    install("raises", f"{BLOCK}\n    {forward}\n")
    check = sen_bench("check-block", "raises")
    assert check.code == 1
    message = "ValueError: the matrix is singular, and not even square"
    assert f"failed   interface: output has the declared shapes: {message}" in check.out.splitlines()
    assert check.err.splitlines() == ["Error: The block 'raises' breaks 1 of 21 contracts."]

    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    with caplog.at_level(logging.DEBUG, logger="sen_bench"):
        run = sen_bench("run", "matbench_jdft2d", "--block", "raises", "--data-dir", data, "--out", out, *SMALL_SEN)
    assert run.code == 1
    assert f"fold 0, seed 0 failed: SEN with the block 'raises' raised {message}. `sen-bench check-block" in run.out
    assert "1 of 1 trainings failed" in run.err
    assert "in forward" in caplog.text
    assert not list(out.rglob("fold_0"))


@pytest.mark.usefixtures("unlearnt")
def test_result_of_other_code_of_a_block_is_kept_and_reported(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "runs"
    arguments = ("run", "matbench_jdft2d", "--block", "edited", "--data-dir", write_data(rocksalts(40)), "--out", out)
    source = "from baselines.blocks.mlp import MLPBlock\n\nclass Block(MLPBlock):\n    pass\n"
    install("edited", source)
    assert sen_bench(*arguments, *SMALL_SEN).code == 0
    (metrics,) = out.rglob("metrics.json")
    before = json.loads(metrics.read_text())["block_code"]
    assert re.fullmatch(r"edited 1\.0 [0-9a-f]{10}", before)
    assert sen_bench(*arguments, *SMALL_SEN).code == 0
    assert not caplog.records

    install("edited", f"{source}\n# better\n")
    again = sen_bench(*arguments, *SMALL_SEN)
    assert again.code == 0
    assert "0 of 1 trainings to do" in again.out
    message = "fold 0, seed 0 was trained with other code of the block 'edited' than is installed now"
    assert f"{message} and is kept as it is" in caplog.text
    crystal = tmp_path / "a.cif"
    Structure.from_dict(rocksalts(1)[0][0]).to(str(crystal))
    run = metrics.parents[2]
    assert sen_bench("predict", run, crystal).code == 0
    assert f"{message}, and what is installed may be another model." in caplog.text
    page = tmp_path / "explained.html"
    assert sen_bench("explain", run, "--crystals", crystal, "-o", page).code == 0
    assert "than is installed now, and the environments are those of what is installed" in page.read_text()

    install("edited", f"{source}    def forward(self, env, graph): raise ValueError('boom')\n")
    for command in (("predict", run, crystal), ("explain", run, "--crystals", crystal, "-o", tmp_path / "b.html")):
        answer = sen_bench(*command)
        assert answer.code == 1
        assert "Error: SEN with the block 'edited' raised ValueError: boom." in answer.err

    install("edited", f"{source}\n# better\n")
    assert sen_bench(*arguments, *SMALL_SEN, "--overwrite", "always").code == 0
    assert json.loads(metrics.read_text())["block_code"] not in {before, None}


def test_state_of_other_code_of_a_block_is_not_gone_on_with(install: Install) -> None:
    fold = Fold(0, np.arange(4), np.arange(4, 6), np.arange(6, 8))
    identities = []
    for source in (BLOCK, BLOCK, f"# better\n{BLOCK}"):
        install("other_code", source)
        config = build_config("mine", "other_code")
        identities.append(_identity(config, np.arange(8.0), fold, "regression", 0))
    assert identities[0] == identities[1] != identities[2]
    assert variant_code("capsule") is None


def test_all_files_of_a_distribution_are_the_code_of_its_block(install: Install, tmp_path: Path) -> None:
    install("one_of_two", BLOCK)
    record, helper = tmp_path / "site/one_of_two-1.0.dist-info/RECORD", tmp_path / "site/its_helper.py"
    found = []
    for listed, content in (("", "x = 1"), ("its_helper.py,,\n", "x = 1"), ("its_helper.py,,\n", "x = 2")):
        record.write_text(listed)
        helper.write_text(content)
        variant_code.cache_clear()
        found.append(variant_code("one_of_two"))
    assert len(set(found)) == 3


def test_lack_of_memory_is_no_fault_of_the_block(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    forward = """def forward(self, env, graph): raise RuntimeError("DefaultCPUAllocator: can't allocate memory")"""
    install("hungry", f"{BLOCK}\n    {forward}\n")
    arguments = ("--data-dir", write_data(rocksalts(40)), "--out", tmp_path / "runs", *SMALL_SEN)
    run = sen_bench("run", "matbench_jdft2d", "--block", "hungry", *arguments)
    assert run.code == 1
    assert "fold 0, seed 0 failed: cpu ran out of memory: lower training.batch_size" in run.out


def test_block_that_breaks_the_interface_is_reported_in_one_sentence(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install(
        "tensor", BLOCK + "\n    def forward(self, env, graph):\n        return super().forward(env, graph).material\n"
    )
    check = sen_bench("check-block", "tensor")
    assert check.code == 1
    assert "output has the declared shapes: forward returns Tensor, not a SymmetryOutput" in check.out
    data = write_data(rocksalts(40))
    arguments = ("--data-dir", data, "--out", tmp_path / "runs", *SMALL_SEN)
    run = sen_bench("run", "matbench_jdft2d", "--block", "tensor", *arguments)
    assert run.code == 1
    assert "the block 'tensor' raised AttributeError" in run.out


def test_block_without_material_width_is_reported_before_anything_is_trained(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install("widthless", BLOCK + "        del self.material_width\n")
    check = sen_bench("check-block", "widthless")
    assert check.code == 1
    assert "its material_width is None; the constructor must set it" in check.out
    arguments = ("--data-dir", write_data(rocksalts(40)), "--out", tmp_path / "runs")
    for code, command in ((2, ("run", "matbench_jdft2d", "--block", "widthless", *arguments)), (1, ("blocks",))):
        answer = sen_bench(*command)
        assert answer.code == code
        assert "The block 'widthless' cannot be built: AttributeError" in answer.err
        assert "material_width" in answer.err
    # The others are listed all the same.
    assert "capsule" in answer.out
    assert "se3" in answer.out


def test_readout_of_a_block_without_environments_of_atoms_is_refused(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install("atomless", BLOCK + "        self.atom_width = None\n")
    arguments = ("--data-dir", write_data(rocksalts(40)), "--out", tmp_path / "runs", "--set", "sen.readout=mean")
    answer = sen_bench("run", "matbench_jdft2d", "--block", "atomless", *arguments)
    assert answer.code == 2
    assert (
        "The block 'atomless' cannot be built: it returns no environments of atoms that sen.readout = mean could read "
        "(its atom_width is None): use sen.readout = block." in answer.err
    )


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("function", "Block = print\n", "not a SymmetryBlock"),
        ("importless", "import a_package_that_is_not_there\n", "a_package_that_is_not_there"),
    ],
)
def test_what_is_not_a_block_is_named(
    install: Install, sen_bench: Command, name: str, source: str, reason: str
) -> None:
    install(name, source)
    answer = sen_bench("check-block", name)
    assert answer.code == 1
    first, *others = answer.out.splitlines()
    assert first.startswith("failed   interface: entry point leads to a symmetry block: ")
    assert reason in first
    assert all(line.startswith("skipped") for line in others)


def test_unknown_block_is_answered_with_the_nearest(sen_bench: Command) -> None:
    answer = sen_bench("check-block", "capsul")
    assert answer.code == 2
    assert "no block called 'capsul'. Did you mean capsule or capsule_released?" in answer.err
    assert not answer.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "megnt"), "There is no model called 'megnt'. Did you mean megnet"),
        (("--block", "megnet"), "There is no block called 'megnet'. Did you mean egnn"),
        (("--model", "capsule"), "There is no model called 'capsule'. Available: alignn, cgcnn,"),
        (("--model", "megnet", "--block", "mlp"), "--block X is short for --model sen with that block: leave out"),
        (
            ("--model", "megnet", "--set", "block.hidden=3"),
            "There is no configuration field 'block.hidden' (--set). Did you mean megnet.hidden",
        ),
        (
            ("--model", "megnet", "--set", "sen.dropout=0"),
            "There is no configuration field 'sen.dropout' (--set). Did you mean megnet.width or megnet.hidden or",
        ),
        (
            ("--model", "schnet", "--set", "megnet.gaussian_width=0.3"),
            "There is no configuration field 'megnet.gaussian_width' (--set). Did you mean schnet.gaussian_width or",
        ),
        (
            ("--block", "mlp", "--set", "megnet.gaussians=30"),
            "There is no configuration field 'megnet.gaussians' (--set). Did you mean sen.gaussians or",
        ),
        (
            ("--block", "mlp", "--set", "egnn.hidden=30"),
            "There is no configuration field 'egnn.hidden' (--set). Did you mean block.hidden",
        ),
    ],
)
def test_what_a_model_lacks_is_wrong_use(sen_bench: Command, words: tuple[str, ...], message: str) -> None:
    answer = sen_bench("run", "prototypes", *words)
    assert answer.code == 2
    assert answer.err.startswith(f"Error: {message}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_a_loss_of_regressions_is_refused_of_a_classification(
    sen_bench: Command, write_data: Write, tmp_path: Path, loss: str
) -> None:
    rows = [[made, float(a) > 5.5] for made, a in rocksalts(40)]
    options = ("--data-dir", write_data(rows, "matbench_mp_is_metal", "is_metal"), "--out", tmp_path / "runs")
    (tmp_path / "recipe.toml").write_text(f'[training]\nloss = "{loss}"\n')
    # That of SEN is mae, as is that of the publication of megnet; that of cgcnn is mse.
    for variant in (("--block", "mlp"), ("--model", "megnet"), ("--model", "cgcnn")):
        for given in (("--set", f"training.loss={loss}"), ("--config", tmp_path / "recipe.toml")):
            answer = sen_bench("run", "matbench_mp_is_metal", *variant, *options, *given)
            assert answer.code == 2
            assert answer.err == (
                "Error: matbench_mp_is_metal is a classification, which minimises the binary cross-entropy: leave out "
                f"training.loss={loss}, which is for regressions.\n"
            )


@pytest.mark.usefixtures("unlearnt")
@pytest.mark.parametrize(
    ("forward", "fault"),
    [
        ('raise ValueError("singular")', "ValueError: singular"),
        ("return super().forward(batch).prediction", "ValueError: forward returns Tensor, not a ModelOutput"),
        (
            "out = super().forward(batch); return replace(out, prediction=out.prediction.unsqueeze(1))",
            "ValueError: prediction has the shape (8, 1); with 8 crystals it must be (8,)",
        ),
        (
            "out = super().forward(batch); return replace(out, atoms=out.material)",
            "ValueError: atoms has the shape (8, 4); it must be (16, any width)",
        ),
        (
            "return replace(super().forward(batch), material=1)",
            "ValueError: material is int, not a Tensor",
        ),
    ],
)
def test_model_that_raises_or_returns_another_shape_is_reported_in_one_sentence(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path, forward: str, fault: str
) -> None:
    install("faulty", f"{MODEL}\n    def forward(self, batch):\n        {forward}\n", "model")
    check = sen_bench("check-model", "faulty")
    assert check.code == 1
    (line,) = (line for line in check.out.splitlines() if line.startswith("failed"))
    assert line.startswith("failed   interface: output has the declared shapes: ")
    arguments = ("--data-dir", write_data(rocksalts(40)), "--out", tmp_path / "runs", "--batch-size", 8)
    run = sen_bench("run", "matbench_jdft2d", "--model", "faulty", "--folds", 0, "--epochs", 1, *arguments)
    assert run.code == 1
    assert f"fold 0, seed 0 failed: The model 'faulty' raised {fault}. `sen-bench check-model faulty`" in run.out
    assert not list(tmp_path.rglob("fold_0"))


def test_a_name_of_a_block_and_a_model_is_refused(install: Install, sen_bench: Command) -> None:
    install("mlp", MODEL, "model")
    message = "A block and a model are both called 'mlp': one of the packages must rename its own."
    run = ("run", "prototypes")
    for command in ((*run, "--model", "mlp"), (*run, "--block", "mlp"), ("check-block", "mlp"), ("check-model", "mlp")):
        answer = sen_bench(*command)
        assert (answer.code, answer.err) == (2, f"Error: {message}\n")


def test_check_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; from sen.testing import run_contracts; next(run_contracts('mlp'))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("config", ["", "Config = dict", "Config = BaseModel"])
def test_block_without_a_config_of_its_own_is_reported_in_one_sentence(
    install: Install, sen_bench: Command, config: str
) -> None:
    forms = "from pydantic import BaseModel\nfrom sen.blocks import SymmetryBlock"
    body = f"{config}\n    def __init__(self, width, config): ...\n    def forward(self, env, graph): ..."
    install("bare", f"{forms}\n\nclass Block(SymmetryBlock):\n    {body}\n")
    message = "The block 'bare' cannot be used: its Config is not a subclass of sen.config.Config."
    for command in (("run", "prototypes", "--block", "bare"), ("ablate", "--task", "prototypes", "--blocks", "bare")):
        answer = sen_bench(*command)
        assert (answer.code, answer.err.splitlines()) == (2, [f"Error: {message}"])
    listed = sen_bench("blocks")
    assert (listed.code, listed.err.splitlines()) == (1, [f"Error: {message}"])
    assert "capsule" in listed.out


def test_fields_of_a_block_may_be_tuples(install: Install) -> None:
    source = (
        "from baselines.blocks.mlp import MLPBlock, MLPConfig\n\n"
        "class Config(MLPConfig):\n    sizes: tuple[int, ...] = (8, 8)\n\n"
        "class Block(MLPBlock):\n    Config = Config\n"
    )
    install("sized", source)
    for config in (build_config("mine", "sized"), build_config("mine", "sized", assignments=["block.sizes=[4,2,1]"])):
        assert restore_config(json.loads(config.model_dump_json())) == config
    assert config.block.sizes == (4, 2, 1)
    with pytest.raises(UsageError, match=r"block\.sizes\.1: Input should be a valid integer"):
        build_config("mine", "sized", assignments=['block.sizes=[4,"x"]'])


def test_help_of_a_command_is_read_as_text(sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit() -> None:
        """Fit gaps [eV], [red]not[/] \x1b[2Jmasses."""

    monkeypatch.setattr("benchmarks.cli.main.find_plugins", lambda _: {"fit": SimpleNamespace(load=lambda: fit)})
    for arguments in (["--help"], ["fit", "--help"]):
        answer = sen_bench(*arguments)
        assert answer.code == 0
        assert r"Fit gaps [eV], [red]not[/] \x1b[2Jmasses." in answer.out
