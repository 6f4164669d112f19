"""Backends that run the graphs of `nemo.core`; each is imported on first use."""

from nemo.utils.lazy import lazy_parts

__getattr__ = lazy_parts(__name__, {"pytorch": "nemo.backends.pytorch"})
