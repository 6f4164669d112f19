"""The loop: train, evaluate, infer, save and restore a graph with PyTorch."""

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from nemo.backends.pytorch import checkpoint
from nemo.backends.pytorch.background import Background
from nemo.backends.pytorch.bad_updates import BadUpdates
from nemo.backends.pytorch.distributed import World
from nemo.backends.pytorch.environment import (
    fingerprint,
    has_bf16_units,
    keep_freed_memory,
    place,
    seed_dropout,
    to_device,
)
from nemo.backends.pytorch.gradient_sum import GradientSum
from nemo.backends.pytorch.graph_module import GraphModule, Statistics
from nemo.backends.pytorch.inference import (
    Batch,
    InferenceCache,
    everything_before,
    first_epoch,
    on_cpu,
    run_batches,
)
from nemo.backends.pytorch.objectives import Objective, make_objectives, optimizer_for, tasks_of
from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.dropout import DropoutSeeds, dropout_seeds
from nemo.backends.pytorch.optimizer_file import load_optimizers, save_optimizers
from nemo.backends.pytorch.optimizers import load_optimizer_state, optimizer_state
from nemo.backends.pytorch.part_weights import (
    load_weights_by_part,
    parameters_by_name,
    restore_weights,
    weights_by_part,
)
from nemo.backends.pytorch.precision import Precision
from nemo.core.actions import BadUpdate, EvaluatedBatch, Hooks
from nemo.core.callbacks import CheckpointCallback
from nemo.core.graph import NmTensor
from nemo.core.neural_types import LossType
from nemo.core.plan import LrPolicy, TrainingPlan
from nemo.core.settings import Optimization
from nemo.utils.errors import CheckpointError, DataError, Preempted, UsageError
from nemo.utils.logging import logging
from nemo.utils.stopping import StopSignals

if TYPE_CHECKING:  # its import takes a second
    from nemo.backends.pytorch.sharding import Shards

T = TypeVar("T")

UPDATES_WORTH_A_BUILD = 20
"""A shorter training does not wait for kernels to be built; it uses those that are there."""
UPDATES_WORTH_COMPILING = 200
_GRADIENT_DTYPES = {None: None, "bfloat16": torch.bfloat16}


