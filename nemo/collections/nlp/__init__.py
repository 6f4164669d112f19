"""Language: text -> tokens -> sequences -> batches -> graph -> loss.

Sub-packages load when they are first touched, so that the command line's help is quick.
"""

import importlib
from typing import Any

__all__ = ["callbacks", "data", "huggingface", "nm"]


def __getattr__(name: str) -> Any:
    if name in ("callbacks", "data", "nm"):
        return importlib.import_module(f"nemo.collections.nlp.{name}")
    if name == "huggingface":  # 0.9's address, which the tutorial uses
        return importlib.import_module("nemo.collections.nlp.nm.trainables.common.huggingface")
    raise AttributeError(f"module 'nemo.collections.nlp' has no attribute {name!r}")
