"""Exporting modules as PyTorch weights, TorchScript, torch.export or ONNX files."""
