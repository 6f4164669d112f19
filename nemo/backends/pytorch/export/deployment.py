"""Exporting a module for other programs: PyTorch weights, TorchScript, torch.export or ONNX.

A copy in evaluation mode is exported; the module itself does not change. Batch and Time axes without a size
in the ports are dynamic in the file. Before the file is written, its results are compared with the module's,
on the example and on one of a different size.
"""

import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch import nm
from nemo.backends.pytorch.export.deployed import Deployed, ExportError
from nemo.backends.pytorch.nm import TorchNM
from nemo.core.module_config import check_params, portable_params
from nemo.core.neural_modules import NeuralModule
from nemo.core.settings import DeploymentFormat
from nemo.utils.errors import ExistingFileError, MissingFileError, NemoError, UsageError, reason
from nemo.utils.files import write_atomically

# Class attributes of neural modules that a subclass may define as properties.
_PORT_PROPERTIES = (
    "input_ports",
    "output_ports",
    "_disabled_deployment_input_ports",
    "_disabled_deployment_output_ports",
)

_FORMAT_OF_SUFFIX = {
    ".pt": DeploymentFormat.PYTORCH,
    ".ts": DeploymentFormat.TORCHSCRIPT,
    ".pt2": DeploymentFormat.TORCH_EXPORT,
    ".onnx": DeploymentFormat.ONNX,
}


def export_module(
    module: TorchNM,
    output: str | Path,
    d_format: DeploymentFormat = DeploymentFormat.AUTO,
    input_example: Any = None,
    output_example: Any = None,
) -> Path:
    """Write a module for other programs.

    Args:
        module: the module to export.
        output: the file to write. PYTORCH also writes the module's `init_params`, to `<output>.json`.
        d_format: AUTO chooses by the suffix: `.pt` weights, `.ts` TorchScript, `.pt2` torch.export, `.onnx`.
        input_example: one tensor, several in the order of the input ports, or a dict by port name. Not needed
            for PYTORCH. TORCHSCRIPT traces the module with an example, and compiles its source without one.
        output_example: for compatibility with NeMo 0.10; outputs are computed.

    Returns:
        The path of the file.

    Raises:
        ExistingFileError: the file already exists.
        UsageError: an unknown format, a missing package, or an example that does not match the ports.
        ExportError: the module cannot be exported to the format, or the result differs from it.
        StorageError: the file cannot be written.
    """
    if not isinstance(module, TorchNM):
        raise UsageError("cannot be exported", where=module, expected="a module with a forward")
    output = Path(output).expanduser()
    if d_format is DeploymentFormat.AUTO:
        d_format = _format_of(output)
    if d_format not in _EXPORTERS:
        raise UsageError(
            "unknown format", where="d_format", found=repr(d_format), expected="a DeploymentFormat"
        )
    has_params = d_format is DeploymentFormat.PYTORCH
    params_file = Path(f"{output}.json")
    for file in (output, params_file) if has_params else (output,):
        if file.exists():
            raise ExistingFileError("already exists", where=file, fix="choose another name")
    if not output.parent.is_dir():
        raise MissingFileError("no such folder", where=output.parent)
    params = _init_params(module) if has_params else b""
    content = _EXPORTERS[d_format](module, input_example)
    if has_params:
        write_atomically(params_file, params)
    write_atomically(output, content)
    return output


def _format_of(output: Path) -> DeploymentFormat:
    if output.suffix not in _FORMAT_OF_SUFFIX:
        raise UsageError(
            "unknown suffix",
            where=output,
            expected=f"{', '.join(_FORMAT_OF_SUFFIX)}, or a d_format",
        )
    return _FORMAT_OF_SUFFIX[output.suffix]


def _init_params(module: TorchNM) -> bytes:
    params = portable_params(type(module), module.init_params)
    check_params(params)
    return json.dumps(params, indent=2).encode()


