"""A checkpoint on disk, and weight files made by other programs."""
