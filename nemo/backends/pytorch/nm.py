"""Base classes of PyTorch modules: trainable modules, losses and data layers.

Shapes: B batch, T tokens, R gathered rows, C classes.
"""

import copy
from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nemo.backends.pytorch.checkpoints.module_state import load_weights
from nemo.backends.pytorch.checkpoints.weight_files import read_weights
from nemo.core.neural_modules import NeuralModule, WeightShareTransform
from nemo.core.neural_types import LossType, NeuralType
from nemo.utils.errors import UsageError
from nemo.utils.files import replacing


class UnsupportedTransformError(UsageError, NotImplementedError):
    """A transform with which two weights cannot share one Parameter."""


class TorchNM(NeuralModule, nn.Module):
    """A neural module that is a torch module; `forward` takes its input ports by name."""

    real_inputs = (Tensor,)

    # Ports that are left out of an exported module, see `deployment`; the names are NeMo 0.10's.
    _disabled_deployment_input_ports: Set[str] = frozenset()
    _disabled_deployment_output_ports: Set[str] = frozenset()

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        return nn.Module.__call__(self, *args, **kwargs)


class NonTrainableNM(TorchNM):
    """A module without weights."""


class TrainableNM(TorchNM):
    """A module with weights.

    Attributes:
        token_wise: tokens of the (B, T, ...) inputs are independent, so gathered rows (R, ...) suffice.
        reads_first_token: only token 0 of the (B, T, ...) inputs is read, so (B, 1, ...) suffices.
        selects_rows: `forward` takes `rows`, indices into B*T, and returns only these rows of its output. If
            the module also has a method `packing`, with the same arguments and `buckets` (see `Packing`),
            `forward` receives its result as `packing`.
    """

    token_wise = False
    reads_first_token = False
    selects_rows = False

    @property
    def decoder(self) -> nn.Linear | None:
        """The last linear layer, from `features` to the output; None if there is none."""
        return None

    @property
    def regions(self) -> Sequence[nn.Module]:
        """The submodules to compile on a GPU."""
        return ()

    def __init__(self, pretrained_model_name: str | None = None) -> None:
        super().__init__()
        self.pretrained_model_name = pretrained_model_name

    @property
    def is_trainable(self) -> bool:
        """Whether training changes the weights, except frozen ones: True here; NeMo 0.10's address."""
        return True

    @property
    def num_weights(self) -> int:
        """Number of trainable elements; a tied weight counts once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def get_weights(self) -> dict[str, tuple[nn.Parameter, bool]]:
        """Parameter name -> (parameter, whether it is trained)."""
        return {
            name: (parameter, parameter.requires_grad)
            for name, parameter in self.named_parameters(remove_duplicate=False)
        }

    def set_weights(
        self,
        name2weight: Mapping[str, tuple[Tensor, bool]],
        name2name_and_transform: Mapping[str, tuple[str, WeightShareTransform]] | None = None,
    ) -> None:
        """Copy values into this module's parameters, all or none; NeMo 0.10's counterpart of `get_weights`.

        Args:
            name2weight: name -> (value, whether it is trained), as returned by `get_weights`.
            name2name_and_transform: our name -> (name in `name2weight`, transform); by default the names are
                equal.

        Raises:
            UsageError: an unknown name or a wrong shape.
        """
        renamed = dict(name2name_and_transform or {})
        taken = {name for name, _ in renamed.values()}
        sources = {name: (name, WeightShareTransform.SAME) for name in name2weight if name not in taken}
        copies = []
        for name, (other_name, transform) in (sources | renamed).items():
            if other_name not in name2weight:
                raise UsageError(
                    "no such value", where=other_name, expected=f"one of {', '.join(name2weight)}"
                )
            value, is_trained = name2weight[other_name]
            parameter = _parameter(self, name)
            value = value.detach().t() if transform is WeightShareTransform.TRANSPOSE else value.detach()
            if parameter.shape != value.shape:
                raise UsageError(
                    "wrong shape for a weight",
                    where=f"{self}.{name}",
                    found=tuple(value.shape),
                    expected=tuple(parameter.shape),
                )
            copies.append((parameter, value, is_trained))
        for parameter, value, is_trained in copies:
            with torch.no_grad():
                parameter.copy_(value)
            parameter.requires_grad_(is_trained)

    def tie_weights_with(
        self,
        module: "TrainableNM",
        weight_names: Sequence[str],
        name2name_and_transform: Mapping[str, tuple[str, WeightShareTransform]] | None = None,
    ) -> None:
        """Share `module`'s weights: one Parameter, one gradient, one optimizer state.

        Args:
            module: the module that owns the weights.
            weight_names: names of our weights to replace.
            name2name_and_transform: our name -> (name in `module`, transform); by default the names are
                equal.

        Raises:
            UsageError: no module, no names, an unknown name, or different shapes.
            UnsupportedTransformError: a transposed tie. A linear layer stores its weight as (out, in), so it
                ties to an embedding of (V, D) without a transform.
        """
        if module is None or not weight_names:
            raise UsageError("tie_weights_with needs a module and the names of weights")
        for name in weight_names:
            other_name, transform = (name2name_and_transform or {}).get(
                name, (name, WeightShareTransform.SAME)
            )
            if transform is not WeightShareTransform.SAME:
                raise UnsupportedTransformError(
                    "only WeightShareTransform.SAME can share one Parameter",
                    where=f"{self}.{name}",
                    found=transform.name,
                )
            ours, theirs = _parameter(self, name), _parameter(module, other_name)
            if ours.shape != theirs.shape:
                raise UsageError(
                    f"cannot be tied to {module}.{other_name}: different shapes",
                    where=f"{self}.{name}",
                    found=tuple(ours.shape),
                    expected=tuple(theirs.shape),
                    fix="give both the same sizes: tokenizer.vocab_size for a new model, "
                    "those of its config (bert.config.vocab_size, ...) for a pretrained one",
                )
            owner, _, leaf = name.rpartition(".")
            setattr(_submodule(self, owner), leaf, theirs)

    def freeze(self, weights: set[str] | None = None) -> None:
        """Stop training these weights (None: all)."""
        self._set_requires_grad(weights, False)

    def unfreeze(self, weights: set[str] | None = None) -> None:
        """Train these weights again (None: all)."""
        self._set_requires_grad(weights, True)

    def _set_requires_grad(self, weights: set[str] | None, value: bool) -> None:
        for name in weights if weights is not None else self.get_weights():
            _parameter(self, name).requires_grad_(value)

    def save_to(self, path: str | Path) -> None:
        """Write the weights as safetensors, whatever the suffix of `path`.

        Raises:
            StorageError: the file cannot be written.
        """
        tensors = {k: v.detach().contiguous().clone() for k, v in self.state_dict().items()}
        with replacing(Path(path)) as aside:
            save_file(tensors, aside)

    def restore_from(self, path: str | Path, local_rank: int = 0) -> None:
        """Load weights written by `save_to` (safetensors) or NeMo 0.10 (`.pt`).

        Args:
            local_rank: for compatibility with NeMo 0.10; unused.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: the file cannot be read, or its names or shapes do not match.
        """
        load_weights(self, read_weights(path), path)


def _submodule(module: nn.Module, path: str) -> Any:
    """Follow attributes, so that properties such as `last_linear_layer` work in a path."""
    for name in filter(None, path.split(".")):
        module = getattr(module, name)
    return module


def _parameter(module: nn.Module, path: str) -> nn.Parameter:
    try:
        found = _submodule(module, path)
    except AttributeError:
        found = None
    if not isinstance(found, nn.Parameter):
        names = ", ".join(name for name, _ in module.named_parameters())
        raise UsageError("no such weight", where=f"{module}.{path}", expected=f"one of {names}")
    return found


class LossNM(NonTrainableNM):
    """A loss: a sum over items and their number, so that any split of a batch gives the same gradient.

    A subclass defines `total` and `count`, or only `_loss_function`, a mean that counts as one item.

    Attributes:
        count_ports: inputs that `count` reads; they must not depend on the model.
        row_mask: input port that is 0 at the rows of (B, T, ...) inputs that the loss does not read; such a
            loss also takes gathered rows (R, ...). None if it reads all rows.
    """

    output_ports = {"loss": NeuralType(elements_type=LossType())}
    count_ports: tuple[str, ...] = ()
    row_mask: str | None = None

    @property
    def takes_features(self) -> bool:
        """Whether `total_of_features` computes `total` from a classifier's features and decoder."""
        return False

    # `*args: Any` lets subclasses name their ports.
    def total(self, *args: Any, **ports: Any) -> Tensor:
        """The sum over items: a float tensor without axes."""
        return self._loss_function(**ports)

    def count(self, *args: Any, **ports: Any) -> Tensor:
        """The number of items, as a float tensor without axes."""
        return torch.ones(())

    def _loss_function(self, *args: Any, **ports: Any) -> Tensor:
        raise NotImplementedError(f"{self} defines neither total() and count() nor _loss_function()")

    def count_of(self, ports: Mapping[str, Tensor]) -> Tensor:
        """Call `count` with the inputs that it reads."""
        return self.count(**{name: ports[name] for name in self.count_ports if name in ports})

    def statistics(self, *args: Any, **ports: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> (sum, count) for evaluation, "loss" included; the metric is sum / count."""
        return {"loss": (self.total(**ports), self.count_of(ports))}

    def forward(self, *args: Tensor, **ports: Tensor) -> Tensor:
        """The mean; 0 if there are no items. Positional tensors go to the input ports in their order."""
        ports |= dict(zip(self.input_ports, args, strict=False))
        return self.total(**ports) / self.count_of(ports).clamp(min=1)


def _stored_as(name: str) -> Any:
    """An attribute stored under the private name that NeMo 0.10's subclasses set."""
    return property(lambda self: getattr(self, name), lambda self, value: setattr(self, name, value))


class DataLayerNM(NeuralModule):
    """A source of batches. A batch is a sequence of tensors in the order of the output ports.

    A subclass sets `dataset` (a map-style torch dataset) or `data_iterator` (an iterable that gives one
    epoch), as attributes or properties, or overrides `batches`. If both are set, `dataset` is used.

    Attributes:
        batch_size: B, for a `dataset`.
        shuffle: use a new order of the `dataset` in every epoch; None: only for training.
        num_workers: number of processes that read the `dataset`; 0 means this process.
        collate_fn: turns samples into a batch; None takes torch's.
        seed: the order of an epoch depends only on this seed and the epoch.
    """

    dataset: Any = None
    data_iterator: Any = None
    _batch_size, batch_size = 1, _stored_as("_batch_size")
    _shuffle: bool | None = False
    shuffle = _stored_as("_shuffle")
    _num_workers, num_workers = 0, _stored_as("_num_workers")
    collate_fn: Any = None
    seed = 0

    def __len__(self) -> int:
        """Number of samples in an epoch.

        Raises:
            UsageError: there is no `dataset`, so the number is unknown.
        """
        if self.dataset is None:
            raise UsageError("the number of samples is unknown", where=self, fix="define __len__")
        return len(self.dataset)

    def num_batches(self, epoch: int) -> int:
        """Number of batches in an epoch."""
        return -(-len(self) // self.batch_size)

    def _iterator(self) -> Iterable[Any]:
        """`data_iterator`, or its result if it is a method.

        Raises:
            UsageError: it is not iterable.
        """
        batches = self.data_iterator
        if callable(batches) and not isinstance(batches, Iterable):
            batches = batches()
        if not isinstance(batches, Iterable):
            raise UsageError(
                "has no batches",
                where=self,
                found=f"dataset None, data_iterator {batches!r}",
                fix="set one of them",
            )
        return batches

    def items_in(self, batch: Sequence[Any]) -> int:
        """Number of `items` (samples, tokens) in a batch."""
        return len(batch[0])

    items = "samples"

    def order(self, epoch: int) -> np.ndarray:
        """Indices of an epoch's samples in their order."""
        if not self.shuffle:
            return np.arange(len(self))
        return np.random.default_rng((self.seed, epoch)).permutation(len(self))

    def for_training(self) -> "DataLayerNM":
        """This layer for training: shuffled, unless `shuffle` is set."""
        if self.shuffle is not None:
            return self
        layer = copy.copy(self)
        layer.shuffle = True
        return layer

    def samples_before(self, batch: int) -> int | None:
        """Number of an epoch's samples before a batch; None if batches have no fixed size."""
        return None if self.dataset is None else min(batch * self.batch_size, len(self))

    def samples_of(self, epoch: int, first: int, stop: int) -> list[int] | None:
        """Indices of the samples in batches `first` to `stop - 1` of an epoch; None without a `dataset`."""
        if self.dataset is None:
            return None
        return self.order(epoch)[first * self.batch_size : stop * self.batch_size].tolist()

    def batch_after(self, samples: int) -> int | None:
        """Index of the batch that begins after `samples` samples; None if that is inside a batch."""
        whole = samples % self.batch_size == 0 or samples == len(self)
        return -(-samples // self.batch_size) if whole else None

    def batches(self, epoch: int, first: int = 0, stride: int = 1) -> Generator[Sequence[Any], None, None]:
        """Every `stride`th batch of an epoch, from batch `first` on; the last may be short."""
        batches: Iterable[Any]
        if self.dataset is None:
            batches = islice(self._iterator(), first, None, stride)
        else:
            order, size = self.order(epoch), self.batch_size
            batches = torch.utils.data.DataLoader(
                self.dataset,
                batch_sampler=[
                    order[start : start + size].tolist()
                    for start in range(first * size, len(order), stride * size)
                ],
                num_workers=self.num_workers,
                collate_fn=self.collate_fn,
            )
        for batch in batches:
            yield (batch,) if isinstance(batch, Tensor) else batch  # a layer with one port