def _to_pytorch(module: TorchNM, example: Any) -> bytes:
    """Tensors by name, for `torch.load(file, weights_only=True)`."""
    return _saved(torch.save, {name: t.detach().cpu().clone() for name, t in module.state_dict().items()})


def _to_torchscript(module: TorchNM, example: Any) -> bytes:
    if example is None:
        with _exporting(module, "TorchScript", fix="pass an input_example"):
            return _saved(torch.jit.save, torch.jit.script(_scriptable(module)))
    deployed = Deployed(module, example)
    with _exporting(module, "TorchScript"):
        script = torch.jit.trace(deployed.module, deployed.examples[0], check_trace=False)
        deployed.check(script, "TorchScript")
        return _saved(torch.jit.save, script)


def _to_torch_export(module: TorchNM, example: Any) -> bytes:
    deployed = Deployed(module, example)
    with _exporting(module, "torch.export"):
        shapes = deployed.dynamic_shapes(lambda kind: torch.export.Dim.DYNAMIC)
        program = torch.export.export(deployed.module, deployed.examples[0], dynamic_shapes=shapes)
        deployed.check(program.module(), "torch.export")
        program.example_inputs = None  # may be private data
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths on this machine
        return _saved(torch.export.save, program)


def _to_onnx(module: TorchNM, example: Any) -> bytes:
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"ONNX needs the package {package}", fix="pip install 'nemo-bert[onnx]'")
    deployed = Deployed(module, example, device="cpu")
    with _exporting(module, "ONNX"):
        program = torch.onnx.export(
            deployed.module,
            deployed.examples[0],
            input_names=list(deployed.inputs),
            output_names=deployed.outputs,
            dynamic_shapes=deployed.dynamic_shapes(lambda kind: kind.name.lower()),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        for part in (*model.graph.node, *model.graph.value_info):
            del part.metadata_props[:]  # paths on this machine
        content = model.SerializeToString()
        if importlib.util.find_spec("onnxruntime") is not None:
            deployed.check(_onnx_runner(content), "ONNX")
        return content


_EXPORTERS: dict[DeploymentFormat, Callable[[TorchNM, Any], bytes]] = {
    DeploymentFormat.PYTORCH: _to_pytorch,
    DeploymentFormat.TORCHSCRIPT: _to_torchscript,
    DeploymentFormat.TORCH_EXPORT: _to_torch_export,
    DeploymentFormat.ONNX: _to_onnx,
    DeploymentFormat.TRTONNX: _to_onnx,
}


def _saved(save: Callable[[Any, Any], Any], thing: Any) -> bytes:
    buffer = io.BytesIO()
    save(thing, buffer)
    return buffer.getvalue()


def _onnx_runner(model: bytes) -> Callable[..., list[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Any]:
        return session.run(None, {name: i.numpy() for name, i in zip(names, inputs, strict=True)})

    return run


def _scriptable(module: TorchNM) -> Any:
    """A copy without the properties of neural modules, which TorchScript cannot compile."""
    ours = (
        base for base in type(module).__mro__ if base.__module__ in (NeuralModule.__module__, nm.__name__)
    )
    names = {name for base in ours for name, value in vars(base).items() if isinstance(value, property)}
    scriptable = copy.deepcopy(module).eval()
    scriptable.__class__ = type(
        type(module).__name__,
        (type(module),),
        {"__jit_unused_properties__": [*names, *_PORT_PROPERTIES]},
    )
    return scriptable


@contextmanager
def _exporting(module: TorchNM, what: str, fix: str = "") -> Iterator[None]:
    """Disable gradients and torch's warnings, and translate its errors.

    Raises:
        ExportError: in place of torch's own errors.
    """
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except NemoError:
        raise
    except Exception as error:  # torch's exporters may raise any exception
        raise ExportError(
            f"cannot be exported to {what}",
            where=module,
            found=f"{type(error).__name__}: {reason(error)}",
            fix=fix,
        ) from error
    finally:
        chatter.setLevel(level)
