"""Runs from a text alone: inspect the text, choose the options, prepare and train."""
