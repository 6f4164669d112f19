"""Collections: their registry, in which `NeuralModuleFactory.get_module` finds modules, and their folder."""

COLLECTIONS = "nemo.collections."

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


def collection_of(address: str) -> str | None:
    """The folder of `nemo.collections` that an address such as `package.module.Class` is in, if any."""
    return address.removeprefix(COLLECTIONS).split(".")[0] if address.startswith(COLLECTIONS) else None