class PtActions:
    """Runs graphs on one device.

    Args:
        local_rank, global_rank: None and 0 when there is one process.
        tb_writer: where callbacks write TensorBoard events.
        optimization_level: see `precision`.
        device: where; None takes a GPU if there is one.
        seed: dropout of update `n` depends on it, `n` and the rank alone.
        world: the processes that train together; None is this one alone.
        gradient_dtype: what gradients travel between processes as: "bfloat16", or None: as they are.
        shard: share weights out among the processes of `world` while `train` runs, see `sharding`; nothing
            changes where there is one.

    Attributes:
        step: finished updates.
        epoch_num: finished epochs.
        batch_in_epoch: finished batches of the epoch that is going on.
        items_seen: items (tokens, samples) trained on.
        optimizers: all that `create_optimizer` and `train` made or were given.
        graph: everything that `train` computes.

    Raises:
        UsageError: `shard` does not go with the optimization level, or gradients cannot travel so.
    """

    graph: GraphModule

    def __init__(
        self,
        local_rank: int | None = None,
        global_rank: int = 0,
        tb_writer: Any = None,
        optimization_level: Optimization | str = Optimization.mxprO0,
        device: torch.device | str | None = None,
        seed: int = 0,
        world: World | None = None,
        gradient_dtype: str | None = None,
        shard: bool = False,
    ):
        self.world = world or World()
        self.local_rank = local_rank
        self.global_rank = global_rank
        self.tb_writer = tb_writer
        self.level = Optimization.parse(optimization_level)
        self.device = torch.device(device or place(None))
        if shard:
            _refuse_level(self.level, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.seed = seed
        self.step = 0
        self.epoch_num = 0
        self.batch_in_epoch = 0
        self.items_seen = 0
        self.learning_rate = 0.0
        self.grad_norm = math.nan
        self.optimizers: list[Optimizer] = []
        self._objectives: list[Objective] = []
        self._graphs: dict[tuple[NmTensor, ...], GraphModule] = {}
        self._values: dict[NmTensor, Any] = {}
        if gradient_dtype not in _GRADIENT_DTYPES:
            raise UsageError(
                "gradients cannot travel as this",
                where="gradient_dtype",
                found=repr(gradient_dtype),
                expected="'bfloat16' or None",
            )
        self._gradient_dtype = _GRADIENT_DTYPES[gradient_dtype]
        self._sums: dict[Optimizer, GradientSum | Shards] = {}
        self._shards: Shards | None = None
        self._shares_weights = shard and self.world.size > 1
        self._bad_updates = BadUpdates()
        self._stop: StopSignals | None = None
        self._background: Background | None = None
        self._cache = InferenceCache()

    # Training: `train` says what, `_run` when; `_update` is one update, `_run_batch` one batch of it.

    def create_optimizer(
        self, optimizer: str | Optimizer, things_to_optimize: Any, optimizer_params: Mapping[str, Any]
    ) -> Optimizer:
        """An optimizer for some modules, to be given to `train` together with the losses it works on.

        Args:
            optimizer: a name, see `optimizers`; an optimizer is handed back as it is.
            things_to_optimize: a module, modules, or tensors, which stand for all modules they come from.
            optimizer_params: `lr` and more, see `nemo.core.plan`.

        Raises:
            UsageError: none of these things has weights, or the optimizer cannot be made.
        """
        made = optimizer_for(optimizer, things_to_optimize, optimizer_params)
        self.optimizers.append(made)
        return made

    def train(
        self,
        tensors_to_optimize: NmTensor | Sequence[NmTensor] | Sequence[tuple[Optimizer, Sequence[NmTensor]]],
        optimizer: str | Optimizer | None = None,
        optimization_params: Mapping[str, Any] | None = None,
        callbacks: Iterable[Hooks] | None = None,
        lr_policy: LrPolicy | None = None,
        batches_per_step: int | None = None,
        when_not_finite: str = "stop",
        amp_max_loss_scale: float = 2.0**24,
    ) -> None:
        """Make losses small; the arguments are those of `NeuralModuleFactory.train`.

        Raises:
            UsageError: arguments that cannot be, or a second training.
            NumericError: a loss or a gradient is not finite; weights are as before that update.
            Preempted: a signal asked it to stop, and a CheckpointCallback saved it.
        """
        if self._objectives:
            raise UsageError("this factory has trained already", fix="pass reset=True to start anew")
        params = optimization_params or {}
        plan = TrainingPlan.from_params(
            params,
            batches_per_step=batches_per_step or 1,
            lr_policy=lr_policy,
            when_not_finite=when_not_finite,
            max_loss_scale=amp_max_loss_scale,
        )
        callbacks = list(callbacks or ())
        tasks = tasks_of(tensors_to_optimize, optimizer)
        read = [tensor for callback in callbacks for tensor in callback.tensors]
        self.graph = GraphModule([*(loss for _, losses in tasks for loss in losses), *read])
        self.graph.source = self.graph.source.for_training()
        self.graph.train()
        self._make_fast(plan.max_steps)
        self._precision = Precision(self.level, self.device, plan.max_loss_scale, plan.min_loss_scale)
        parameters = parameters_by_name(self.graph.parts)
        self._place_weights()
        self._objectives = make_objectives(tasks, parameters, params)
        new = [task.optimizer for task in self._objectives if task.optimizer not in self.optimizers]
        self.optimizers.extend(new)
        self._share_updates()
        own_gpu = [self.device] if self.device.type == "cuda" else []
        step = self.step
        try:
            with ExitStack() as stack:
                # Dropout is seeded at every update: nobody else's affair.
                stack.enter_context(torch.random.fork_rng(own_gpu))
                self._background = stack.enter_context(Background())
                if any(isinstance(callback, CheckpointCallback) for callback in callbacks):
                    self._stop = stack.enter_context(StopSignals())
                self._run(plan, callbacks)
        except BaseException:
            if self.step == step and self._shards is None:  # nothing was trained: it may try again
                self._objectives = []
                self.graph.zero_grad(set_to_none=True)  # of the batches that the update got to
            raise
        finally:
            self._background = self._stop = None
        if self._shards is not None:
            self._shards.put_together()
            self._shards = None

    def _make_fast(self, updates: int | None) -> None:
        """Have built or compiled what a training of so many updates (None: nobody knows) is worth."""
        if self.device.type == "cpu" and (updates is None or updates >= UPDATES_WORTH_A_BUILD):
            native.build()
        if self.device.type == "cuda" and (updates is None or updates >= UPDATES_WORTH_COMPILING):
            for part in self.graph.parts.values():
                for region in getattr(part, "regions", ()):
                    region.compile(dynamic=False)

    def _place_weights(self) -> None:
        """Put the weights of the first process on the device; where they are shared out, a share of them.

        Raises:
            DistributedError: another process has another model.
            UsageError: these weights cannot be shared out.
        """
        if not self._shares_weights:
            self.graph.to(self.device)
        if self.world.size > 1:
            shapes = {name: list(p.shape) for name, p in parameters_by_name(self.graph.parts).items()}
            self.world.check_same(weights=shapes)
            self.world.copy_from_first([*self.graph.parameters(), *self.graph.buffers()])
        if self._shares_weights:
            from nemo.backends.pytorch.sharding import Shards

            self._shards = Shards(self.graph.parts, self.device, self.world, self._gradient_dtype)

    def _share_updates(self) -> None:
        """Settle how gradients become sums over all processes.

        Raises:
            UsageError: an optimizer cannot update weights that are shared out.
        """
        if self._shards is not None:
            self._objectives = [
                replace(objective, parameters=self._shards.adopt(objective.optimizer, objective.parameters))
                for objective in self._objectives
            ]
        if self.world.size > 1:
            self._sums = {
                task.optimizer: self._shards
                or GradientSum(self.world, task.parameters.values(), self._gradient_dtype)
                for task in self._objectives
            }

    @property
    def is_sharded(self) -> bool:
        """Are weights shared out among processes, so that all must take part in what needs them?"""
        return self._shards is not None

    def _run_with_weights(self, compute: Callable[[], T]) -> T:
        return compute() if self._shards is None else self._shards.run(compute)

    def _run(self, plan: TrainingPlan, callbacks: Sequence[Hooks]) -> None:
        """One update for every `plan.batches_per_step` batches, the callbacks told of every moment.

        Of several processes each takes so many, every `world.size`th batch. What is left of an epoch when its
        batches do not divide makes a smaller update of its own.
        """

        for callback in callbacks:
            callback.action = self
        _notify(callbacks, "restore")  # a checkpoint moves step, epoch_num and batch_in_epoch
        _notify(callbacks, "action_start")
        try:
            while not plan.is_done(self.step, self.epoch_num):
                _notify(callbacks, "epoch_start")
                with closing(self._batches_of_epoch()) as batches:
                    while share := self._share(list(islice(batches, plan.batches_per_step)), callbacks):
                        self._train_on(share, plan, callbacks)
                        if plan.is_done(self.step, self.epoch_num):
                            break
                    else:
                        if self.batch_in_epoch == 0:
                            raise DataError("an epoch has no batch", where=self.graph.source)
                        self.epoch_num += 1  # only whole epochs count
                        self.batch_in_epoch = 0
                _notify(callbacks, "epoch_end")
        except Preempted:
            _notify(callbacks, "stop")
            self.world.wait("the others stop")
            raise
        _notify(callbacks, "action_end")

    def _train_on(self, share: "_Share", plan: TrainingPlan, callbacks: Sequence[Hooks]) -> None:
        """An update, and what follows one that was not made."""
        _notify(callbacks, "iteration_start")
        bad = self._update(share, plan)
        if bad is not None:
            _notify(callbacks, "bad_update", bad)
            self._bad_updates.refuse(bad, plan.when_not_finite)
        self.step += 1
        self.batch_in_epoch += share.num_batches
        self.items_seen += share.num_items
        if bad is not None and plan.when_not_finite == "rewind":
            place = self.epoch_num, self.batch_in_epoch
            _notify(callbacks, "restore")
            self.epoch_num, self.batch_in_epoch = place
        else:
            _notify(callbacks, "iteration_end")

    def _batches_of_epoch(self) -> Generator[Sequence[Any], None, None]:
        """What is left of this process's batches of the epoch."""
        first = self.batch_in_epoch + self.world.rank
        return self.graph.source.batches(self.epoch_num, first, self.world.size)

    def _share(self, batches: Sequence[Sequence[Any]], callbacks: Sequence[Hooks]) -> "_Share | None":
        """What is known of an update before it; None if no process has a batch any more.

        Raises:
            Preempted: a signal asked one of the processes to stop.
        """
        objective = self._objectives[self.step % len(self._objectives)]
        graph = self._graph_for(objective, callbacks)
        counts = [graph.counts(batch) for batch in batches] or [torch.zeros(len(graph.losses))]
        items = sum(graph.source.items_in(batch) for batch in batches)
        asked = self._stop is not None and self._stop.asked is not None
        mine = torch.cat([torch.tensor([asked, len(batches), items]), torch.stack(counts).sum(0)]).double()
        num_asked, num_batches, num_items, *divisors = self.world.sum(mine, "what the others do").tolist()
        if num_asked:
            raise self._preempted()
        if num_batches == 0:
            return None
        on_device = torch.tensor(divisors, dtype=torch.float32).to(self.device)
        return _Share(objective, graph, batches, on_device, int(num_batches), int(num_items))

    def _update(self, share: "_Share", plan: TrainingPlan) -> BadUpdate | None:
        """One update from the gradient of all batches together; several objectives take turns.

        Returns:
            Why it was not made; None if it was.
        """
        objective, optimizer = share.objective, share.objective.optimizer
        if plan.lr_policy is not None:
            for group in optimizer.param_groups:
                group["lr"] = plan.lr_at(group["initial_lr"], self.step, self.epoch_num)
        self.learning_rate = optimizer.param_groups[0]["lr"]
        seed_dropout(self.seed, self.step, self.global_rank)
        self._values = {}

        sums = self._sums.get(optimizer)
        batches = self._filled_up(share)
        with sums or nullcontext(), self._precision.matrices(self.graph.parameters()) as matrices:
            for number, batch in enumerate(batches):
                self.world.now("forward and backward")
                if sums is not None and number == len(batches) - 1 and not matrices.are_low:
                    sums.let_leave()
                seeds = DropoutSeeds(self.seed, self.step, self.global_rank, number, device=self.device)
                with dropout_seeds(seeds):
                    self._run_batch(share, batch, counts=number < len(share.batches))
                matrices.collect()
        self._sum_losses(objective)
        self.world.now("optimizer")
        norm = self._precision.gradient_norm(
            optimizer,
            list(objective.parameters.values()),
            plan.grad_norm_clip,
            None if self._shards is None else self._shards.add_up,
        )
        self.grad_norm = float(norm)
        bad = self._bad_update(share)
        if bad is None:
            self._precision.step(optimizer)
        else:
            self._precision.skip()
        self.graph.zero_grad(set_to_none=True)  # of what other objectives train, too
        self.world.now("callbacks and data")
        return bad

    def _preempted(self) -> Preempted:
        by = self._stop.asked if self._stop is not None and self._stop.asked else "another process"
        logging.info(
            "stopped by %s after update %d: saving, then exit code %d; a second signal leaves at once",
            by,
            self.step,
            Preempted.exit_code,
        )
        problem = Preempted(
            f"stopped by {by} after update {self.step}, and saved", fix="run the same command again to go on"
        )
        problem.is_of_all = True
        return problem

    def _sum_losses(self, objective: Objective) -> None:
        """The losses of all processes; of other tensors each keeps its own values."""
        if self.world.size > 1:
            zero = torch.zeros((), device=self.device)
            losses = [tensor for tensor in self._graph_of(objective.losses).given if _is_loss(tensor)]
            own = torch.stack([self._values.get(loss, zero).float() for loss in losses])
            self._values.update(zip(losses, self.world.sum(own, "losses"), strict=True))

    def _graph_for(self, objective: Objective, callbacks: Sequence[Hooks]) -> GraphModule:
        """What this update computes: its losses, and what callbacks read after it."""
        read = [t for c in callbacks if c.reads_at(self.step + 1) for t in c.tensors]
        graph = self._graph_of(objective.losses)
        more = tuple(tensor for tensor in dict.fromkeys(read) if tensor not in graph.given)
        return self._graph_of((*objective.losses, *more)) if more else graph

    def _graph_of(self, tensors: tuple[NmTensor, ...]) -> GraphModule:
        if tensors not in self._graphs:
            self._graphs[tensors] = GraphModule(tensors)
        return self._graphs[tensors]

    def _filled_up(self, share: "_Share") -> Sequence[Sequence[Any]]:
        """The batches of this process; where weights are shared out, as many as the first process has.

        All must take part in every pass then, so one that has no batch left runs any other.
        """
        if not self.is_sharded:
            return share.batches
        num_missing = -(-share.num_batches // self.world.size) - len(share.batches)
        if num_missing == 0:
            return share.batches
        with closing(self.graph.source.batches(self.epoch_num)) as batches:
            return [*share.batches, *[next(batches)] * num_missing]

    def _run_batch(self, share: "_Share", batch: Sequence[Any], counts: bool = True) -> None:
        """Add the gradient of one batch, and its share of every loss; nothing if it does not count."""
        graph, losses = share.graph, share.objective.losses
        plan = graph.plan(batch, buckets=self._precision.buckets).to(self.device)
        with self._precision.autocast():
            on_device = to_device(batch, self.device)
            values = self._run_with_weights(lambda: graph(on_device, share.divisors, plan=plan))
            loss = sum(values[tensor] for tensor in losses)
        if loss.ndim > 0 or not loss.requires_grad:
            raise UsageError(
                "cannot be optimized",
                where=", ".join(f"{tensor.producer}.{tensor.name}" for tensor in losses),
                found=f"a value of shape {tuple(loss.shape)}" if loss.ndim else "no weights it depends on",
                expected="the output of a loss that depends on a module that is not frozen",
            )
        self._precision.scaler.scale(loss if counts else 0 * loss).backward()
        for tensor, value in values.items() if counts else ():
            value = value.detach() if isinstance(value, Tensor) else value
            adds_up = _is_loss(tensor) and tensor in self._values
            self._values[tensor] = self._values[tensor] + value if adds_up else value

    def _bad_update(self, share: "_Share") -> BadUpdate | None:
        """What is wrong with the gradient; None if nothing is, or fp16 overflowed as it does now and then."""
        loss = float(sum(self._values[loss] for loss in share.objective.losses))
        if (math.isfinite(loss) and math.isfinite(self.grad_norm)) or self._precision.may_overflow:
            return None
        batches = self.batch_in_epoch, self.batch_in_epoch + share.num_batches
        weights = share.objective.parameters.items()
        return BadUpdate(
            step=self.step + 1,
            epoch=self.epoch_num,
            batches=batches,
            samples=self.graph.source.samples_of(self.epoch_num, *batches),
            loss=loss,
            grad_norm=self.grad_norm,
            weights=[name for name, p in weights if p.grad is not None and not p.grad.isfinite().all()],
        )

    def value_of(self, tensor: NmTensor) -> Any:
        """A tensor in the latest update: a loss over all of it, anything else of its last batch.

        Raises:
            UsageError: it was not computed in that update.
        """
        if tensor not in self._values:
            raise UsageError(
                "not computed in this update",
                where=f"{tensor.producer}.{tensor.name}",
                fix="put it into the callback's `tensors`, and let `reads_at` answer True",
            )
        return self._values[tensor]

    @property
    def items(self) -> str:
        """What `items_seen` counts: "tokens" or "samples"."""
        return self.graph.source.items

    # Evaluation and inference

    def evaluate(self, tensors: Sequence[NmTensor]) -> Iterator[EvaluatedBatch]:
        """Values of `tensors` for each batch of one pass over their data, dropout off."""
        graph = GraphModule(tensors)
        for values, statistics in self._run_batches(graph, first_epoch(graph)):
            self.world.now("evaluating")
            yield EvaluatedBatch({tensor: values[tensor] for tensor in tensors}, statistics)

    def infer(
        self,
        tensors: NmTensor | Sequence[NmTensor],
        checkpoint_dir: str | Path | None = None,
        ckpt_pattern: str = "",
        verbose: bool = True,
        cache: bool = False,
        use_cache: bool = False,
        offload_to_cpu: bool = True,
        modules_to_restore: Collection[Any] | None = None,
    ) -> list[list[Any]]:
        """For each tensor its value in every batch; the arguments are those of `NeuralModuleFactory.infer`.

        Raises:
            UsageError: caches that contradict each other, or a cache that these tensors do not build on.
        """
        tensors = [tensors] if isinstance(tensors, NmTensor) else list(tensors)
        self._cache.check(fill=cache, use=use_cache)
        graph = GraphModule(everything_before(tensors) if cache else tensors)
        if checkpoint_dir is not None:
            restore_weights(graph.parts, checkpoint_dir, ckpt_pattern, modules_to_restore)
        passes = []
        batches = self._cache.batches(graph) if use_cache else first_epoch(graph)
        for values, _ in self._run_batches(graph, batches):
            passes.append(on_cpu(values) if offload_to_cpu else values)
            if verbose:
                logging.info("inferred batch %d", len(passes))
        if cache:
            self._cache.passes = passes
        return [[values[tensor] for values in passes] for tensor in tensors]

    def clear_cache(self) -> None:
        """Forget what `infer` kept."""
        self._cache = InferenceCache()

    def _run_batches(
        self, graph: GraphModule, batches: Iterable[Batch]
    ) -> Iterator[tuple[dict[NmTensor, Any], dict[NmTensor, Statistics]]]:
        for part in graph.parts.values():
            if not self.is_sharded or part not in self.graph.parts.values():
                part.to(self.device)
        precision = Precision(self.level, self.device)
        return run_batches(graph, batches, self.device, precision, self._run_with_weights)

    # Checkpoints

    def save(
        self,
        folder: str | Path,
        keep: int = 4,
        extra_files: Mapping[str, Any] | None = None,
        extra_state: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> None:
        """Write `folder/STEP-<n>` and delete what it supersedes, but for the newest `keep`.

        Where weights are shared out, all processes must call it, and the first one writes.

        Args:
            wait: until it is on the disk; else, within `train`, what is saved is copied and written while
                training goes on, and `is_saved` tells how that went.

        Raises:
            StorageError: it, or the one before, cannot be written.
            UsageError: weights were shared out, and the training is over.
        """
        if not self.is_sharded:
            self._refuse_shards("save")  # the optimizer's state is gone
        self.world.now("saving")
        tensors = {
            **weights_by_part(self.graph.parts),
            **{
                name: optimizer_state(objective.optimizer, objective.parameters)
                for name, objective in self._objectives_by_name().items()
            },
        }
        if self._shards is not None:
            tensors = self._shards.whole(tensors)
            if self.global_rank != 0:
                return
        step, folder = self.step, Path(folder)
        state = {
            "step": self.step,
            "epoch": self.epoch_num,
            "batch_in_epoch": self.batch_in_epoch,
            "sample_in_epoch": self.graph.source.samples_before(self.batch_in_epoch),
            "environment": self._environment(),
            "items_seen": self.items_seen,
            "scaler": self._precision.scaler.state_dict(),
            **(extra_state or {}),
        }

        def write() -> None:
            checkpoint.save(folder, step, tensors, state, extra_files or {})
            checkpoint.prune(folder, keep)

        self.is_saved()  # one at a time, and what is copied is one more in memory
        if wait or self._background is None:
            write()
            return
        tensors = {
            stem: {n: t.detach().to("cpu", copy=True) for n, t in named.items()}
            for stem, named in tensors.items()
        }
        self._background.start(write)

    def is_saved(self, wait: bool = True) -> bool:
        """Is no checkpoint being written (any more)?

        Raises:
            StorageError: the latest could not be written; told once.
        """
        return self._background is None or self._background.is_done(wait)

    def restore(
        self,
        folder: str | Path,
        identity: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
    ) -> bool:
        """Continue from the newest good checkpoint in `folder`; False when there is none.

        Args:
            folder: what `save` was given; or a work folder with it, or one checkpoint in it.
            identity: what the checkpoint's state must hold, name by name, for the run to be the same one.
            stream: what decides the batches, by name; an epoch of others begins anew.

        Raises:
            CheckpointError: there are checkpoints, but none is good, or it is of another model or run.
        """
        found = self.world.told_by_first(lambda: _as_text(checkpoint.find(Path(folder))))
        if found is None:
            return False
        newest = Path(found)
        tensors, state = self.world.tensors_of_first(lambda: checkpoint.load(newest))
        saved_identity = state.get("identity", {})
        checkpoint.refuse_other_run(saved_identity, identity or {}, newest)
        if self._shards is not None:
            tensors = self._shards.rows(tensors)
        objectives = self._objectives_by_name()
        optimizer_tensors = {name: tensors.pop(name, None) for name in objectives}
        if None in optimizer_tensors.values():
            raise CheckpointError("the checkpoint has no optimizer state", where=newest)
        load_weights_by_part(self.graph.parts, tensors, newest)
        for name, objective in objectives.items():
            load_optimizer_state(objective.optimizer, objective.parameters, optimizer_tensors[name] or {})
        if state["scaler"]:
            self._precision.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch_num, self.batch_in_epoch = state["step"], state["epoch"], 0
        self.items_seen = state["items_seen"]
        logging.info("continuing from %s: step %d, epoch %d", newest, self.step, self.epoch_num)
        then, now = state.get("environment", {}), self._environment()
        changed = [f"{n} {now[n]} instead of {then[n]}" for n in now if then.get(n, now[n]) != now[n]]
        if changed:
            logging.info("%s: the same samples and masks, but not to the bit the same", ", ".join(changed))
        others = [name for name, value in (stream or {}).items() if saved_identity.get(name, value) != value]
        if others:
            logging.info("the epoch begins anew, as the checkpoint is of another %s", ", ".join(others))
        else:
            self.batch_in_epoch = self._batch_of(state, newest)
        return True

    def _environment(self) -> dict[str, str | int]:
        """What the bits of a result depend on, beside program, options and data."""
        return {"processes": self.world.size, **fingerprint(self.device)}

    def _batch_of(self, state: Mapping[str, Any], source: Path) -> int:
        """The batch that a checkpoint's epoch goes on with; batches may have another size now.

        Raises:
            CheckpointError: it was left within one.
        """
        samples = state.get("sample_in_epoch")
        if samples is None:
            return state["batch_in_epoch"]
        batch = self.graph.source.batch_after(samples)
        if batch is None:
            raise CheckpointError(
                "the epoch was left within one of these batches",
                where=source,
                found=f"{samples} samples",
                expected="a whole number of batches",
                fix="take batches of the size they had, or of one that divides it",
            )
        return batch

    def _refuse_shards(self, what: str) -> None:
        if self._shares_weights:
            raise UsageError(
                "weights and optimizers are shared out among processes",
                where=what,
                fix="save with CheckpointCallback, while training",
            )

    def _objectives_by_name(self) -> dict[str, Objective]:
        """As a checkpoint calls them: optimizer, optimizer_2, ..."""
        names = ["optimizer", *(f"optimizer_{i}" for i in range(2, len(self._objectives) + 1))]
        return dict(zip(names, self._objectives, strict=True))

    def save_state_to(self, path: str | Path) -> None:
        """Write counters and optimizers, no weights, to one file (safetensors, whatever its suffix).

        Raises:
            UsageError: weights are or were shared out among processes.
        """
        self._refuse_shards("save_state_to")
        save_optimizers(path, self.optimizers, {"step": self.step, "epoch_num": self.epoch_num})

    def restore_state_from(self, path: str | Path) -> None:
        """Read what `save_state_to` wrote.

        Raises:
            MissingFileError, CheckpointError: there is no such file, or it is of other optimizers.
            UsageError: weights are or were shared out among processes.
        """
        self._refuse_shards("restore_state_from")
        numbers = load_optimizers(path, self.optimizers)
        self.step, self.epoch_num = numbers["step"], numbers["epoch_num"]


@dataclass(frozen=True)
class _Share:
    """What this process has of an update.

    Attributes:
        divisors: what the losses are divided by, [losses]: they are sums over items of all batches of all
            processes, and the number of these is known before the model runs.
        num_batches, num_items: of all processes.
    """

    objective: Objective
    graph: GraphModule
    batches: Sequence[Sequence[Any]]
    divisors: Tensor
    num_batches: int
    num_items: int


def _refuse_level(level: Optimization, device: torch.device) -> None:
    """Raise a UsageError where weights that are shared out cannot be computed with at this level."""
    needs_scaler = level is Optimization.mxprO1 and device.type == "cuda" and not has_bf16_units(device)
    if level not in (Optimization.mxprO0, Optimization.mxprO1) or needs_scaler:
        raise UsageError(
            "this level does not go with weights that are shared out",
            where="optimization_level",
            found=f"{level.name}{' on a GPU without bf16' if needs_scaler else ''}",
            expected="O0, or O1 with bf16",
            fix="use O0" if needs_scaler else "use O1, or train without shard",
        )


def _notify(callbacks: Sequence[Hooks], moment: str, *told: Any) -> None:
    for callback in callbacks:
        getattr(callback, f"on_{moment}")(*told)


def _as_text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _is_loss(tensor: NmTensor) -> bool:
    return isinstance(tensor.elements_type, LossType)
