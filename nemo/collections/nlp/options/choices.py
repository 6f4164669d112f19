"""Choices that several commands offer."""

MASKINGS = ("token", "whole_word", "span")
"""What is masked together, see `nemo.collections.nlp.data.samples.masking`."""

STORED = "stored"
"""The masks that are in shards."""
