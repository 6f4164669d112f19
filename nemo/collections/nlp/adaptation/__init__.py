"""A BERT for a field, and whether it was worth it."""
