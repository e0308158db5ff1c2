"""Blocks that replace the capsule block in SEN, for comparison."""
