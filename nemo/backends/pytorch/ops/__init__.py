"""The operations of a BERT step, each with a PyTorch reference and a native CPU kernel."""
