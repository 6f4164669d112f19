"""Calls of modules on each other's tensors: a graph that remembers nothing globally.

A tensor points back to the call that makes it, a call to its inputs; so cycles cannot be built, two calls of
one module are two nodes, and the order of work is a depth-first walk.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nemo.core.errors import NeuralTypeError
from nemo.core.neural_types import NeuralType

if TYPE_CHECKING:
    from nemo.core.neural_modules import NeuralModule

_call_numbers = itertools.count()


class Call:
    """One use of a module.

    Args:
        module: the called module; None if no module makes the tensor.
        inputs: the tensor given to each input port.
    """

    def __init__(self, module: "NeuralModule | None", inputs: "Mapping[str, NmTensor]"):
        self.module: Any = module  # what else it can do depends on the backend
        self.inputs = dict(inputs)
        self.number = next(_call_numbers)

    def output(self, port: str) -> "NmTensor":
        """The tensor that leaves by `port`."""
        return NmTensor(self.module, self.inputs, port, self.module.output_ports[port], call=self)


class NmTensor(NeuralType):
    """The promise of a tensor: what leaves `producer` by its port `name`, for the inputs `producer_args`.

    Two tensors are equal when they leave the same call by the same port. A tensor without a producer can be
    wired, to see whether it fits, but not computed.
    """

    def __init__(
        self,
        producer: "NeuralModule | None" = None,
        producer_args: "Mapping[str, NmTensor] | None" = None,
        name: str | None = None,
        ntype: NeuralType | None = None,
        call: Call | None = None,
    ):
        ntype = ntype or NeuralType()
        super().__init__(axes=ntype.axes, elements_type=ntype.elements_type, optional=ntype.optional)
        self.call = call or Call(producer, producer_args or {})
        self.name: Any = name  # the port, but for a tensor without a producer

    @property
    def producer(self) -> Any:
        """The module that makes this tensor."""
        return self.call.module

    @property
    def producer_args(self) -> "dict[str, NmTensor]":
        """What the module is given."""
        return self.call.inputs

    @property
    def unique_name(self) -> str:
        """`port~~~class of producer~~~number of the call`."""
        return f"{self.name}~~~{type(self.producer).__name__}~~~{self.call.number}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NmTensor) and (self.call, self.name) == (other.call, other.name)

    def __hash__(self) -> int:
        return hash((self.call, self.name))


def calls_leading_to(tensors: Iterable[NmTensor]) -> list[Call]:
    """Every call that `tensors` need, each after the calls it takes its inputs from.

    Raises:
        NeuralTypeError: a tensor has no producer.
    """
    ordered: dict[Call, None] = {}

    def visit(call: Call) -> None:
        if call.module is None:
            raise NeuralTypeError("a tensor that no module makes cannot be computed")
        if call not in ordered:
            for tensor in call.inputs.values():
                visit(tensor.call)
            ordered[call] = None

    for tensor in tensors:
        visit(tensor.call)
    return list(ordered)
