"""Hyper-parameters of SEN outside the symmetry block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Config", "Range", "SENConfig", "Space"]


class Config(BaseModel):
    """Base of every configuration: immutable; unknown fields, values of another type, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Range:
    """The values between two ends, both included; whole numbers if both ends are.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether equal ratios count alike, and not equal differences.
    """

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | tuple[Any, ...]]
"""What `sen-bench tune` searches: for each field of a Config its range, or the values that it may have."""


class SENConfig(Config):
    """Feature extraction and property head (paper Eq. 2, 5-7 and Box 1).

    Defaults are the paper's values where the paper gives one; docs/decisions.md explains the others.
    """

    atom_embedding: int = Field(128, ge=1, description="Width of the embedding of an element (paper: 128).")
    encoder_width: int = Field(256, ge=1, description="Width of the encoded atoms and bonds (paper: N x 256).")
    environment_width: int = Field(
        192, ge=1, description="Width of the chemical environment of an atom (paper: N x 192)."
    )
    gaussians: int = Field(100, ge=2, description="Gaussians that expand a bond length, with evenly spaced centres.")
    gaussian_range: float = Field(6.0, gt=0, description="Centre of the last Gaussian in Å; the first is at 0.")
    gaussian_width: float = Field(0.5, gt=0, description="Width w of the Gaussians exp(-(d - c)^2 / w^2) in Å.")
    rounds: int = Field(3, ge=1, description="Rounds of environment update between atoms and bonds.")
    residual_weight: float = Field(0.6, gt=0, description="Weight of an update when it is added to what it updates.")
    stoichiometry_rounds: int = Field(3, ge=1, description="Rounds of attention between the elements of a formula.")
    lstm_rounds: int = Field(3, ge=1, description="Rounds T of the LSTM attention between a crystal and its atoms.")
    heads: int = Field(4, ge=1, description="Attention heads over the bonds of an atom.")
    head_width: int = Field(256, ge=1, description="Hidden width of the property head.")
    dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout of encoder updates, environments and the head's hidden layer; less above 1,000 rows.",
    )

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> SENConfig:
        if self.encoder_width % self.heads or self.environment_width % self.heads:
            raise ValueError(
                f"heads ({self.heads}) must divide encoder_width ({self.encoder_width}) "
                f"and environment_width ({self.environment_width})"
            )
        return self
