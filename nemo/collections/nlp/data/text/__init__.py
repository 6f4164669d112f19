"""Splitting text into sentences."""
