"""nemo-bert: pretrain a BERT of your own, by wiring typed neural modules as NeMo 0.10 did.

Sub-packages load when they are first touched, so that `import nemo` costs nothing.
"""

import importlib
from typing import Any

from nemo.utils.logging import logging

__version__ = "0.1.0"
__all__ = ["backends", "collections", "core", "logging", "utils"]


def __getattr__(name: str) -> Any:
    if name in ("backends", "collections", "core", "utils"):
        return importlib.import_module(f"nemo.{name}")
    raise AttributeError(f"module 'nemo' has no attribute {name!r}")
