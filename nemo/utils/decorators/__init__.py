"""Decorators that NeMo 0.10's users know."""

from nemo.utils.decorators.deprecated import deprecated
from nemo.utils.decorators.port_docs import add_port_docs

__all__ = ["add_port_docs", "deprecated"]
