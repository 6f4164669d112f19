"""Models in plain PyTorch; they know neither ports nor graphs."""
