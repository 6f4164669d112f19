"""The loop: train, evaluate, infer, save and restore a graph with PyTorch."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nemo.backends.pytorch import checkpoint
from nemo.backends.pytorch.environment import keep_freed_memory, place
from nemo.backends.pytorch.graph_module import GraphModule, Statistics
from nemo.backends.pytorch.optimizers import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
)
from nemo.backends.pytorch.precision import Precision
from nemo.core.actions import Hooks
from nemo.core.graph import NmTensor
from nemo.core.neural_factory import Optimization
from nemo.core.neural_types import LossType
from nemo.core.plan import TrainingPlan
from nemo.utils.errors import CheckpointError, DataError, NumericError
from nemo.utils.logging import logging

# In what `evaluate` yields, the sums and counts of every loss, by the unique name of its tensor.
STATISTICS = "STATISTICS"


class PtActions:
    """Runs graphs on one device.

    Args:
        device: where; None takes a GPU if there is one.
        optimization_level: see `precision`.
        local_rank, global_rank: None and 0 when there is one process.
        tb_writer: where callbacks write TensorBoard events.

    Attributes:
        step: finished updates.
        epoch_num: finished epochs.
        batch_in_epoch: finished batches of the epoch that is going on.
        items_seen: items (tokens, samples) trained on.
        graph, optimizer: made by `train`.
    """

    graph: GraphModule
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        device: torch.device | str | None = None,
        optimization_level: Optimization | str = Optimization.mxprO0,
        local_rank: int | None = None,
        global_rank: int = 0,
        tb_writer: Any = None,
    ):
        self.device = torch.device(device or place(None))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.tb_writer = tb_writer
        self.level = Optimization.parse(optimization_level)
        self.local_rank = local_rank
        self.global_rank = global_rank
        self.step = 0
        self.epoch_num = 0
        self.batch_in_epoch = 0
        self.items_seen = 0
        self.learning_rate = 0.0
        self.grad_norm = math.nan
        self._values: dict[NmTensor, Any] = {}

    # Training: `train` decides when, `_update` is one update, `_run_batch` one batch of it.

    def train(self, losses: Sequence[NmTensor], plan: TrainingPlan, callbacks: Iterable[Hooks] = ()) -> None:
        """Make the sum of `losses` small: one update for every `plan.batches_per_step` batches.

        What is left of an epoch when its batches do not divide makes a smaller update of its own.

        Raises:
            NumericError: a loss or a gradient is not finite; weights are as before that update.
        """
        callbacks = list(callbacks)
        read = [t for callback in callbacks for t in callback.tensors]
        self.graph = GraphModule([*losses, *read]).to(self.device)
        self.graph.train()
        self._precision = Precision(self.level, self.device)
        self._parameters = trainable_parameters(self.graph)
        self.optimizer = make_optimizer(
            plan.optimizer, self._parameters, lr=plan.lr, **plan.optimizer_options
        )

        def notify(moment: str) -> None:
            for callback in callbacks:
                getattr(callback, f"on_{moment}")()

        for callback in callbacks:
            callback.action = self
        notify("restore")  # a checkpoint moves step, epoch_num and batch_in_epoch
        notify("action_start")
        while not plan.is_done(self.step, self.epoch_num):
            notify("epoch_start")
            with closing(self.graph.source.batches(self.epoch_num, self.batch_in_epoch)) as batches:
                for group in _in_groups(batches, plan.batches_per_step):
                    notify("iteration_start")
                    self._update(group, losses, plan)
                    notify("iteration_end")
                    if plan.is_done(self.step, self.epoch_num):
                        break
                else:
                    if self.batch_in_epoch == 0:
                        raise DataError("an epoch has no batch", where=self.graph.source)
                    self.epoch_num += 1  # only whole epochs count
                    self.batch_in_epoch = 0
            notify("epoch_end")
        notify("action_end")

    def _update(
        self, batches: Sequence[Sequence[Any]], losses: Sequence[NmTensor], plan: TrainingPlan
    ) -> None:
        """One update from the gradient of all `batches` together."""
        self.learning_rate = plan.lr_at(self.step, self.epoch_num)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        seed_dropout(plan.seed, self.step, self.global_rank)
        self._values = {}

        # A loss is a sum over its items; what it is divided by is known before the model runs.
        divisors = torch.stack([self.graph.counts(batch) for batch in batches]).sum(0)
        for batch in batches:
            self._run_batch(self._to_device(batch), losses, divisors.to(self.device))
        norm = self._precision.gradient_norm(
            self.optimizer, list(self._parameters.values()), plan.grad_norm_clip
        )
        loss = sum(self._values[tensor] for tensor in losses)
        self.grad_norm = float(norm)
        self._refuse_non_finite(loss)
        self._precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

        self.step += 1
        self.batch_in_epoch += len(batches)
        self.items_seen += sum(self.graph.source.items_in(batch) for batch in batches)

    def _run_batch(self, batch: Sequence[Any], losses: Sequence[NmTensor], divisors: Tensor) -> None:
        """Add the gradient of one batch, and its share of every loss."""
        with self._precision.autocast():
            values = self.graph(batch, divisors)
            loss = sum(values[tensor] for tensor in losses)
        self._precision.scaler.scale(loss).backward()
        for tensor, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else value
            adds_up = _is_loss(tensor) and tensor in self._values
            self._values[tensor] = self._values[tensor] + value if adds_up else value

    def _refuse_non_finite(self, loss: Tensor) -> None:
        if self._precision.scaler.is_enabled():
            return  # fp16 overflows now and then; the scaler skips such an update
        if not (np.isfinite(float(loss)) and np.isfinite(self.grad_norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise NumericError(
                "the loss or its gradient is not finite; this update was not made",
                where=f"step {self.step + 1}, epoch {self.epoch_num}, batch {self.batch_in_epoch}",
                found=f"loss {float(loss)}, gradient norm {self.grad_norm}",
                expected="finite numbers",
                fix="lower the learning rate, or clip the gradient with grad_norm_clip",
            )

    def value_of(self, tensor: NmTensor) -> Any:
        """A tensor in the latest update: a loss over all of it, anything else of its last batch."""
        return self._values[tensor]

    @property
    def items(self) -> str:
        """What `items_seen` counts: "tokens" or "samples"."""
        return self.graph.source.items

    # Evaluation and inference

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterator[dict[str, Any]]:
        """Values of `tensors` for each batch of one pass over their data, dropout off.

        Yields:
            unique name -> [value]; and under STATISTICS, for every loss of the graph, its sums and counts.
        """
        for values, statistics in self._evaluate(tensors):
            named: dict[str, Any] = {t.unique_name: [values[t]] for t in tensors}
            named["IS_FROM_DIST_EVAL"] = False
            named[STATISTICS] = {tensor.unique_name: s for tensor, s in statistics.items()}
            yield named

    def infer(self, tensors: Sequence[NmTensor], checkpoint_dir: str | Path | None = None) -> list[list[Any]]:
        """For each tensor its value in every batch of one pass over its data, on the CPU.

        Args:
            tensors: what to compute.
            checkpoint_dir: take the weights from the newest good checkpoint there.
        """
        if checkpoint_dir is not None:
            restore_weights(GraphModule(tensors), checkpoint_dir)
        passes = [values for values, _ in self._evaluate(tensors)]
        return [[_on_cpu(values[tensor]) for values in passes] for tensor in tensors]

    def _evaluate(
        self, tensors: Sequence[NmTensor]
    ) -> Iterator[tuple[dict[NmTensor, Any], dict[NmTensor, Statistics]]]:
        graph = GraphModule(tensors).to(self.device)
        was_training = {part: part.training for part in graph.parts.values()}
        precision = Precision(self.level, self.device)
        graph.eval()
        try:
            with closing(graph.source.batches(epoch=0)) as batches:
                for batch in batches:
                    statistics: dict[NmTensor, Statistics] = {}
                    with torch.no_grad(), precision.autocast():
                        values = graph(self._to_device(batch), statistics=statistics)
                    yield values, statistics
        finally:
            for part, training in was_training.items():
                part.train(training)

    # Checkpoints

    def save(
        self,
        folder: str | Path,
        keep: int = 4,
        extra_files: Mapping[str, Any] | None = None,
        extra_state: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write `folder/STEP-<n>` and delete what it supersedes, but for the newest `keep`."""
        path = checkpoint.save(
            Path(folder),
            self.step,
            {
                **weights_by_part(dict(self.graph.parts.items())),
                "optimizer": optimizer_state(self.optimizer, self._parameters),
            },
            {
                "step": self.step,
                "epoch": self.epoch_num,
                "batch_in_epoch": self.batch_in_epoch,
                "items_seen": self.items_seen,
                "scaler": self._precision.scaler.state_dict(),
                **(extra_state or {}),
            },
            extra_files or {},
        )
        checkpoint.prune(Path(folder), keep)
        return path

    def restore(self, folder: str | Path, identity: Mapping[str, Any] | None = None) -> bool:
        """Continue from the newest good checkpoint in `folder`; False when there is none.

        Args:
            folder: what `save` was given.
            identity: what the checkpoint's state must hold, name by name, for the run to be the same one.

        Raises:
            CheckpointError: there are checkpoints, but none is good, or it is of another model or run.
        """
        newest = checkpoint.latest_good(Path(folder))
        if newest is None:
            return False
        tensors, state = checkpoint.load(newest)
        refuse_other_run(state.get("identity", {}), identity or {}, newest)
        optimizer_tensors = tensors.pop("optimizer", None)
        if optimizer_tensors is None:
            raise CheckpointError("the checkpoint has no optimizer state", where=newest)
        load_weights_by_part(dict(self.graph.parts.items()), tensors, newest)
        load_optimizer_state(self.optimizer, self._parameters, optimizer_tensors)
        if state["scaler"]:
            self._precision.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch_num = state["step"], state["epoch"]
        self.batch_in_epoch, self.items_seen = state["batch_in_epoch"], state["items_seen"]
        logging.info("continuing from %s: step %d, epoch %d", newest, self.step, self.epoch_num)
        return True

    def _to_device(self, batch: Sequence[Any]) -> list[Any]:
        return [
            value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for value in batch
        ]


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make dropout of this update a function of (seed, step, rank), so that a resumed run repeats it."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state) >> 1)


