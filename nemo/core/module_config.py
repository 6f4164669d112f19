"""How to make a module again, as a YAML file: its class, and the arguments it was made with.

A file comes from anywhere, so what it names must be a class of neural modules, in `nemo` itself or in a
module that the program has imported already: reading a configuration never imports anybody else's code.
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
from nemo.utils.errors import MissingFileError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.lookup import closest
from nemo.utils.strict import read_yaml

StrPath = str | PathLike[str]

_SCALARS = (str, int, float, bool, type(None))


def make_header(module_class: type) -> dict[str, Any]:
    """The class, and the versions of its packages."""
    from nemo import __version__

    full_spec = full_name(module_class)
    in_collection = full_spec.startswith("nemo.collections.")
    return {
        "nemo_core_version": __version__,
        "collection_type": full_spec.split(".")[2] if in_collection else None,
        "collection_version": __version__ if in_collection else None,
        "full_spec": full_spec,
    }


def full_name(module_class: type) -> str:
    """Import path and qualified name: `package.module.Outer.Inner`."""
    return f"{module_class.__module__}.{module_class.__qualname__}"


def write_config(path: StrPath, header: Mapping[str, Any], init_params: Mapping[str, Any]) -> None:
    """Write the two maps of a module.

    Raises:
        StorageError: the file cannot be written.
    """
    config = {"header": dict(header), "init_params": dict(init_params)}
    import yaml  # not for --help

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_atomically(Path(path).expanduser(), text.encode())


def check_params(params: Mapping[str, Any]) -> None:
    """Refuse what YAML has no plain word for.

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
    elif type(value) not in _SCALARS:  # a subclass, such as numpy's float64, would not come back as itself
        raise _not_portable(name, value)


def _not_portable(name: str, value: Any) -> UsageError:
    return UsageError(
        "cannot be written to a configuration",
        where=name,
        found=type(value).__name__,
        expected="str, int, float, bool or None, or a list or dict of these",
    )


def read_config(path: StrPath, section_name: str | None = None) -> dict[str, Any]:
    """The maps `header`, with a `full_spec`, and `init_params` of a file or of a section of it.

    Raises:
        MissingFileError: there is no such file.
        ModuleConfigError: it is no YAML, or something of this is not there.
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
    """The map of that name; nothing behind the colon is an empty one."""
    if not isinstance(parent, dict) or name not in parent:
        names = list(parent) if isinstance(parent, dict) else []
        near = closest(name, map(str, names))
        raise ModuleConfigError(
            f"there is no {name!r} in it",
            where=path,
            found=", ".join(map(str, names)) or "no names",
            fix=f"did you mean {near!r}?" if near else "",
        )
    value = {} if parent[name] is None else parent[name]
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ModuleConfigError(
            "is not a mapping",
            where=f"{path} {name}",
            found=type(value).__name__,
            expected="names with values",
        )
    return value


def find_class(full_spec: str, base: type, source: StrPath) -> Any:
    """The class of that full name.

    Args:
        full_spec: `package.module.Class`, or a class inside a class.
        base: what it must be a subclass of.
        source: the file that names it, for the error.

    Raises:
        ModuleConfigError: there is no such class, or not where one may be.
    """
    *names, last = full_spec.split(".")
    found: Any = None
    for end in range(len(names), 0, -1):
        found = _module(".".join(names[:end]))
        if found is not None:
            for name in [*names[end:], last]:  # `getattr` could make a package load its parts
                found = getattr(found, "__dict__", {}).get(name)
            break
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ModuleConfigError(
            f"names an unknown {base.__name__}",
            where=f"{source} header.full_spec",
            found=repr(full_spec),
            expected="a class of nemo, or of a module that is imported already",
            fix=f"import {'.'.join(names)} first",
        )
    return found


def _module(name: str) -> ModuleType | None:
    """A module that is loaded already, or one of ours."""
    if name.startswith("nemo.") and name not in sys.modules:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise  # the module exists, but something that it imports does not
    return sys.modules.get(name)


def portable_params(module_class: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """`init_params` as they are written: what `*args` collected is a list."""
    collected = [p.name for p in _parameters(module_class) if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return {name: list(value) if name in collected else value for name, value in params.items()}


def bind_params(module_class: type, params: Mapping[str, Any], source: StrPath) -> inspect.BoundArguments:
    """The call that makes the module: `module_class(*bound.args, **bound.kwargs)`.

    Raises:
        ModuleConfigError: a parameter that the class does not have, or one that it needs and is not there.
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
    """What `__init__` takes, but for the module itself."""
    return list(inspect.signature(module_class.__init__).parameters.values())[1:]  # type: ignore[misc]
