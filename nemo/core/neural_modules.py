"""A module with typed ports, whose call on symbolic tensors is recorded instead of computed."""

import inspect
from collections import namedtuple
from enum import Enum
from typing import Any

from nemo.core.errors import NeuralPortMissingError, NeuralPortNameMismatchError, NeuralTypeError
from nemo.core.graph import Call, NmTensor
from nemo.core.neural_types import NeuralType
from nemo.utils.lookup import closest


class WeightShareTransform(Enum):
    """How a tied weight looks at its other end."""

    SAME = 0
    TRANSPOSE = 1


class NeuralModule:
    """What can be wired: named, typed input and output ports.

    `input_ports` and `output_ports` map a port's name to its NeuralType, as class attributes, instance
    attributes or properties. `init_params` holds the arguments the module was really made with, defaults
    included.
    """

    input_ports: dict[str, NeuralType] = {}
    output_ports: dict[str, NeuralType] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> "NeuralModule":
        module = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(module, *args, **kwargs)
        except TypeError:
            return module  # copying makes bare instances; wrong arguments are for __init__ to refuse
        bound.apply_defaults()
        params = dict(list(bound.arguments.items())[1:])
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                params.update(params.pop(name))
        object.__setattr__(module, "init_params", params)
        return module

    def __str__(self) -> str:
        return type(self).__name__

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call: check that every tensor fits its port and hand out the outputs.

        Returns:
            One NmTensor, or a namedtuple `<Class>Output` of them when there are several output ports.

        Raises:
            NeuralPortNameMismatchError: no input port has that name.
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
                raise NeuralTypeError(
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
        output_type: Any = namedtuple(f"{self}Output", list(self.output_ports))  # type: ignore[misc]
        return output_type(*outputs)

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module on real tensors; what that means is the backend's business."""
        raise NotImplementedError

    def __call__(self, *args: Any, force_pt: bool = False, **kwargs: Any) -> Any:
        """Symbolic or real is decided by what is passed in; `force_pt` is accepted for 0.10's sake."""
        symbolic = any(isinstance(value, NmTensor) for value in kwargs.values())
        if symbolic or not (args or kwargs or force_pt):
            return self.connect(**kwargs)
        return self.compute(*args, **kwargs)
