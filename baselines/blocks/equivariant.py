"""Common parts of the blocks `tfn` and `se3`: features of O(3), products with spherical harmonics, gates, base class.

Features are a list with one tensor [N, 2l + 1, C_l] for each degree l, of parity (-1)^l: scalars 0e, polar vectors 1o,
tensors 2e. Irreps, coupling coefficients and harmonics are e3nn's. Components come before channels, so all arithmetic
runs along the channels; `e3nn.o3.TensorProduct`, where components come last, gives the same numbers (tested) but takes
several times longer on a CPU.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space
from sen.features import GaussianExpansion, initialise

__all__ = [
    "LMAX",
    "EdgeEncoder",
    "Edges",
    "EquivariantBlock",
    "EquivariantConfig",
    "EquivariantLinear",
    "Features",
    "GatedUpdate",
    "TensorProduct",
]

#: Highest degree of features and harmonics.
LMAX = 2

Features = list[Tensor]
Path = tuple[int, int, int]


class EquivariantConfig(Config):
    """Sizes chosen so that SEN with the block has about as many parameters as with the capsule block."""

    scalars: int = Field(384, ge=1, description="Scalar channels of an atom.")
    channels: int = Field(64, ge=1, description="Channels of vectors, tensors and messages.")
    layers: int = Field(3, ge=2, description="Layers; the first makes vectors, the last makes scalars only.")
    gaussians: int = Field(20, ge=2, description="Gaussians that expand an edge's length for the radial networks.")
    gaussian_range: float = Field(6.0, gt=0, description="Centre of the last Gaussian in Å; the first is at 0.")
    gaussian_width: float = Field(0.5, gt=0, description="Width w of the Gaussians exp(-(d - c)^2 / w^2) in Å.")
    radial_hidden: int = Field(64, ge=1, description="Hidden width of a radial network.")
    hidden: int = Field(1024, ge=1, description="Hidden width of the perceptron that reads the final scalars.")
    width: int = Field(512, ge=1, description="Width of an atom's environment after the block.")


def _paths(lmax_in: int, lmax_out: int) -> list[Path]:
    """Return all ways (l1, l2, l3) to couple features of degree l1 and harmonics of degree l2 to degree l3."""
    from e3nn import o3  # not at the top: it takes a second to load, and the configuration of a block does not need it

    irreps = [o3.Irrep(degree, (-1) ** degree) for degree in range(max(lmax_in, lmax_out, LMAX) + 1)]
    return [
        (l1, l2, l3)
        for l3 in range(lmax_out + 1)
        for l1 in range(lmax_in + 1)
        for l2 in range(LMAX + 1)
        if irreps[l3] in irreps[l1] * irreps[l2]
    ]


@dataclass(frozen=True)
class Edges:
    """The edges as the layers of a block read them.

    Attributes:
        radial: Gaussians of the lengths, [K, G].
        couplings: For each path with l2 > 0 the matrix that maps features of the neighbour, [K, 2 l3 + 1, 2 l1 + 1].
    """

    radial: Tensor
    couplings: dict[Path, Tensor]


class EdgeEncoder(nn.Module):
    """Spherical harmonics of the edges, contracted with the coupling coefficients once for all layers."""

    coefficients: Tensor

    def __init__(self, config: EquivariantConfig) -> None:
        super().__init__()
        self.expansion = GaussianExpansion(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.paths = [path for path in _paths(LMAX, LMAX) if path[1] > 0]
        # e3nn caches these coefficients for the whole process, so they must not be tensors of the meta device.
        with torch.device("cpu"):
            coefficients = torch.cat([_coefficients(*path) for path in self.paths], dim=1)
        # In float64, whatever the type of the weights: rounded coefficients are no longer equivariant to 1e-9.
        self.register_buffer("coefficients", coefficients, persistent=False)

    def forward(self, graph: CrystalBatch) -> Edges:
        """Encode the edges of a batch of full cells."""
        from e3nn import o3

        if graph.vector is None:
            raise ValueError("Edge vectors are needed: the graphs must be of full cells.")
        degrees = list(range(LMAX + 1))
        harmonics = o3.spherical_harmonics(degrees, graph.vector, normalize=True, normalization="component")
        shapes = [(2 * l3 + 1, 2 * l1 + 1) for l1, _, l3 in self.paths]
        matrices = (harmonics @ self.coefficients.to(harmonics.dtype)).split([m * n for m, n in shapes], dim=1)
        couplings = [matrix.unflatten(1, shape) for matrix, shape in zip(matrices, shapes, strict=True)]
        return Edges(self.expansion(graph.distance), dict(zip(self.paths, couplings, strict=True)))


def _coefficients(l1: int, l2: int, l3: int) -> Tensor:
    """Return the linear map from the 9 harmonics to the coupling matrix of a path, [9, (2 l3 + 1)(2 l1 + 1)].

    The normalisation is e3nn's "component": components of variance 1 give components of variance 1.
    """
    from e3nn import o3

    w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
    result: Tensor = w3j.new_zeros((LMAX + 1) ** 2, (2 * l3 + 1) * (2 * l1 + 1))
    result[l2**2 : (l2 + 1) ** 2] = w3j.permute(1, 2, 0).flatten(1)
    return result


class EquivariantLinear(nn.Module):
    """Mix the channels of each degree; only scalars may have a bias. TFN calls this self-interaction.

    Args:
        widths: Input channels of each degree, from degree 0 on.
        out: Output channels of each degree, from degree 0 on; the output has the degrees that both lists have.
        bias: Whether scalars have one.
    """

    def __init__(self, widths: Sequence[int], out: Sequence[int], *, bias: bool = False) -> None:
        super().__init__()
        self.degrees = nn.ModuleList(
            nn.Linear(n, m, bias=bias and degree == 0) for degree, (n, m) in enumerate(zip(widths, out, strict=False))
        )
        initialise(self)

    def forward(self, features: Features) -> Features:
        """Map the features of all nodes."""
        return [layer(x) for layer, x in zip(self.degrees, features, strict=False)]


class TensorProduct(nn.Module):
    """Features of the neighbours times spherical harmonics of the edges, with weights learned from the edges' lengths.

    Channel by channel ("uvu" in e3nn): channel c of degree l3 is the sum over the paths (l1, l2, l3) of

        R_path,c(|r|) (x_l1,c of the neighbour, coupled with Y_l2(r / |r|) to degree l3).

    Args:
        lmax_in: Highest degree of the features.
        lmax_out: Highest degree of the product.
        channels: Channels of every degree.
        expansion: The Gaussians that the perceptron R reads.
        hidden: The hidden width of R.
    """

    def __init__(self, lmax_in: int, lmax_out: int, channels: int, expansion: GaussianExpansion, hidden: int) -> None:
        super().__init__()
        self.paths = _paths(lmax_in, lmax_out)
        self.channels = channels
        first, last = nn.Linear(len(expansion.centers), hidden), nn.Linear(hidden, len(self.paths) * channels)
        # Scaled for the few Gaussians that a length excites, as in sen.features.
        nn.init.normal_(first.weight, std=expansion.excited**-0.5)
        nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
        # The products of all paths to a degree are summed.
        with torch.no_grad():
            for (_, _, l3), weight in zip(self.paths, last.weight.split(channels), strict=True):
                weight.mul_(sum(path[2] == l3 for path in self.paths) ** -0.5)
        nn.init.zeros_(first.bias)
        nn.init.zeros_(last.bias)
        self.radial = nn.Sequential(first, nn.SiLU(), last)

    def forward(self, features: Features, edges: Edges, graph: CrystalBatch) -> Features:
        """Return the products of all edges, one tensor [K, 2 l3 + 1, channels] for each degree."""
        neighbor = [x.index_select(0, graph.neighbor) for x in features]
        weights = self.radial(edges.radial).unflatten(1, (len(self.paths), 1, self.channels)).unbind(1)
        products: Features = []
        for (l1, l2, l3), weight in zip(self.paths, weights, strict=True):
            x = neighbor[l1]
            if l2 == 0:  # the harmonic is 1 and the coupling the identity
                product = weight * x
            elif l1 == 0:
                product = edges.couplings[l1, l2, l3] * (weight * x)
            elif l3 < l1:  # apply the weight where there are fewer components
                product = weight * (edges.couplings[l1, l2, l3] @ x)
            else:
                product = edges.couplings[l1, l2, l3] @ (weight * x)
            if l3 == len(products):
                products.append(product)
            else:
                products[l3] = products[l3] + product
        return products


class GatedUpdate(nn.Module):
    """Add to features, through gates, the mixed messages of the neighbours and the mixed features themselves.

    Scalars pass a SiLU; each channel of a higher degree is multiplied by the sigmoid of a scalar of its own (Weiler et
    al., NeurIPS 2018).

    Args:
        widths: Channels of the features, for each degree.
        messages: Channels of the messages, for each degree.
        out: Channels of the result, for each degree; the same as those of the features in the degrees that these have.
    """

    def __init__(self, widths: Sequence[int], messages: Sequence[int], out: Sequence[int]) -> None:
        super().__init__()
        self.out = list(out)
        gated = [sum(out), *out[1:]]
        self.messages = EquivariantLinear(messages, gated)
        self.itself = EquivariantLinear(widths, gated, bias=True)

    def forward(self, features: Features, messages: Features) -> Features:
        """Return the new features of all nodes."""
        mixed = self.messages(messages)
        for degree, x in enumerate(self.itself(features)):
            mixed[degree] = mixed[degree] + x
        scalars, *gates = mixed[0].split(self.out, dim=-1)
        update = [F.silu(scalars)] + [gate.sigmoid() * x for gate, x in zip(gates, mixed[1:], strict=True)]
        return [x + features[degree] if degree < len(features) else x for degree, x in enumerate(update)]


class EquivariantBlock(SymmetryBlock):
    """Layers that turn the scalars of atoms into vectors and tensors and back into scalars, which a perceptron reads.

    Args:
        width: Channels of the environments that it reads.
        config: Sizes.
    """

    needs_vectors = True
    space: ClassVar[Space] = {"channels": (32, 64, 96)}

    def __init__(self, width: int, config: EquivariantConfig) -> None:
        super().__init__(width, config)
        self.config = config
        self.material_width = self.atom_width = config.width
        self.inputs = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.scalars))
        self.edges = EdgeEncoder(config)
        full = [config.scalars, *[config.channels] * LMAX]
        shapes = [full[:1], *[full] * (config.layers - 1), full[:1]]
        self.layers = nn.ModuleList(self.layer(widths, out) for widths, out in pairwise(shapes))
        self.head = nn.Sequential(
            nn.LayerNorm(config.scalars),
            nn.Linear(config.scalars, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.width),
        )

    @abstractmethod
    def layer(self, widths: Sequence[int], out: Sequence[int]) -> nn.Module:
        """Build a layer that maps (features, edges, graph) to features; channels are given for each degree."""

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Update environments [N, width]; the extra `vectors` [N, channels, 3] enter the last layer."""
        edges = self.edges(graph)
        features = [self.inputs(env).unsqueeze(1)]
        for layer in self.layers:
            last, features = features, layer(features, edges, graph)
        atoms = self.head(features[0].squeeze(1))
        return SymmetryOutput(atoms, graph.mean(atoms), {"vectors": last[1].mT})
