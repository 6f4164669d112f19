"""The training loop in three levels: `run` sets up and tears down, `_epoch` iterates, `_step` updates."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import Any

import torch

from nemo.backends.pytorch.checkpoints.background_writer import BackgroundWriter
from nemo.backends.pytorch.checkpoints.module_state import parameters_by_name
from nemo.backends.pytorch.environment import seed_dropout, to_device
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.dropout import DropoutSeeds, dropout_seeds
from nemo.backends.pytorch.training.bad_steps import BadSteps, find_bad_step
from nemo.backends.pytorch.training.objectives import Task, make_objectives
from nemo.backends.pytorch.training.precision import Precision
from nemo.backends.pytorch.training.progress import Progress
from nemo.backends.pytorch.training.replicas import Replicas
from nemo.backends.pytorch.training.state import TrainingState
from nemo.backends.pytorch.training.step import StepGraphs, StepInputs, StepValues
from nemo.core.actions import Actions, BadStep, Hooks
from nemo.core.plan import TrainingPlan
from nemo.core.settings import Optimization
from nemo.utils.errors import DataError, Preempted, UsageError
from nemo.utils.logging import logging
from nemo.utils.stopping import StopSignals

STEPS_WORTH_A_BUILD = 20
"""Shorter runs do not wait for kernels to be built; they use existing ones."""
STEPS_WORTH_COMPILING = 200


class Training:
    """One training of a graph.

    Args:
        plan: length and settings of the training; a callback may replace it after any step.
        tasks: pairs of an optimizer, or its name, and the losses it minimizes.
        optimization_params: arguments of the optimizers that are given by name.
        callbacks: called in this order at every hook.
        progress: the counters to start from; updated at every step.
        level, device, seed: see `PtActions`.
        replicas: the processes that train together.

    Attributes:
        graph: the graph of all losses and of all tensors that callbacks read.
        values: the tensors of the latest step.
        state: saves and restores checkpoints.
        may_retry: the training failed before its first step, so nothing was trained.

    Raises:
        UsageError: the arguments cannot be optimized.
        DistributedError: another process has a different model.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        tasks: Sequence[Task],
        optimization_params: Mapping[str, Any],
        callbacks: Sequence[Hooks],
        *,
        progress: Progress,
        level: Optimization,
        device: torch.device,
        seed: int,
        replicas: Replicas,
    ):
        self.plan, self.callbacks, self.progress = plan, callbacks, progress
        self.device, self.seed, self.replicas, self.world = device, seed, replicas, replicas.world
        read = [tensor for callback in callbacks for tensor in callback.tensors]
        self.graph = GraphModule([*(loss for _, losses in tasks for loss in losses), *read])
        self.graph.source = self.graph.source.for_training()
        self.graph.train()
        _prepare_kernels(self.graph, device, plan.max_steps)
        self.precision = Precision(level, device, plan.max_loss_scale, plan.min_loss_scale)
        self.precision.suggest_level()
        parameters = parameters_by_name(self.graph.neural_modules)
        replicas.distribute(self.graph)
        self.objectives = replicas.adopt(make_objectives(tasks, parameters, optimization_params))
        self.state = TrainingState(progress, self.graph, self.objectives, self.precision, replicas, device)
        self.values = StepValues(device)
        self._parameters = list(self.graph.parameters())  # cached, as the walk through a model is slow
        self.may_retry = False
        self._graphs, self._bad_steps = StepGraphs(), BadSteps()
        self._stop: StopSignals | None = None

    def run(self, action: Actions) -> None:
        """Train until the plan is done. Level 1: everything around the epochs.

        Args:
            action: passed to the callbacks.

        Raises:
            NumericError: a loss or gradient is not finite; the weights are those before that step.
            Preempted: a signal stopped the run, and a callback saved it.
        """
        first_step = self.progress.step
        own_gpu = [self.device] if self.device.type == "cuda" else []
        try:
            with ExitStack() as stack:
                # Every step seeds dropout; restore the caller's generator afterwards.
                stack.enter_context(torch.random.fork_rng(own_gpu))
                self.state.background = stack.enter_context(BackgroundWriter())
                if any(callback.saves_on_stop for callback in self.callbacks):
                    self._stop = stack.enter_context(StopSignals())
                for callback in self.callbacks:
                    callback.action = action
                self._notify(lambda callback: callback.on_restore())  # a checkpoint sets the progress
                self._notify(lambda callback: callback.on_action_start())
                try:
                    while not self._is_done:
                        self._epoch()
                except Preempted:
                    self._notify(lambda callback: callback.on_stop())
                    self.world.barrier("the others stop")
                    raise
                self._notify(lambda callback: callback.on_action_end())
        except BaseException:
            if self.progress.step == first_step and not self.replicas.is_sharded:
                self.may_retry = True
                self.graph.zero_grad(set_to_none=True)  # left by an unfinished step
            raise
        finally:
            self.state.background = self._stop = None
        self.replicas.release()

    def _epoch(self) -> None:
        """Level 2: the steps of an epoch, or of its rest after a resume."""
        progress = self.progress
        self._notify(lambda callback: callback.on_epoch_start())
        with closing(self._rest_of_epoch()) as batches:
            while inputs := self._next_inputs(batches):
                self._notify(lambda callback: callback.on_iteration_start())
                bad = self._step(inputs)
                if bad is not None:
                    self._refuse(bad)
                progress.step += 1
                progress.batch_in_epoch += inputs.num_batches
                progress.items_seen += inputs.num_items
                if bad is not None and self.plan.when_not_finite == "rewind":
                    self._rewind()
                else:
                    self._notify(lambda callback: callback.on_iteration_end())
                if self._is_done:
                    break
            else:
                if progress.batch_in_epoch == 0:
                    raise DataError("the epoch has no batches", where=self.graph.source)
                progress.epoch_num += 1  # only whole epochs count
                progress.batch_in_epoch = progress.steps_undone = 0
        self._notify(lambda callback: callback.on_epoch_end())

    def _step(self, inputs: StepInputs) -> BadStep | None:
        """Level 3: one step, from the gradients of all its micro-batches.

        Returns:
            The reason if the weights were not updated, else None.
        """
        objective, optimizer = inputs.objective, inputs.objective.optimizer
        progress, replicas, precision = self.progress, self.replicas, self.precision
        if self.plan.lr_policy is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.lr_at(group["initial_lr"], progress.step, progress.epoch_num)
        progress.learning_rate = optimizer.param_groups[0]["lr"]
        seed_dropout(self.seed, progress.step, self.world.rank, self.device)

        self.values.clear()
        batches = replicas.filled_up(inputs.batches, inputs.num_batches, self.graph, progress.epoch_num)
        # Sums are float32; a gradient from a single micro-batch may stay bf16 if the optimizer takes it.
        is_sum = self.world.size > 1 or len(batches) > 1
        keep = not is_sum and getattr(optimizer, "takes_low_gradients", False)
        with replicas.sync(optimizer) as sync, precision.matrices(self._parameters, keep) as matrices:
            for number, batch in enumerate(batches):
                self.world.now("forward and backward")
                if sync is not None and number == len(batches) - 1 and not matrices.are_low:
                    sync.enable_sync()
                seeds = DropoutSeeds(self.seed, progress.step, self.world.rank, number, device=self.device)
                with dropout_seeds(seeds):
                    self._forward_backward(inputs, batch, counts=number < len(inputs.batches))
                matrices.collect()
        self.values.sum_losses(self._graphs.graph_of(objective.losses), self.world)

        self.world.now("optimizer")
        norm = precision.gradient_norm(
            optimizer, list(objective.parameters.values()), self.plan.grad_norm_clip, replicas.sum_squares()
        )
        total = torch.stack([self.values.of(loss) for loss in objective.losses]).sum()
        progress.grad_norm, loss = torch.stack([norm, total]).tolist()  # one synchronization with a GPU
        bad = None if precision.may_overflow else find_bad_step(inputs, loss, progress)
        if bad is None:
            precision.step(optimizer)
        else:
            precision.skip()
        for parameter in self._parameters:  # including those of other objectives
            parameter.grad = None
        self.world.now("callbacks and data")
        return bad

    def _forward_backward(self, inputs: StepInputs, batch: Sequence[Any], counts: bool) -> None:
        """Add the gradients of one micro-batch and its share of every loss; zeros unless it `counts`."""
        graph, losses = inputs.graph, inputs.objective.losses
        rows = graph.plan_rows(batch, buckets=self.precision.buckets).to(self.device)
        with self.precision.autocast():
            on_device = to_device(batch, self.device)
            values = self.replicas.run(lambda: graph(on_device, inputs.divisors, row_plan=rows))
            loss = sum(values[tensor] for tensor in losses)
        if loss.ndim > 0 or not loss.requires_grad:
            raise UsageError(
                "cannot be optimized",
                where=", ".join(f"{tensor.producer}.{tensor.name}" for tensor in losses),
                found=f"a value of shape {tuple(loss.shape)}"
                if loss.ndim
                else "a value that depends on no trainable weight",
                expected="the output of a loss that depends on a trainable module",
            )
        self.precision.scaler.scale(loss if counts else 0 * loss).backward()
        if counts:
            self.values.add(values)

    @property
    def _is_done(self) -> bool:
        return self.plan.is_done(self.progress.step, self.progress.epoch_num)

    def _rest_of_epoch(self) -> Generator[Sequence[Any], None, None]:
        """This process's remaining micro-batches of the epoch: every `world.size`th."""
        first = self.progress.batch_in_epoch + self.world.rank
        return self.graph.source.batches(self.progress.epoch_num, first, self.world.size)

    def _next_inputs(self, epoch: Iterator[Sequence[Any]]) -> StepInputs | None:
        """The next `batches_per_step` micro-batches of each process, or fewer at the end of an epoch.

        Returns:
            None if no process has a micro-batch left.

        Raises:
            Preempted: one of the processes received a signal to stop.
        """
        batches = list(islice(epoch, self.plan.batches_per_step))
        objective = self.objectives[self.progress.step % len(self.objectives)]  # they take turns
        graph = self._graphs.graph_for(objective, self.callbacks, self.progress.step + 1)
        counts = [graph.counts(batch) for batch in batches] or [torch.zeros(len(graph.losses))]
        items = sum(graph.source.items_in(batch) for batch in batches)
        is_stopped = self._stop is not None and self._stop.received is not None
        mine = torch.cat(
            [torch.tensor([is_stopped, len(batches), items]), torch.stack(counts).sum(0)]
        ).double()
        num_asked, num_batches, num_items, *divisors = self.world.all_reduce(mine, "batch counts").tolist()
        if num_asked:
            raise self._preempted()
        if num_batches == 0:
            return None
        on_device = torch.tensor(divisors, dtype=torch.float32).to(self.device)
        return StepInputs(objective, graph, batches, on_device, int(num_batches), int(num_items))

    def _refuse(self, bad: BadStep) -> None:
        """Report a step that was not taken; raise its error unless training may go on."""
        self._notify(lambda callback: callback.on_bad_step(bad))
        self._bad_steps.refuse(bad, self.plan.when_not_finite)

    def _rewind(self) -> None:
        """Restore the newest checkpoint, but continue with the next batches."""
        progress = self.progress
        place, steps = (progress.epoch_num, progress.batch_in_epoch), progress.step + progress.steps_undone
        self._notify(lambda callback: callback.on_restore())
        progress.epoch_num, progress.batch_in_epoch = place
        progress.steps_undone = steps - progress.step

    def _preempted(self) -> Preempted:
        by = self._stop.received if self._stop is not None and self._stop.received else "another process"
        step = self.progress.step
        logging.info(
            "stopped by %s after step %d: saving, then exiting with code %d; a second signal exits at once",
            by,
            step,
            Preempted.exit_code,
        )
        problem = Preempted(
            f"stopped by {by} after step {step}, and saved", fix="run the same command again to resume"
        )
        problem.is_of_all = True
        return problem

    def _notify(self, call: Callable[[Hooks], None]) -> None:
        for callback in self.callbacks:
            call(callback)


def _prepare_kernels(graph: GraphModule, device: torch.device, steps: int | None) -> None:
    """Build or compile kernels if a training of this many steps (None: unknown) is long enough."""
    if device.type == "cpu" and (steps is None or steps >= STEPS_WORTH_A_BUILD):
        native.build()
    if device.type == "cuda" and (steps is None or steps >= STEPS_WORTH_COMPILING):
        for module in graph.neural_modules.values():
            for region in getattr(module, "regions", ()):
                region.compile(dynamic=False)
