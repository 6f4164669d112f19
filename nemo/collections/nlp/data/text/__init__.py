"""Sentences of a document; Chinese Wikipedia as the tutorial prepares it."""
