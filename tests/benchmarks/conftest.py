"""Small data sets, the command line and plug-ins, for tests that run commands."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from benchmarks.cli.main import main
from benchmarks.data.folds import data_digest
from benchmarks.results.recorded import config_digest
from benchmarks.results.store import Run, Training, facts_digest
from sen.crystal import SYMBOLS
from sen.registry import variant_code

Write = Callable[..., Path]
Install = Callable[..., None]

#: Options that make a run take seconds; it still does everything that a real one does.
SMALL = (
    *("--block", "mlp", "--set", "block.hidden=32", "--set", "block.width=16"),
    *("--set", "sen.encoder_width=16", "--set", "sen.head_width=16", "--set", "sen.dropout=0"),
    *("--set", "training.learning_rate=0.002", "--set", "training.batch_size=8", "--set", "training.weight_decay=0.01"),
)


#: Source of a small block in a package of its own, for `install`.
BLOCK = """
from baselines.blocks.mlp import MLPBlock, MLPConfig
from sen.blocks import SymmetryOutput

class Block(MLPBlock):
    def __init__(self, width, config):
        super().__init__(width, MLPConfig(hidden=8, width=4))
"""


#: Source of a small model in a package of its own, for `install`.
MODEL = """
from dataclasses import replace
from baselines.models.schnet import SchNet, SchNetConfig

class Model(SchNet):
    recipe = {}

    def __init__(self, config):
        super().__init__(SchNetConfig(width=8, interactions=1, head_width=8))
"""


def structure(lattice: np.ndarray, symbols: list[str], positions: np.ndarray) -> dict[str, Any]:
    """A crystal in the layout of MatBench's files: a pymatgen dictionary."""
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": position.tolist(), "label": symbol, "properties": {}}
        for symbol, position in zip(symbols, positions, strict=True)
    ]
    return {"@class": "Structure", "lattice": {"matrix": lattice.tolist()}, "sites": sites}


def rocksalts(n: int, seed: int = 0) -> list[list[Any]]:
    """Rows [structure, target] of random rocksalt crystals whose target is their lattice constant in Å."""
    rng = np.random.default_rng(seed)
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    rows = []
    for _ in range(n):
        a = rng.uniform(4.5, 6.5)
        pair = [SYMBOLS[rng.choice([2, 10, 18, 36])], SYMBOLS[rng.choice([8, 16, 34, 52])]]
        rows.append([structure(a * fcc, pair, np.array([[0, 0, 0], [0.5, 0.5, 0.5]])), a])
    return rows


