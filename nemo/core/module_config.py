"""Module configurations: YAML files with the class of a module and its constructor arguments.

Configurations may be untrusted. So the class must be a NeuralModule in `nemo` itself or in a Python module
that the program has already imported: reading a configuration never imports third-party code.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from nemo.core.errors import ModuleConfigError
from nemo.utils.collections import collection_of
from nemo.utils.errors import MissingFileError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.lookup import closest
from nemo.utils.strict import read_yaml

StrPath = str | PathLike[str]

_SCALARS = (str, int, float, bool, type(None))


def make_header(module_class: type) -> dict[str, Any]:
    """The header of a configuration: the class, its collection, and their versions."""
    from nemo import __version__

    full_spec = full_name(module_class)
    collection = collection_of(full_spec)
    return {
        "nemo_core_version": __version__,
        "collection_type": collection,
        "collection_version": __version__ if collection else None,
        "full_spec": full_spec,
    }


def full_name(module_class: type) -> str:
    """Import path and qualified name: `package.module.Outer.Inner`."""
    return f"{module_class.__module__}.{module_class.__qualname__}"


def write_config(path: StrPath, header: Mapping[str, Any], init_params: Mapping[str, Any]) -> None:
    """Write a configuration file.

    Raises:
        StorageError: the file cannot be written.
    """
    config = {"header": dict(header), "init_params": dict(init_params)}
    import yaml  # imported here to keep --help fast

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_atomically(Path(path).expanduser(), text.encode())


def check_params(params: Mapping[str, Any]) -> None:
    """Refuse values that plain YAML cannot represent.

    Raises:
        UsageError: names the first such value, such as `init_params.sizes[2]`.
    """
    for name, value in params.items():
        _check_value(f"init_params.{name}", value)


def _check_value(name: str, value: Any) -> None:
    if type(value) is list:
        for i, item in enumerate(value):
            _check_value(f"{name}[{i}]", item)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) not in _SCALARS:
                raise _not_portable(f"a key of {name}", key)
            _check_value(f"{name}[{key!r}]", item)
    elif type(value) not in _SCALARS:  # a subclass, such as numpy's float64, would come back as its base
        raise _not_portable(name, value)


def _not_portable(name: str, value: Any) -> UsageError:
    return UsageError(
        "cannot be written to a configuration",
        where=name,
        found=type(value).__name__,
        expected="str, int, float, bool or None, or a list or dict of these",
    )


def read_module_config(path: StrPath, section_name: str | None = None) -> dict[str, Any]:
    """The mappings `header` and `init_params` of a file, or of one section of it.

    Raises:
        MissingFileError: there is no such file.
        ModuleConfigError: the file is not YAML, or a mapping or `header.full_spec` is missing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingFileError("no such file", where=path, expected="a configuration in YAML")
    content = read_yaml(path, ModuleConfigError)
    config = content if section_name is None else _map_in(content, section_name, path)
    header = _map_in(config, "header", path)
    if not isinstance(header.get("full_spec"), str):
        raise ModuleConfigError(
            "the class is not named",
            where=f"{path} header.full_spec",
            found=repr(header.get("full_spec")),
            expected="package.module.Class",
        )
    return {**config, "init_params": _map_in(config, "init_params", path)}


def _map_in(parent: Any, name: str, path: Path) -> dict[str, Any]:
    """The mapping `parent[name]`; an empty value counts as an empty mapping."""
    if not isinstance(parent, dict) or name not in parent:
        names = list(parent) if isinstance(parent, dict) else []
        near = closest(name, map(str, names))
        raise ModuleConfigError(
            f"{name!r} is missing",
            where=path,
            found=", ".join(map(str, names)) or "no names",
            fix=f"did you mean {near!r}?" if near else "",
        )
    value = {} if parent[name] is None else parent[name]
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ModuleConfigError(
            "not a mapping",
            where=f"{path} {name}",
            found=type(value).__name__,
            expected="names with values",
        )
    return value


def find_class(full_spec: str, base: type, source: StrPath) -> Any:
    """The class with the full name `full_spec`.

    Args:
        full_spec: `package.module.Class`, or a nested class.
        base: the required base class.
        source: the configuration file, for the error message.

    Raises:
        ModuleConfigError: there is no such class, or it is in a module that may not be imported.
    """
    *names, last = full_spec.split(".")
    found: Any = None
    for end in range(len(names), 0, -1):
        found = _module(".".join(names[:end]))
        if found is not None:
            for name in [*names[end:], last]:  # `getattr` could trigger lazy imports
                found = getattr(found, "__dict__", {}).get(name)
            break
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ModuleConfigError(
            f"unknown {base.__name__}",
            where=f"{source} header.full_spec",
            found=repr(full_spec),
            expected="a class in nemo, or in a module that is already imported",
            fix=f"import {'.'.join(names)} first",
        )
    return found


def _module(name: str) -> ModuleType | None:
    """A Python module: one that is already imported, or one of `nemo`."""
    if name.startswith("nemo.") and name not in sys.modules:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise  # the module exists, but one of its imports does not
    return sys.modules.get(name)


def portable_params(module_class: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """`init_params` as written to the file: the values of `*args` as a list."""
    collected = [p.name for p in _parameters(module_class) if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return {name: list(value) if name in collected else value for name, value in params.items()}


def bind_params(module_class: type, params: Mapping[str, Any], source: StrPath) -> inspect.BoundArguments:
    """The call that makes the module: `module_class(*bound.args, **bound.kwargs)`.

    Raises:
        ModuleConfigError: a parameter is unknown or missing.
    """
    signature = inspect.Signature(_parameters(module_class))
    bound = inspect.BoundArguments(signature, {})  # type: ignore[arg-type]
    left = dict(params)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = left
            left = {}
        elif name in left:
            bound.arguments[name] = left.pop(name)
        elif parameter.default is parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            raise ModuleConfigError(
                f"{module_class.__name__} needs {name!r}", where=f"{source} init_params", found=list(params)
            )
    for name in left:
        near = closest(name, signature.parameters)
        raise ModuleConfigError(
            f"{module_class.__name__} takes no {name!r}",
            where=f"{source} init_params",
            expected=", ".join(signature.parameters) or "nothing",
            fix=f"did you mean {near!r}?" if near else "",
        )
    return bound


def _parameters(module_class: type) -> list[inspect.Parameter]:
    """The parameters of `__init__` without `self`."""
    return list(inspect.signature(module_class.__init__).parameters.values())[1:]  # type: ignore[misc]
