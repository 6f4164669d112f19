"""The smallest modules that make a graph."""

from nemo.backends.pytorch.tutorials.toys import MSELoss, RealFunctionDataLayer, TaylorNet

__all__ = ["MSELoss", "RealFunctionDataLayer", "TaylorNet"]
