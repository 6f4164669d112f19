"""Adapting a BERT to a field, and measuring the gain."""
