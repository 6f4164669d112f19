"""Choices that several commands offer."""

MASKINGS = ("token", "whole_word", "span")
"""The units of masking, see `nemo.collections.nlp.data.samples.masking`."""

TRAINED = ("word-piece", "sentence-piece")
"""Tokenizers that can be trained on the text."""

STORED = "stored"
"""The masks stored in shards."""
