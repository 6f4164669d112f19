"""Choices that several commands offer."""

MASKINGS = ("token", "whole_word", "span")
"""What is masked together, see `nemo.collections.nlp.data.samples.masking`."""

TRAINED = ("word-piece", "sentence-piece")
"""Kinds of tokenizers that are trained on the text."""

STORED = "stored"
"""The masks that are in shards."""
