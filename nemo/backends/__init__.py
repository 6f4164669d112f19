"""Engines that run the graphs of `nemo.core`."""
