"""Optimizers, and their file in a checkpoint."""
