"""Compiling a graph into one `nn.Module` that computes neither rows nor logits that nothing reads."""
