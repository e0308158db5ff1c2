"""Blocks that replace the capsule block in SEN, for comparison. This package imports `sen`."""

__all__ = ["blocks"]
