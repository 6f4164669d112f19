"""Checkpoints on disk, and weight files of other programs."""
