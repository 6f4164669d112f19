"""Models in plain PyTorch, independent of ports and graphs."""