def trainable_parameters(graph: GraphModule) -> dict[str, nn.Parameter]:
    """Parameters that are trained, each once, as `<part>.<name>`."""
    return {
        name.removeprefix("parts."): parameter
        for name, parameter in graph.named_parameters()
        if parameter.requires_grad
    }


def weights_by_part(parts: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """State dict of every part that has weights; a tied weight only with the first part that holds it."""
    seen: set[int] = set()
    weights: dict[str, dict[str, Tensor]] = {}
    for part, module in parts.items():
        own = {n: tensor for n, tensor in module.state_dict().items() if tensor.data_ptr() not in seen}
        seen.update(tensor.data_ptr() for tensor in own.values())
        if own:
            weights[part] = own
    return weights


def load_weights_by_part(
    parts: Mapping[str, nn.Module], tensors: Mapping[str, Mapping[str, Tensor]], source: Path
) -> None:
    """Copy a checkpoint's weights into the parts: all of them or none.

    Raises:
        CheckpointError: the checkpoint has other modules, names, shapes or types.
    """
    saved = _flat(tensors)
    own = _flat(weights_by_part(parts))
    checkpoint.check_fit(f"the model in {source}", own, saved)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def refuse_other_run(saved: Mapping[str, Any], identity: Mapping[str, Any], source: Path) -> None:
    """Raise a CheckpointError that names what differs between a checkpoint's run and this one."""
    for name, value in identity.items():
        if name in saved and saved[name] != value:
            raise CheckpointError(
                f"the checkpoint is of a run with another {name}",
                where=source,
                found=saved[name],
                expected=value,
                fix="use the same options and data, or another --work_dir",
            )


def restore_weights(graph: GraphModule, folder: str | Path) -> dict[str, Any]:
    """Copy the weights of the newest good checkpoint in `folder` into the parts of `graph`.

    Parts of the checkpoint that the graph does not have are left out. Returns the checkpoint's state.

    Raises:
        CheckpointError: there is none, it is damaged, or its weights do not fit.
    """
    newest = checkpoint.latest_good(Path(folder))
    if newest is None:
        raise CheckpointError("no checkpoint", where=folder, expected="a folder with STEP-<n> folders")
    tensors, state = checkpoint.load(newest)
    parts = dict(graph.parts.items())
    wanted = weights_by_part(parts)
    load_weights_by_part(parts, {p: t for p, t in tensors.items() if p in wanted}, newest)
    return state


def _flat(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def _in_groups(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def _is_loss(tensor: NmTensor) -> bool:
    return isinstance(tensor.elements_type, LossType)


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
