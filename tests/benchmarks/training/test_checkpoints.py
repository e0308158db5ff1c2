from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.base.errors import UnreadableError
from benchmarks.training.checkpoints import Checkpoint, DamagedCheckpoint, read_checkpoint, write_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "seed_0" / "fold_0.state.safetensors"
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(3), "rng": torch.zeros(5).byte()}
    write_checkpoint(path, Checkpoint(tensors, {"epoch": 2, "rng": 2**100, "history": [[1, 0.1]]}))
    return path


def test_what_is_written_is_read(path: Path) -> None:
    tensors, facts = read_checkpoint(path)
    assert torch.equal(tensors["weight"], torch.arange(6.0).reshape(2, 3))
    assert int(tensors["step"]) == 3
    assert facts == {"epoch": 2, "rng": 2**100, "history": [[1, 0.1]]}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_cut_is_named(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match="is cut short"):
            read_checkpoint(path)


def test_every_flipped_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpoint, match=r"is cut|is altered|has format version"):
            read_checkpoint(path)


def test_other_versions_are_named(path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, path, metadata={"format": "2", "facts": json.dumps({}), "sha256": ""})
    with pytest.raises(DamagedCheckpoint, match="has format version 2, and this one reads 1"):
        read_checkpoint(path)


def test_a_state_that_the_system_refuses_to_read_is_not_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnreadableError, match=r"fold_0\.state\.safetensors cannot be read \(Permission denied\)"):
        read_checkpoint(path)


@pytest.mark.parametrize("facts", ["[" * 100_000, "[]"])
def test_crafted_facts_are_refused(path: Path, facts: str) -> None:
    digest = hashlib.sha256(facts.encode()).hexdigest()
    save_file({}, path, metadata={"format": "1", "facts": facts, "sha256": digest})
    with pytest.raises(DamagedCheckpoint, match="is altered"):
        read_checkpoint(path)


def test_a_crafted_header_is_refused(path: Path) -> None:
    header = b'{"a":' + b"[" * 100_000
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DamagedCheckpoint, match="is altered"):
        read_checkpoint(path)


def test_missing_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        read_checkpoint(tmp_path)
