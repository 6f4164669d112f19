"""Graphs as TorchScript, ONNX or PyTorch files."""
