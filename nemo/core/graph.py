"""The graph: calls of modules on each other's outputs, without any global registry.

A tensor points back to the call that produces it, and a call to its inputs. So there are no cycles, two calls
of one module are two nodes, and a depth-first walk gives the order of computation.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from nemo.core.errors import NeuralTypeError
from nemo.core.neural_types import NeuralType

_call_numbers = itertools.count()


class HasPorts(Protocol):
    """What a graph needs of a module."""

    @property
    def output_ports(self) -> Mapping[str, NeuralType]: ...


class Call:
    """One call of a module: a node of the graph.

    Args:
        module: the called module; None if no module produces the tensor.
        inputs: the tensor for each input port.
    """

    def __init__(self, module: HasPorts | None, inputs: "Mapping[str, NmTensor]"):
        self.module: Any = module  # the backend adds further methods
        self.inputs = dict(inputs)
        self.number = next(_call_numbers)

    def output(self, port: str) -> "NmTensor":
        """The tensor at output port `port`."""
        return NmTensor(self.module, self.inputs, port, self.module.output_ports[port], call=self)


class NmTensor(NeuralType):
    """A symbolic tensor: the output `name` of `producer`, called on `producer_args`.

    Two tensors are equal if they are the same output of the same call. A tensor without a producer can be
    wired, to check its type, but not computed.
    """

    def __init__(
        self,
        producer: HasPorts | None = None,
        producer_args: "Mapping[str, NmTensor] | None" = None,
        name: str | None = None,
        ntype: NeuralType | None = None,
        call: Call | None = None,
    ):
        ntype = ntype or NeuralType()
        super().__init__(axes=ntype.axes, elements_type=ntype.elements_type, optional=ntype.optional)
        self.call = call or Call(producer, producer_args or {})
        self.name: Any = name  # the output port; anything for a tensor without a producer

    @property
    def producer(self) -> Any:
        """The module that produces this tensor."""
        return self.call.module

    @property
    def producer_args(self) -> "dict[str, NmTensor]":
        """The inputs of the call."""
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
    """The calls needed to compute `tensors`, in topological order.

    Raises:
        NeuralTypeError: a tensor has no producer.
    """
    ordered: dict[Call, None] = {}

    def visit(call: Call) -> None:
        if call.module is None:
            raise NeuralTypeError("a tensor that no module produces cannot be computed")
        if call not in ordered:
            for tensor in call.inputs.values():
                visit(tensor.call)
            ordered[call] = None

    for tensor in tensors:
        visit(tensor.call)
    return list(ordered)
