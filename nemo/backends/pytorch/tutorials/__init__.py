"""The modules of NeMo's first tutorial: a minimal graph."""

from nemo.backends.pytorch.tutorials.toys import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.utils.collections import register_collection

__all__ = ["MSELoss", "RealFunctionDataLayer", "TaylorNet"]

for _name in ("toys", "tutorials"):
    register_collection(_name, __name__)
