"""What SEN is compared with: blocks that replace the capsule block, and whole models. This package imports `sen`."""

__all__ = ["blocks", "models"]
