"""Engines that run the graphs of `nemo.core`; one loads when it is first touched."""

from nemo.utils.lazy import lazy_parts

__getattr__ = lazy_parts(__name__, {"pytorch": "nemo.backends.pytorch"})
