"""Inspecting the data before training: figures and advice."""

from nemo.collections.nlp.data.inspection.inspected import Inspected, inspect_all

__all__ = ["Inspected", "inspect_all"]
