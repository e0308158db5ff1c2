"""The `capsule_released` block: capsules of one map for each crystal, as in the code that SEN's authors released.

It follows github.com/MatMLlab/SEN_model (Apache-2.0; commit b059306, folder Cap_Models) and is our own writing.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config
from sen.features import initialise
from sen.ops import Set2Set, first_lstm_step

__all__ = ["CapsuleReleasedBlock", "CapsuleReleasedConfig"]

POSE = 6
STRIDES = (2, 2, 1, 1)


class CapsuleReleasedConfig(Config):
    """Sizes of the authors' code, in which they are found in the file that each description names."""

    read_width: int = Field(128, ge=1, description="Width in which Set2Set reads the atoms (che_env_block.py).")
    rounds: int = Field(3, ge=1, description="Times that Set2Set reads them (pre_block.py).")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of what it has read (che_env_block.py).")
    map_size: int = Field(16, ge=1, description="Rows and columns of the map of a crystal (cap_pri_block.py).")
    filters: int = Field(256, ge=1, description="Filters of each of the four 3x3 convolutions (cap_seq.py).")
    capsules: int = Field(16, ge=1, description="Part capsules of a crystal (Configs.py).")
    features: int = Field(16, ge=1, description="Features of a capsule beside its pose (Configs.py).")
    noise: float = Field(
        4.0,
        ge=0,
        description="Width of the uniform noise on the logits of the presences in training (cap_pri_block.py).",
    )
    pose_filters: int = Field(9, ge=1, description="Filters of the first convolution over the poses (cap_block.py).")


class CapsuleReleasedBlock(SymmetryBlock):
    """Map of a crystal, convolutions, attention to part capsules, split, noisy presences, a score for each capsule.

    Set2Set and one step of an LSTM make a vector of the crystal, which is read as a map. Four convolutions follow, and
    the attention of each capsule pools their positions to a pose, features and the logit of a presence. A linear map
    turns pose and features into one score for each capsule. The property is predicted from the scores, the scores
    times the presences, and the vector. No pose transforms anything, unlike in the paper's Eq. 9 and in `capsule`.

    What was mended (their code was read, not run):

    - A crystal's vector attends to those of the others of its batch. Here it stands alone, as in a batch of one.
    - Sonnet's weights, from the LSTM on, and the filters of the features, which are made in the forward pass, are none
      of the Keras model that is trained. Here every weight is trained.
    - For want of a transposition the attention of one capsule pools numbers of others. Here it pools its own.
    - The presences are noisy in prediction, too. Here they are in training alone, by torch's generator.
    - Targets are divided by the largest, test rows included. Here they are standardised by the training rows.

    What is not theirs: SEN's feature extraction comes before, so that Set2Set reads environments, which know of bonds
    and formula, instead of atoms and bonds, each by itself; SEN's head comes after, instead of two linear maps. Sigmoid
    and tanh stand for the hard sigmoid and the SELU in Set2Set. Their decoder and object capsules, which their loss
    does not read, are left out.
    """

    Config = CapsuleReleasedConfig
    source = "Liang et al., github.com/MatMLlab/SEN_model (2023), doi 10.5281/zenodo.8142678"

    def __init__(self, width: int, config: CapsuleReleasedConfig) -> None:
        super().__init__(width, config)
        self.config = config
        n, filters, vector = config.capsules, config.filters, config.map_size**2
        self.material_width = 2 * n + vector
        self.atoms = nn.Linear(width, config.read_width)
        self.read = Set2Set(config.read_width, config.rounds)
        self.dropout = nn.Dropout(config.dropout)
        self.gates = nn.Linear(2 * config.read_width, 3 * vector)
        self.convolutions = nn.Sequential(
            *(
                layer
                for channels, stride in zip((1, filters, filters, filters), STRIDES, strict=True)
                for layer in (nn.Conv2d(channels, filters, 3, stride, padding=1), nn.SELU())
            )
        )
        self.columns = nn.Parameter(torch.zeros(filters, 1, math.ceil(config.map_size / math.prod(STRIDES))))
        self.parts = nn.Parameter(torch.randn(n, filters, POSE + config.features + 1) / filters**0.5)
        self.parts_bias = nn.Parameter(torch.zeros(n, POSE + config.features + 1))
        # No bias: it would cancel in the softmax.
        self.logits = nn.Linear(filters, n, bias=False)
        self.poses = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(1, config.pose_filters, 2),
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(config.pose_filters, 1, 2),
        )
        self.score = nn.Linear(POSE + config.features, 1)
        initialise(self)

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Read environments [N, width] as capsules of B crystals.

        The block has no environments of atoms of its own, because it knows only whole crystals: `atoms` is `env`.
        The extras of K capsules are `presence` [B, K], which sums to one over them, and `matrix` [B, K, 2, 3], the
        affine map of a plane that their pose stands for.
        """
        read = self.read(self.atoms(env), graph.crystal, graph.n_crystals, graph.multiplicity)
        vector = first_lstm_step(self.gates(self.dropout(read)))
        pose, features, presence = self.part_capsules(vector)
        matrix = affine(pose)
        reduced = self.poses(matrix.flatten(2).unsqueeze(1)).squeeze(1)
        score = self.score(torch.cat([reduced, features], dim=2)).squeeze(2)
        material = torch.cat([score, score * presence, vector], dim=1)
        return SymmetryOutput(env, material, {"presence": presence, "matrix": matrix})

    def part_capsules(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find capsules in vectors of crystals [B, map_size^2], by attention over the positions of their maps.

        Returns:
            The poses [B, capsules, 6], the features [B, capsules, features] and the presences [B, capsules].
        """
        size = self.config.map_size
        maps = self.convolutions(vector.view(-1, 1, size, size)) + self.columns
        positions = maps.flatten(2).transpose(1, 2)
        # Pooling before the linear maps of the capsules gives the same sum, because the attention adds up to one.
        pooled = self.logits(positions).softmax(dim=1).mT @ positions
        parts = torch.einsum("bkf,kfd->bkd", pooled, self.parts) + self.parts_bias
        pose, features, logit = parts.split([POSE, self.config.features, 1], dim=2)
        logit = logit.squeeze(2)
        if self.training:
            logit = logit + self.config.noise * (torch.rand_like(logit) - 0.5)
        return pose, features, logit.softmax(dim=1)


def affine(pose: Tensor) -> Tensor:
    """Return the affine map [..., 2, 3] of a pose [..., 6] = (scale x, scale y, rotation, shear, shift x, shift y).

    Before that scales pass through SELU, plus 0.01; shear and shifts through tanh(5p); the rotation counts full turns.
    The matrix is Shear diag(scales) R(-rotation), and the last column is the shift.
    """
    scales, turns, bounded = F.selu(pose[..., :2]) + 0.01, pose[..., 2], torch.tanh(5 * pose[..., 3:])
    cos, sin = (2 * math.pi * turns).cos(), (2 * math.pi * turns).sin()
    (scale_x, scale_y), (shear, shift_x, shift_y) = scales.unbind(-1), bounded.unbind(-1)
    second = torch.stack([scale_y * sin, scale_y * cos], dim=-1)
    first = torch.stack([scale_x * cos, -scale_x * sin], dim=-1) + shear.unsqueeze(-1) * second
    shift = torch.stack([shift_x, shift_y], dim=-1)
    return torch.cat([torch.stack([first, second], dim=-2), shift.unsqueeze(-1)], dim=-1)
