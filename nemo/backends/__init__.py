"""Backends that run the graphs of `nemo.core`; each is imported on first use."""

from typing import TYPE_CHECKING

from nemo.utils.lazy import lazy_parts

if TYPE_CHECKING:  # mypy checks that the package has what the factory calls
    from nemo.backends import pytorch
    from nemo.core.actions import BackendPackage

    _pytorch: BackendPackage = pytorch

__getattr__ = lazy_parts(__name__, {"pytorch": "nemo.backends.pytorch"})
