"""Where the modules of a collection are, by its name; `NeuralModuleFactory.get_module` looks there."""

_addresses: dict[str, tuple[str, ...]] = {}


def register_collection(name: str, *addresses: str) -> None:
    """Let the modules of a collection be found by name.

    Args:
        name: of the collection.
        addresses: Python modules that hold its classes; imported when one of them is first used.
    """
    _addresses[name] = addresses


def registered_collections() -> dict[str, tuple[str, ...]]:
    """The addresses of every collection whose package has been imported, by name."""
    return dict(_addresses)
