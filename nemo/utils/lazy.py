"""Packages whose parts are imported on first use, so that importing the package is cheap."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_parts(package: str, addresses: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package that imports its parts lazily.

    Args:
        package: name of the package.
        addresses: public name -> location, as `package.module` or `package.module:name`.
    """

    def load(name: str) -> Any:
        if name not in addresses:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = addresses[name].partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded

    return load
