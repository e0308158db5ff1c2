"""Hyper-parameters of SEN outside the symmetry block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Config", "Range", "SENConfig", "Space"]


class Config(BaseModel):
    """Base of every configuration: immutable; unknown fields, values of another type, NaN and infinity are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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
    """Feature extraction, readout and property head (paper Eq. 2, 5-7 and Box 1).

    Each default is from the text of the paper, or from the authors' code, or our choice, as its description says;
    docs/decisions.md names the places.
    """

    atom_embedding: int = Field(128, ge=1, description="Width of the embedding of an element (paper).")
    encoder_width: int = Field(256, ge=1, description="Width of the encoded atoms and bonds (paper).")
    environment_width: int = Field(192, ge=1, description="Width of the chemical environment of an atom (paper).")
    gaussians: int = Field(100, ge=2, description="Gaussians that expand a bond length, evenly spaced (authors' code).")
    gaussian_range: float = Field(
        6.0, gt=0, description="Centre of the last Gaussian in Å; the first is at 0 (authors' code)."
    )
    gaussian_width: float = Field(
        0.5, gt=0, description="Width w of the Gaussians exp(-(d - c)^2 / w^2) in Å (authors' code)."
    )
    rounds: int = Field(
        3,
        ge=0,
        description="Rounds of environment update between atoms and bonds (authors' code: 3); 0: the features know no "
        "bonds at all, so that only a block that passes messages itself knows the structure.",
    )
    residual_weight: float = Field(
        0.6, gt=0, description="Weight of an update when it is added to what it updates (authors' code)."
    )
    message_layers: int = Field(
        1, ge=1, description="Layers of the function that makes a message of centre, neighbour and bond (our choice)."
    )
    aggregation: Literal["softmax", "gated", "sum", "root"] = Field(
        "softmax",
        description="What an atom takes of its messages: their mean under attention, their sum under a gate for each, "
        "their sum, or their sum over the root of their number (our choice).",
    )
    bond_map: bool = Field(
        False, description="Whether a message goes through a map of its own before it updates its bond (our choice)."
    )
    stoichiometry_rounds: int = Field(
        3, ge=1, description="Rounds of attention between the elements of a formula (authors' code)."
    )
    lstm_rounds: int = Field(
        3, ge=1, description="Rounds T of the LSTM attention between a crystal and its atoms (our choice)."
    )
    heads: int = Field(4, ge=1, description="Attention heads over the bonds of an atom (our choice).")
    readout: Literal["block", "mean", "attention"] = Field(
        "block",
        description="What makes the vector of a crystal: the block itself, the mean over its atoms after the block, or "
        "a learned attention over them.",
    )
    head_input: int | None = Field(
        None,
        ge=1,
        description="Width to which a linear map brings the vector of a crystal, so that the head is as large with any "
        "block and readout; None: the head reads the vector as it is.",
    )
    head_width: int = Field(256, ge=1, description="Hidden width of the property head (our choice).")
    dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout of encoder updates, environments and the head's hidden layer; less above 1,000 rows "
        "(our choice).",
    )

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> SENConfig:
        if self.encoder_width % self.heads or self.environment_width % self.heads:
            raise ValueError(
                f"heads ({self.heads}) must divide encoder_width ({self.encoder_width}) "
                f"and environment_width ({self.environment_width})"
            )
        return self