@pytest.fixture(autouse=True)
def _no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests off the network and away from files that matminer has stored, and let downloads retry at once."""
    look_up = socket.getaddrinfo

    def refuse(host: str | bytes | None, *args: Any, **options: Any) -> Any:
        if host not in {None, "127.0.0.1", "localhost"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path_factory.getbasetemp() / "matminer"))
    monkeypatch.setattr("benchmarks.data.download.PAUSE", 0.001)


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a finished training, and its hash and size in the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name], manifest["size"][name] = hashlib.sha256(content).hexdigest(), len(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def made_record(run: Run, training: Training, n_rows: int, **fields: object) -> dict[str, Any]:
    """A record of a training of a run, with `n_rows` test rows and these fields; the others are made up."""
    facts = run.read_config()
    return {
        "task": facts["config"]["task"],
        "kind": facts["task"]["kind"],
        "block": facts["config"]["block_name"],
        "seed": training.seed,
        "fold": training.fold,
        "coverage": facts["data"]["coverage"],
        "data_digest": facts["data"]["digest"],
        "run": facts_digest(facts),
        "metrics": {},
        "mean_absolute_deviation": 1.0,
        "rows": {"train": 8, "validation": 1, "test": n_rows},
        "elements": [],
        "parameters": 7,
        "best_epoch": 1,
        "epochs": 1,
        "wall_seconds": 1.0,
        "peak_memory_bytes": 1,
        "device": "cpu",
        "threads": 1,
        "provenance": {},
        "sessions": [],
        **fields,
    }


def change_facts(run: Run, facts: Mapping[str, Any]) -> Run:
    """Make a run what it would be if its command had recorded these facts; its folder gets another name."""
    config, task, data = facts["config"], facts["task"], facts["data"]
    digest = config_digest(config, data_digest(data.get("digest"), task.get("split")))
    changed = Run(run.folder.rename(run.folder.with_name(f"{config.get('block_name')}-{digest}")))
    changed.write_config({"config": config, "task": task, "data": data})
    for folder in changed.folder.glob("seed_*/fold_*"):
        record = json.loads((folder / "metrics.json").read_text()) | {
            "task": config["task"],
            "kind": task.get("kind"),
            "block": config.get("block_name"),
            "coverage": data.get("coverage"),
            "data_digest": data.get("digest"),
            "run": facts_digest(facts),
        }
        replace_file(folder, "metrics.json", json.dumps(record).encode())
    return changed


def write_packed(path: Path, content: Mapping[str, Any]) -> None:
    """Write gzipped JSON without a time stamp: equal rows give equal files, which the cache knows from other tests."""
    path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


@pytest.fixture
def write_data(tmp_path: Path) -> Write:
    """Write rows as the partial file of a MatBench task into a folder; returns the folder."""

    def write(rows: list[list[Any]], task: str = "matbench_jdft2d", target: str = "exfoliation_en") -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        content = {"index": list(range(len(rows))), "columns": ["structure", target], "data": rows}
        write_packed(folder / f"{task}.partial.json.gz", content)
        return folder

    return write


#: Options with which version 0.1 made the runs of `runs_of_0_1`, beside those of the block.
OPTIONS_OF_0_1 = (
    *("--limit", 400, "--seed", 1, "--epochs", 6, "--set", "training.learning_rate=0.03", "--set", "sen.rounds=1"),
    *("--set", "sen.atom_embedding=4", "--set", "sen.encoder_width=4", "--set", "sen.environment_width=4"),
    *("--set", "sen.gaussians=4", "--set", "sen.head_width=4", "--set", "sen.heads=1"),
    *("--set", "block.width=4", "--set", "block.hidden=4"),
)
#: What continues them, because version 0.1 had other defaults.
DEFAULTS_OF_0_1 = (
    *("--set", "graph.symprec=0.01", "--set", "training.calibration=0", "--set", "training.validation=null"),
)


@pytest.fixture
def runs_of_0_1(tmp_path: Path) -> Path:
    """A store that version 0.1 (commit aa594f2) wrote: tiny runs of mlp and egnn on prototypes, and an ablation.

    Its commands were `sen-bench ablate --blocks mlp` and `sen-bench run prototypes --block egnn --set block.message=4
    --set block.layers=1` with OPTIONS_OF_0_1. Lock files and the tables of the ablation are left out.
    """
    folder = tmp_path / "of-0.1"
    zipfile.ZipFile(Path(__file__).parents[1] / "runs_of_0.1.zip").extractall(folder)
    return folder


@dataclass
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def sen_bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run `sen-bench` with these arguments in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["sen-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = end.value.code
        return Answer(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return call


@pytest.fixture
def unlearnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept trainings in this process that have learnt nothing; one epoch is enough where learning is not tested."""
    monkeypatch.setattr("benchmarks.training.trainer._LEARNT", 1e9)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package, given its name and its source, whose class `Block` or `Model` is registered under the name."""

    def put(name: str, source: str, kind: Literal["block", "model"] = "block") -> None:
        sys.modules.pop(name, None)  # as in a new process
        variant_code.cache_clear()
        facts = tmp_path / "site" / f"{name}-1.0.dist-info"
        facts.mkdir(parents=True, exist_ok=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[sen_bench.{kind}s]\n{name} = {name}:{kind.title()}\n")
        (tmp_path / "site" / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "site")

    return put
