"""Blocks that take the place of the capsule block in SEN, for comparison."""
