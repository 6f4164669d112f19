"""Decorators of NeMo 0.10."""

from nemo.utils.decorators.deprecated import deprecated
from nemo.utils.decorators.port_docs import add_port_docs

__all__ = ["add_port_docs", "deprecated"]
