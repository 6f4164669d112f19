"""Training: start reading in `loop.py`."""
