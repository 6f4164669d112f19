"""Collections of modules; each is imported on first access."""

from nemo.utils.lazy import lazy_parts

__getattr__ = lazy_parts(__name__, {"nlp": "nemo.collections.nlp"})
