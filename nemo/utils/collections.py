"""The registry of collections, in which `NeuralModuleFactory.get_module` finds modules by name."""

_addresses: dict[str, tuple[str, ...]] = {}


def register_collection(name: str, *addresses: str) -> None:
    """Make the modules of a collection available by name.

    Args:
        name: name of the collection.
        addresses: Python modules with its classes; imported on first use.
    """
    _addresses[name] = addresses


def registered_collections() -> dict[str, tuple[str, ...]]:
    """The addresses of every collection whose package has been imported, by name."""
    return dict(_addresses)
