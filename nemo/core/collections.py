"""Modules by name: a collection registers its addresses, `NeuralModuleFactory.get_module` looks there."""

import importlib

from nemo.core.neural_modules import NeuralModule
from nemo.utils.lookup import choose

_addresses: dict[str, tuple[str, ...]] = {}


def register_collection(name: str, *addresses: str) -> None:
    """Let the modules of a collection be found by name.

    Args:
        name: of the collection.
        addresses: Python modules that hold its classes; imported when one of them is asked for.
    """
    _addresses[name] = addresses


def find_module_class(collection: str, name: str) -> type[NeuralModule]:
    """The class called `name` in a collection whose package has been imported.

    Raises:
        UsageError: no such collection, or no such class in it.
    """
    classes = {
        name: value
        for address in choose(_addresses, collection, what="collection")
        for name, value in vars(importlib.import_module(address)).items()
        if isinstance(value, type) and issubclass(value, NeuralModule)
    }
    return choose(classes, name, what="module")
