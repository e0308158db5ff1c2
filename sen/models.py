"""The interface of a model: what it receives, what it returns, and what its publication trained it with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.config import Config as ModelConfig
from sen.config import Space
from sen.elements import ElementEmbedding
from sen.graph import Cells, Graph

__all__ = ["CrystalModel", "FittedModel", "ModelOutput", "find_fault", "run_model"]


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """What a model returns for B crystals with N nodes.

    Attributes:
        prediction: Standardised target, or the logit of the positive class, [B].
        atoms: Environment of each node, [N, D], which reports describe; None of a model that has none.
        material: Vector of each crystal from which the property is predicted, [B, D]; None of a model that has none.
        extras: Further tensors for the reports by name, such as capsule poses and presences.
    """

    prediction: Tensor
    atoms: Tensor | None = None
    material: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


class CrystalModel(nn.Module, ABC):
    """A network that predicts a property from crystals; SEN is one of them.

    A model must give the same answer for any description of the same crystal, and to a crystal whatever else is in its
    batch; `sen.testing` has the contract tests for that. It predicts the standardised target: who trains it keeps mean
    and standard deviation. Register it under the entry point group `sen_bench.models`.

    Attributes:
        Config: Its hyper-parameters, a table of the configuration with the name of the model.
        cells: The graphs that it needs: "asymmetric" where its sums count multiplicities, so that it takes full cells
            as well; "full" where it does not, or reads vectors.
        chiral: Whether it may distinguish a crystal from its mirror image, for which it must read vectors.
        source: The publication it follows.
        graph: Its publication's graph: values of the fields of the table `graph` of the configuration.
        recipe: Its publication's recipe: values of the fields of the table `training`.
        space: Fields of its Config that `sen-bench tune` searches, beside those of the recipe.
    """

    Config: ClassVar[type[ModelConfig]]
    cells: ClassVar[Cells] = "asymmetric"
    chiral: ClassVar[bool] = False
    source: ClassVar[str] = ""
    graph: ClassVar[Mapping[str, Any]] = {}
    recipe: ClassVar[Mapping[str, Any]] = {}
    space: ClassVar[Space] = {}

    @classmethod
    def shrink(cls, training_rows: int) -> Mapping[str, float]:
        """Return the factor on the default of each configuration field that depends on the number of training rows.

        Args:
            training_rows: Training rows of a fold, without its validation rows.
        """
        del training_rows
        return {}

    @classmethod
    def cost(cls, graph: Graph) -> NDArray[np.int64]:
        """Return what grows with the memory and time that each crystal takes, int64 [B]: its neighbours by default.

        Batches hold crystals up to a budget of it. A model that computes something for each pair of neighbours, such as
        an angle, returns the number of pairs.

        Args:
            graph: Graphs of crystals, of the kind that the model reads.
        """
        return graph.n_neighbors

    @abstractmethod
    def __init__(self, config: ModelConfig) -> None:
        """Build the model; its weights are drawn from torch's current random state."""
        super().__init__()

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch."""

    def undecayed(self) -> list[nn.Parameter]:
        """Return the parameters that weight decay leaves alone: biases, norms and embeddings.

        Decay would pull embeddings of elements that a batch does not contain to zero.
        """
        embeddings = [module for module in self.modules() if isinstance(module, nn.Embedding | ElementEmbedding)]
        embedded = {id(parameter) for module in embeddings for parameter in module.parameters()}
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim < 2 or name.endswith("bias") or id(parameter) in embedded
        ]


class FittedModel(CrystalModel):
    """A model that is fitted to all training rows at once, such as decision trees, and not by the gradient of a loss.

    Of its recipe only `validation` counts: rows that are held out are not fitted. The numbers that `fit` finds are
    buffers, or parameters without gradient.
    """

    @abstractmethod
    def fit(
        self, batches: Iterable[CrystalBatch], target: NDArray[np.float64], *, is_classification: bool, seed: int
    ) -> None:
        """Fit the model.

        Args:
            batches: The training rows.
            target: Their standardised targets, or 0 and 1, in the order of the batches, [n].
            is_classification: Whether the model is to predict the logit of a 1.
            seed: Determines everything random.
        """


def find_fault(output: object, batch: CrystalBatch) -> str:
    """Return what is wrong with the type and the shapes of what a model returned for a batch; empty if nothing is."""
    if not isinstance(output, ModelOutput):
        return f"forward returns {type(output).__name__}, not a ModelOutput"
    n_nodes, n_crystals = len(batch.numbers), batch.n_crystals
    tensors = {"prediction": output.prediction, "atoms": output.atoms, "material": output.material, **output.extras}
    for name, tensor in tensors.items():
        if not (isinstance(tensor, Tensor) or (tensor is None and name in {"atoms", "material"})):
            return f"{name} is {type(tensor).__name__}, not a Tensor"
    if output.prediction.shape != (n_crystals,):
        return (
            f"prediction has the shape {tuple(output.prediction.shape)}; with {n_crystals} crystals it must be "
            f"({n_crystals},)"
        )
    for name, rows in (("atoms", n_nodes), ("material", n_crystals)):
        tensor = tensors[name]
        if tensor is not None and not (tensor.ndim == 2 and len(tensor) == rows):
            return f"{name} has the shape {tuple(tensor.shape)}; it must be ({rows}, any width)"
    return ""


def run_model(model: CrystalModel, batch: CrystalBatch) -> ModelOutput:
    """Return what a model returns for a batch.

    Raises:
        ValueError: It is not a ModelOutput with the declared shapes. A prediction [B, 1] would otherwise be compared
            with every target.
    """
    output: ModelOutput = model(batch)
    if fault := find_fault(output, batch):
        raise ValueError(fault)
    return output
