"""The few operations that a BERT step is made of, each with a PyTorch reference and a native CPU kernel."""
