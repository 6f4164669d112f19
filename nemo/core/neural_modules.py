"""`NeuralModule`: a module with typed ports. A call on symbolic tensors is recorded, not computed."""

import inspect
from collections import namedtuple
from collections.abc import Callable, Mapping
from enum import Enum
from os import PathLike
from typing import Any, ClassVar, Protocol, Self
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
from nemo.core.settings import DeviceType
from nemo.utils.lookup import closest

__all__ = ["NeuralModule", "NmTensor", "WeightShareTransform"]


class WeightShareTransform(Enum):
    """How a tied weight looks at its other end."""

    SAME = 0
    TRANSPOSE = 1


class Factory(Protocol):
    """What a module needs of its factory, a `NeuralModuleFactory`."""

    placement: DeviceType
    device: Any


class NeuralModule:
    """A module with named, typed input and output ports.

    `input_ports` and `output_ports` map a port's name to its NeuralType, as class attributes, instance
    attributes or properties.
    """

    input_ports: dict[str, NeuralType] = {}
    output_ports: dict[str, NeuralType] = {}

    # Types of real values that may be passed by keyword: a backend's tensors.
    real_inputs: tuple[type, ...] = ()

    # Set by `nemo.core`, as `neural_factory` imports this module.
    _get_default_factory: ClassVar[Callable[[], Factory]]

    # Named as NeMo 0.10's subclasses expect. `__new__` sets them, as subclasses need not call `__init__`.
    _init_params: dict[str, Any]
    _factory: Factory
    _placement: DeviceType
    _device: Any
    _uuid: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        factory = cls._get_default_factory()
        vars(module).update(
            _init_params=_bound_params(module, args, kwargs),
            _factory=factory,
            _placement=factory.placement,
            _device=factory.device,
            _uuid=str(uuid4()),
        )
        return module

    def __init__(self) -> None:
        """Takes no arguments; subclasses define their own."""

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy: everything except the factory and the id, which a copy gets anew."""
        return {name: value for name, value in vars(self).items() if name not in ("_factory", "_uuid")}

    def __str__(self) -> str:
        return type(self).__name__

    @property
    def init_params(self) -> dict[str, Any]:
        """The constructor arguments, defaults included; `*args` under their name."""
        return self._init_params

    @property
    def factory(self) -> Factory:
        """The factory that was the default when the module was created."""
        return self._factory

    @property
    def placement(self) -> DeviceType:
        """Where this module's factory places modules."""
        return self._placement

    @property
    def unique_instance_id(self) -> str:
        """A unique identifier."""
        return self._uuid

    @property
    def is_trainable(self) -> bool:
        """Whether the module has trainable weights; NeMo 0.10's address."""
        return False

    @property
    def num_weights(self) -> int:
        """Number of trainable elements."""
        return 0

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call: check each tensor against its port and return the outputs.

        Returns:
            One NmTensor, or a namedtuple `<Class>Output` of them if there are several output ports.

        Raises:
            NeuralPortNameMismatchError: there is no such input port.
            NeuralPortInputError: an input is not the output of a module.
            NeuralPortMissingError: a required port was left out.
            NeuralPortNmTensorMismatchError: a tensor's type does not match its port's.
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
        """Run the module on real tensors; implemented by the backend."""
        raise NotImplementedError(f"{self} computes nothing")

    def __call__(self, *args: Any, force_pt: bool = False, **kwargs: Any) -> Any:
        """Record a call if given outputs of other modules; compute if given real tensors.

        Outputs of modules must be passed by port name.

        Args:
            force_pt: always compute.

        Raises:
            NeuralPortInputError: an input is neither. Further errors: see `connect`.
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
        """Write this module's configuration: a YAML file with the mappings `header` and `init_params`.

        Args:
            config_file: file to write; an existing file is replaced.

        Raises:
            UsageError: a parameter is not a string, number, bool or None, or a list or dict of these.
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
        """Create a module from a configuration file.

        Args:
            config_file: a file written by `export_to_config`; its header needs only `full_spec`.
            section_name: the section to read, for a file that describes several modules.
            overwrite_params: arguments that override the file's.

        Raises:
            ModuleConfigError: the file describes no module, or one of a different class;
                `NeuralModule.import_from_config` accepts every class.
            MissingFileError: there is no such file.
        """
        config = cls._validate_config_file(config_file, section_name)
        made_by = _class_in(config, config_file)
        if made_by is not cls:  # the class may override this method
            return made_by.import_from_config(config_file, section_name, dict(overwrite_params or {}))
        params = {**config["init_params"], **(overwrite_params or {})}
        arguments = module_config.bind_params(cls, params, config_file)
        return cls(*arguments.args, **arguments.kwargs)

    def _create_config_header(self) -> dict[str, Any]:
        """The class and its version, for subclasses that write their own configuration."""
        return module_config.make_header(type(self))

    @classmethod
    def _validate_config_file(
        cls, config_file: str | PathLike[str], section_name: str | None = None
    ) -> dict[str, Any]:
        """The mappings `header` and `init_params`, for subclasses that read their own configuration.

        Raises:
            ModuleConfigError, MissingFileError: as in `import_from_config`.
        """
        config = module_config.read_module_config(config_file, section_name)
        made_by = _class_in(config, config_file)
        if cls not in (made_by, NeuralModule):
            raise ModuleConfigError(
                "the module is of a different class",
                where=f"{config_file} header.full_spec",
                found=module_config.full_name(made_by),
                expected=module_config.full_name(cls),
                fix="call NeuralModule.import_from_config, which accepts every class",
            )
        return config

    def __validate_params(self, params: Mapping[str, Any]) -> bool:
        """Return True; raise an error if a parameter cannot be written."""
        module_config.check_params(params)
        return True


def _class_in(config: Mapping[str, Any], source: str | PathLike[str]) -> type[NeuralModule]:
    return module_config.find_class(config["header"]["full_spec"], NeuralModule, source)


def _bound_params(module: NeuralModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every parameter of `__init__` with its value, those collected by `**kwargs` included."""
    signature = inspect.signature(type(module).__init__)
    try:
        bound = signature.bind(module, *args, **kwargs)
    except TypeError:
        return {}  # copying creates bare instances; `__init__` reports wrong arguments
    bound.apply_defaults()
    params = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            params.update(params.pop(name))
    return params
