"""Enums for the settings of a factory."""

from enum import Enum

from nemo.utils.errors import UsageError


class Backend(Enum):
    """The engine that runs graphs."""

    PyTorch = 1
    NotSupported = 2


class DeviceType(Enum):
    """Where modules are placed. AllGpu means one GPU per process."""

    GPU = 1
    CPU = 2
    AllGpu = 3


class DeploymentFormat(Enum):
    """Formats for exporting a module."""

    AUTO = 0
    PYTORCH = 1
    TORCHSCRIPT = 2
    ONNX = 3
    TRTONNX = 4
    TORCH_EXPORT = 5


class ModelMode(Enum):
    """Whether dropout is on (train) or off (eval). For programs written for NeMo 0.10."""

    train = 0
    eval = 1


class Optimization(Enum):
    """Precision of matrix products: O0 fp32; O1 bf16 with fp32 weights; O2 bf16 weights too."""

    mxprO0 = 0
    mxprO1 = 1
    mxprO2 = 2
    mxprO3 = 3

    @classmethod
    def parse(cls, level: "Optimization | str") -> "Optimization":
        """`Optimization.mxprO1` and "O1" are the same.

        Raises:
            UsageError: no such level.
        """
        if isinstance(level, cls):
            return level
        known = {f"O{member.value}": member for member in cls}
        if level not in known:
            raise UsageError("unknown optimization level", found=repr(level), expected=", ".join(known))
        return known[level]
