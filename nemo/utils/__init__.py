"""Utilities for all layers; standard library only."""

from nemo.utils.lazy import lazy_parts
from nemo.utils.logging import LogMode as logging_mode
from nemo.utils.logging import logging  # the logger, under its module's name, as NeMo 0.10 has it

_PARTS = (
    "arguments",
    "decorators",
    "errors",
    "work_folder",
    "files",
    "lock",
    "lookup",
    "lr_policies",
)

__all__ = ["logging", "logging_mode"]

__getattr__ = lazy_parts(__name__, {part: f"nemo.utils.{part}" for part in _PARTS})
