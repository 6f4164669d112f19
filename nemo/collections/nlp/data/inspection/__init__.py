"""Inspecting the data before training: figures and advice."""

from nemo.collections.nlp.data.inspection.parts import Part, inspect_all

__all__ = ["Part", "inspect_all"]
