"""Splitting text into sentences, and preparing Chinese Wikipedia as in the tutorial."""
