"""The state of a training under way: one file, replaced in one step and checked by its hash when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.base.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "DamagedCheckpoint", "read_checkpoint", "write_checkpoint"]

_FORMAT = "1"
# A safetensors file begins with the length of its header.
_LENGTH_BYTES = 8


class DamagedCheckpoint(Exception):  # noqa: N818 - a state of the file that training repairs, never seen by a user
    """A checkpoint is cut, altered or of another format version; the message completes "The checkpoint ..."."""


class Checkpoint(NamedTuple):
    """The state from which a training continues: tensors by name, and facts that JSON can express."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as a safetensors file, which replaces an older one when it is complete.

    Raises:
        OSError: The file cannot be written; the older one is still there.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    facts = json.dumps(checkpoint.facts)
    metadata = {"format": _FORMAT, "facts": facts, "sha256": _digest(facts, tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata=metadata))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, with its tensors on the CPU.

    Raises:
        DamagedCheckpoint: The file is cut, altered, of another format version, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if _is_cut(path):
            raise DamagedCheckpoint("is cut short")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise DamagedCheckpoint(f"has format version {metadata.get('format')}, and this one reads {_FORMAT}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if metadata["sha256"] != _digest(metadata["facts"], tensors):
            raise DamagedCheckpoint("is altered: its content does not have the hash that was written with it")
        facts = json.loads(metadata["facts"])
        if not isinstance(facts, dict):
            raise DamagedCheckpoint("is altered: it lists no facts by name")
        return Checkpoint(tensors, facts)
    except OSError as error:
        raise DamagedCheckpoint(f"cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"is altered ({type(error).__name__}: {error})") from error


def _is_cut(path: Path) -> bool:
    """Whether a safetensors file ends within its header, or earlier than its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin = _LENGTH_BYTES + length
        if size < max(begin, _LENGTH_BYTES + 1):
            return True
        entries: dict[str, Any] = json.loads(file.read(length))
    ends = (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    return size < begin + max(ends, default=0)


def _digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(tensors[name].numpy().tobytes())
    return content.hexdigest()
