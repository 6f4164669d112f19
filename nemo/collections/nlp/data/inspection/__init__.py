"""Seeing the data before it is trained on: figures, and what is odd in them."""

from nemo.collections.nlp.data.inspection.parts import Part, inspect_all

__all__ = ["Part", "inspect_all"]
