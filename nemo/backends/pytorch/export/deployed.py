"""The exported form of a module: tensors by position, and examples to verify the file with."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo.backends.pytorch.nm import TorchNM
from nemo.core.neural_types import AxisKind, NeuralType
from nemo.utils.errors import UsageError


class ExportError(UsageError, RuntimeError):
    """A module that cannot be exported to a format."""


class Deployed:
    """A copy of a module in evaluation mode, without the ports that are disabled for deployment.

    Args:
        module: the module to copy.
        example: one tensor, several in the order of the input ports, or a dict by port name.
        device: device to compute on; None means the module's.

    Attributes:
        inputs, outputs: the remaining ports, in order.
        module: maps tensors in the order of `inputs` to those of `outputs`.
        examples: two sets of inputs that differ in the size of every dynamic axis. These sizes are 2 or more
            in the first set, as exporters treat a size of 1 as a constant.

    Raises:
        UsageError: the example does not match the ports.
    """

    def __init__(self, module: TorchNM, example: Any, device: str | None = None):
        given = _by_port(module, example)
        disabled = module._disabled_deployment_output_ports
        self.inputs = {name: module.input_ports[name] for name in given}
        self.outputs = [name for name in module.output_ports if name not in disabled]
        self.module = _Positional(module, list(self.inputs), self.outputs)
        at = device or next((parameter.device for parameter in module.parameters()), None)
        self.module.to(at)
        one = tuple(tensor.to(at) for tensor in given.values())
        other = tuple(map(_of_another_size, one, self.inputs.values()))
        smallest = min((size for sizes in self._any_sizes(one) for size in sizes.values()), default=2)
        self.examples = [one, other] if smallest > 1 else [other, one]

    def _any_sizes(self, inputs: Sequence[Tensor]) -> list[dict[int, int]]:
        """For every input, its dynamic axes and their sizes."""
        return [
            {axis: tensor.shape[axis] for axis in _any_size_axes(port)}
            for tensor, port in zip(inputs, self.inputs.values(), strict=True)
        ]

    def dynamic_shapes(self, dimension: Callable[[AxisKind], Any]) -> Any:
        """The dynamic axes, in the form of torch's exporters.

        Args:
            dimension: returns the symbol for an axis of a kind.
        """
        return (
            tuple(
                {axis: dimension(kind) for axis, kind in _any_size_axes(port).items()}
                for port in self.inputs.values()
            ),
        )

    def check(self, exported: Callable[..., Any], what: str) -> None:
        """Compare the exported function with the module on the examples.

        Raises:
            ExportError: the results differ.
        """
        for inputs in self.examples:
            results = zip(
                self.outputs, _listed(self.module(*inputs)), _listed(exported(*inputs)), strict=True
            )
            for name, ours, theirs in results:
                ours, theirs = ours.detach().cpu().float(), torch.as_tensor(theirs).detach().cpu().float()
                if ours.shape != theirs.shape:
                    difference = f"shape {tuple(theirs.shape)} instead of {tuple(ours.shape)}"
                elif not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
                    difference = f"a difference of {(ours - theirs).abs().max():.2g}"
                else:
                    continue
                raise ExportError(
                    f"the exported {what} model gives different results",
                    where=f"{self.module.module}.{name}",
                    found=f"{difference} for inputs of {[tuple(i.shape) for i in inputs]}",
                )


class _Positional(nn.Module):
    """A copy of a module in evaluation mode, with inputs and outputs by position."""

    def __init__(self, module: TorchNM, inputs: Sequence[str], outputs: Sequence[str]):
        super().__init__()
        self.module = copy.deepcopy(module)
        self.inputs = list(inputs)
        self.is_given = [name in outputs for name in module.output_ports]
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """Returns one tensor, or a tuple of several."""
        results = _listed(self.module(force_pt=True, **dict(zip(self.inputs, inputs, strict=True))))
        given = tuple(result for result, is_given in zip(results, self.is_given, strict=True) if is_given)
        return given if len(given) > 1 else given[0]


def _listed(results: Any) -> Sequence[Any]:
    return results if isinstance(results, tuple | list) else (results,)


def _by_port(module: TorchNM, example: Any) -> dict[str, Tensor]:
    """The example by the names of the remaining ports, in their order."""
    disabled = module._disabled_deployment_input_ports
    ports = [name for name in module.input_ports if name not in disabled]
    if isinstance(example, Mapping):
        given = dict(example)
    else:
        tensors = [example] if isinstance(example, Tensor) else list(example or ())
        names = list(module.input_ports) if len(tensors) == len(module.input_ports) else ports
        given = dict(zip(names, tensors, strict=False))
        if len(given) < len(tensors):
            raise UsageError("more tensors than ports", where="input_example", found=len(tensors))
    fits = all(isinstance(tensor, Tensor) for tensor in given.values())
    needed = [name for name in ports if not module.input_ports[name].optional]
    if not fits or not given.keys() <= module.input_ports.keys() or not given.keys() >= set(needed):
        raise UsageError(
            "does not match the ports",
            where="input_example",
            found=", ".join(f"{name}: {type(value).__name__}" for name, value in given.items()) or "nothing",
            expected=f"tensors for {', '.join(ports)} of {module}",
        )
    return {name: given[name] for name in ports if name in given}


def _any_size_axes(port: NeuralType) -> dict[int, AxisKind]:
    """The dynamic axes (Batch and Time axes without a size) -> their kinds."""
    return {
        number: axis.kind
        for number, axis in enumerate(port.axes or ())
        if axis.kind in (AxisKind.Batch, AxisKind.Time) and axis.size is None
    }


def _of_another_size(tensor: Tensor, port: NeuralType) -> Tensor:
    """Larger by one on a Batch axis; smaller on a Time axis, as models limit the sequence length."""
    for axis, kind in _any_size_axes(port).items():
        size = tensor.shape[axis]
        if kind is AxisKind.Time and size > 2:
            tensor = tensor.narrow(axis, 0, size - 1)
        else:
            tensor = torch.cat([tensor, tensor.narrow(axis, 0, 1)], axis)
    return tensor.contiguous()
