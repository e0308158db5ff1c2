"""The memory that the largest crystal of a training will need, foreseen from a smaller one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.base.errors import UsageError
from benchmarks.base.machine import memory
from benchmarks.training.loader import GraphTensors
from sen.models import CrystalModel

__all__ = ["check_memory", "kept_memory"]


def kept_memory(model: CrystalModel, graphs: GraphTensors, crystal: int) -> int:
    """Return the memory in bytes of what a model computes for a crystal and keeps until the gradient is known.

    The model is in evaluation mode afterwards.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # In evaluation mode it draws no random numbers and changes no statistics of batches.
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.eval()(graphs.batch(np.array([crystal])))
    del output
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    return sum(size for address, size in kept.items() if address not in weights)


def check_memory(
    model: CrystalModel, graphs: GraphTensors, crystals: NDArray[np.int64], ids: NDArray[np.object_], variant: str
) -> None:
    """Check that there is memory to train on the most costly crystal, which may be alone in its batch.

    What the model keeps for the gradient is counted for a crystal of median cost, and grows with the cost. A training
    needs more than that, so one that passes may still run out of memory.

    Args:
        model: The model, on the device of the graphs; it is in evaluation mode afterwards.
        graphs: Graphs of all crystals of the task.
        crystals: Positions of those to train on, [n].
        ids: Names of all crystals, [M].
        variant: Name of the model, or of the block of SEN.

    Raises:
        UsageError: There is not enough memory.
    """
    cost = model.cost(graphs.graph)[crystals]
    ascending = np.argsort(cost, kind="stable")[np.count_nonzero(cost == 0) :]
    if not len(ascending):
        return
    median, largest = ascending[len(ascending) // 2], ascending[-1]
    needed = kept_memory(model, graphs, int(crystals[median])) * int(cost[largest]) // int(cost[median])
    if needed > (available := memory(str(graphs.device))):
        raise UsageError(
            f"To train {variant!r} on the crystal {ids[crystals[largest]]} alone takes {needed / 2**30:,.0f} GiB of "
            f"memory, and {graphs.device} has {available / 2**30:,.0f} GiB: lower graph.max_neighbors or the widths of "
            "the model, or train where there is more."
        )
