"""From wiring to one `nn.Module`: rows and scores that nothing reads are not computed."""
