"""A module with typed ports, whose call on symbolic tensors is recorded instead of computed."""

import inspect
from collections import namedtuple
from collections.abc import Mapping
from enum import Enum
from os import PathLike
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from nemo.core import module_config
from nemo.core.errors import (
    ModuleConfigError,
    NeuralPortInputError,
    NeuralPortMissingError,
    NeuralPortNameMismatchError,
)
from nemo.core.graph import Call, NmTensor
from nemo.core.neural_types import NeuralType
from nemo.utils.lookup import closest

if TYPE_CHECKING:
    from nemo.core.neural_factory import DeviceType, NeuralModuleFactory

__all__ = ["NeuralModule", "NmTensor", "WeightShareTransform"]


class WeightShareTransform(Enum):
    """How a tied weight looks at its other end."""

    SAME = 0
    TRANSPOSE = 1


class NeuralModule:
    """What can be wired: named, typed input and output ports.

    `input_ports` and `output_ports` map a port's name to its NeuralType, as class attributes, instance
    attributes or properties.
    """

    input_ports: dict[str, NeuralType] = {}
    output_ports: dict[str, NeuralType] = {}

    # Kinds of real values that may be passed by keyword; a backend's tensors.
    real_inputs: tuple[type, ...] = ()

    # As NeMo 0.10's subclasses read them. They are set before `__init__`, which a subclass may leave out.
    _init_params: dict[str, Any]
    _factory: "NeuralModuleFactory"
    _placement: "DeviceType"
    _device: Any
    _uuid: str

    def __new__(cls, *args: Any, **kwargs: Any) -> "NeuralModule":
        from nemo.core.neural_factory import NeuralModuleFactory  # which knows modules

        module = super().__new__(cls)
        factory = NeuralModuleFactory.get_default_factory()
        vars(module).update(
            _init_params=_bound_params(module, args, kwargs),
            _factory=factory,
            _placement=factory.placement,
            _device=factory.device,
            _uuid=str(uuid4()),
        )
        return module

    def __init__(self) -> None:
        """Takes nothing; a subclass has its own arguments."""

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: all but the factory and the id, of which it gets its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_factory", "_uuid")}

    def __str__(self) -> str:
        return type(self).__name__

    @property
    def init_params(self) -> dict[str, Any]:
        """The arguments the module was really made with, defaults included; `*args` under their name."""
        return self._init_params

    @property
    def factory(self) -> "NeuralModuleFactory":
        """The default factory of the moment the module was made; it is made where there was none."""
        return self._factory

    @property
    def placement(self) -> "DeviceType":
        """Where that factory puts modules."""
        return self._placement

    @property
    def unique_instance_id(self) -> str:
        """A text that no other module has."""
        return self._uuid

    @property
    def is_trainable(self) -> bool:
        """Does training change it?"""
        return False

    @property
    def num_weights(self) -> int:
        """Number of trainable elements."""
        return 0

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call: check that every tensor fits its port, and return the outputs.

        Returns:
            One NmTensor, or a namedtuple `<Class>Output` of them when there are several output ports.

        Raises:
            NeuralPortNameMismatchError: no input port has that name.
            NeuralPortInputError: something else than the output of a module.
            NeuralPortMissingError: a port that is not optional was left out.
            NeuralPortNmTensorMismatchError: a tensor's type does not fit.
        """
        ports = self.input_ports
        given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        for name, tensor in given.items():
            if name not in ports:
                raise NeuralPortNameMismatchError(
                    f"{self} has no input port {name!r}",
                    expected=f"one of {', '.join(ports) or '(none)'}",
                    fix=f"did you mean {near!r}?" if (near := closest(name, ports)) else "",
                )
            if not isinstance(tensor, NmTensor):
                raise NeuralPortInputError(
                    "symbolic and real inputs cannot be mixed",
                    where=f"{self}.{name}",
                    found=type(tensor).__name__,
                    expected="the output of a module",
                )
            ports[name].compare_and_raise_error(str(self), name, tensor)
        missing = [n for n, port in ports.items() if not port.optional and n not in given]
        if missing:
            raise NeuralPortMissingError(
                f"{self} was called without {', '.join(missing)}",
                expected=f"{', '.join(n for n, port in ports.items() if not port.optional)}",
            )
        call = Call(self, given)
        outputs = [call.output(name) for name in self.output_ports]
        if len(outputs) == 1:
            return outputs[0]
        output_type: Any = namedtuple(f"{self}Output", list(self.output_ports), rename=True)  # type: ignore[misc]
        return output_type(*outputs)

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module on real tensors; what that means is the backend's business."""
        raise NotImplementedError(f"{self} computes nothing")

    def __call__(self, *args: Any, force_pt: bool = False, **kwargs: Any) -> Any:
        """Record a call on the outputs of other modules, or compute with real tensors.

        Which of the two is decided by what is passed in. Ports are passed by name when wiring.

        Args:
            force_pt: compute even if symbolic tensors are passed.

        Raises:
            NeuralPortInputError: what is passed in is neither; the other errors of `connect`.
        """
        if force_pt:
            return self.compute(*args, **kwargs)
        given = [value for value in (*args, *kwargs.values()) if value is not None]
        if any(isinstance(value, NmTensor) for value in args):
            raise NeuralPortInputError(
                "module outputs must be passed by port name",
                where=self,
                expected=f"{self}({', '.join(f'{port}=...' for port in self.input_ports)})",
            )
        if not given or any(isinstance(value, NmTensor) for value in given):
            return self.connect(**kwargs)
        if not args and not any(isinstance(value, self.real_inputs) for value in given):
            raise NeuralPortInputError(
                "cannot take these inputs",
                where=self,
                found=", ".join(f"{name}: {type(value).__name__}" for name, value in kwargs.items()),
                expected="outputs of modules" + (", or tensors" if self.real_inputs else ""),
            )
        return self.compute(*args, **kwargs)

    def export_to_config(self, config_file: str | PathLike[str]) -> None:
        """Write how to make this module again: a YAML file with the maps `header` and `init_params`.

        Args:
            config_file: file to write; an existing one is replaced.

        Raises:
            UsageError: a parameter is something else than text, number, bool, None, or a list or dict of
                these.
            StorageError: the file cannot be written.
        """
        params = module_config.portable_params(type(self), self._init_params)
        self.__validate_params(params)
        module_config.write_config(config_file, self._create_config_header(), params)

    @classmethod
    def import_from_config(
        cls,
        config_file: str | PathLike[str],
        section_name: str | None = None,
        overwrite_params: Mapping[str, Any] | None = None,
    ) -> "NeuralModule":
        """The module that a configuration file tells how to make.

        Args:
            config_file: what `export_to_config` wrote; of the header only `full_spec` is needed.
            section_name: the part of the file to read, where it describes several modules.
            overwrite_params: arguments in place of the file's.

        Raises:
            ModuleConfigError: the file does not describe a module, or one of another class than this;
                `NeuralModule.import_from_config` takes every class.
            MissingFileError: there is no such file.
        """
        config = cls._validate_config_file(config_file, section_name)
        made_by = _class_in(config, config_file)
        if made_by is not cls:  # a NeuralModule of any class, which may have an import of its own
            return made_by.import_from_config(config_file, section_name, dict(overwrite_params or {}))
        params = {**config["init_params"], **(overwrite_params or {})}
        arguments = module_config.bind_params(cls, params, config_file)
        return cls(*arguments.args, **arguments.kwargs)

    def _create_config_header(self) -> dict[str, Any]:
        """The class and its version; for subclasses that write their configuration themselves."""
        return module_config.make_header(type(self))

    @classmethod
    def _validate_config_file(
        cls, config_file: str | PathLike[str], section_name: str | None = None
    ) -> dict[str, Any]:
        """The maps `header` and `init_params`; for subclasses that read their configuration themselves.

        Raises:
            ModuleConfigError, MissingFileError: as `import_from_config`.
        """
        config = module_config.read_config(config_file, section_name)
        made_by = _class_in(config, config_file)
        if cls not in (made_by, NeuralModule):
            raise ModuleConfigError(
                "the module is of a different class",
                where=f"{config_file} header.full_spec",
                found=module_config.full_name(made_by),
                expected=module_config.full_name(cls),
                fix="NeuralModule.import_from_config takes every class",
            )
        return config

    def __validate_params(self, params: Mapping[str, Any]) -> bool:
        """Always True: a parameter that cannot be written raises an error."""
        module_config.check_params(params)
        return True


def _class_in(config: Mapping[str, Any], source: str | PathLike[str]) -> type[NeuralModule]:
    return module_config.find_class(config["header"]["full_spec"], NeuralModule, source)


def _bound_params(module: NeuralModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every parameter of `__init__` with its value; keywords that it collects are among them."""
    signature = inspect.signature(type(module).__init__)
    try:
        bound = signature.bind(module, *args, **kwargs)
    except TypeError:
        return {}  # copying makes bare instances; wrong arguments are for `__init__` to refuse
    bound.apply_defaults()
    params = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            params.update(params.pop(name))
    return params
