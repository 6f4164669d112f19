"""Training: the loop, and one file for each thing it needs. Start reading in `loop.py`."""
