"""nemo-bert: pretrain a BERT of your own, by wiring typed neural modules as NeMo 0.10 did.

Sub-packages load when they are first touched, so that `import nemo` costs nothing.
"""

from nemo.utils.lazy import lazy_parts
from nemo.utils.logging import LogMode as logging_mode
from nemo.utils.logging import logging

__version__ = "0.1.0"
__all__ = ["logging", "logging_mode"]

__getattr__ = lazy_parts(
    __name__,
    {
        "backends": "nemo.backends",
        "collections": "nemo.collections",
        "core": "nemo.core",
        "tutorials": "nemo.backends.pytorch.tutorials",  # 0.10's short address
    },
)
