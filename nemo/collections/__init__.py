"""Modules by field; a field loads when it is first touched."""

from nemo.utils.lazy import lazy_parts

__getattr__ = lazy_parts(__name__, {"nlp": "nemo.collections.nlp"})
