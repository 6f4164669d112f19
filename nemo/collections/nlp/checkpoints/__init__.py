"""Models into and out of a run: initial checkpoints, Hugging Face folders, export."""
