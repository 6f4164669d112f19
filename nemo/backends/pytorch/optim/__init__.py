"""Optimizers, and saving their state."""
