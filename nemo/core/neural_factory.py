"""The front door: settings in, actions out."""

import importlib
import os
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo.core.actions import BackendActions
from nemo.core.callbacks import ActionCallback, EvaluatorCallback
from nemo.core.graph import NmTensor
from nemo.core.neural_modules import NeuralModule
from nemo.core.plan import LrPolicy
from nemo.core.settings import Backend, DeploymentFormat, DeviceType, Optimization
from nemo.utils.collections import registered_collections
from nemo.utils.decorators import deprecated
from nemo.utils.errors import DistributedError, UsageError
from nemo.utils.experiment import ExperimentFolder
from nemo.utils.logging import Logger, logging
from nemo.utils.lookup import choose


class NeuralModuleFactory:
    """Holds where and how graphs run, and runs them.

    Args:
        backend: only Backend.PyTorch.
        local_rank: rank on this machine, where several processes train together; None takes the launcher's,
            if there is one.
        optimization_level: see Optimization; a member or "O0".."O3".
        placement: a DeviceType; None takes a GPU where there is one, else the CPU.
        cudnn_benchmark: let cuDNN try its algorithms; not reproducible.
        random_seed: seeds torch, numpy and random, so that initial weights are reproducible.
        set_default: be what `get_default_factory` answers.
        log_dir: the work folder; None writes nothing.
        checkpoint_dir: None means `<log_dir>/checkpoints`.
        tensorboard_dir: None means `<log_dir>/tensorboard`.
        create_tb_writer: write TensorBoard events (needs log_dir or tensorboard_dir).
        files_to_copy: kept in log_dir, to know later what was run.
        add_time_to_log_dir: a sub-folder named by the time for every run.
        gradient_dtype: "bfloat16" halves what several processes send each other; None sends what there is.
        shard: `train` shares weights, gradients and the optimizer's state out among the processes, for models
            too large for one device. With one process nothing changes.

    Attributes:
        device: the torch.device of this process.
        placement: the DeviceType it is.
        tb_writer: the TensorBoard writer, if there is one.
        world: the processes that train together, see `nemo.backends.pytorch.distributed.world`.
        world_size, global_rank: 1 and 0 when there is one process.

    Raises:
        UsageError: settings that contradict each other.
        DistributedError: other processes do not come.
        NotImplementedError: another backend.
    """

    _default: "NeuralModuleFactory | None" = None

    def __init__(
        self,
        backend: Backend = Backend.PyTorch,
        local_rank: int | None = None,
        optimization_level: Optimization | str = Optimization.mxprO0,
        placement: DeviceType | None = None,
        cudnn_benchmark: bool = False,
        random_seed: int | None = None,
        set_default: bool = True,
        log_dir: str | Path | None = None,
        checkpoint_dir: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
        create_tb_writer: bool = False,
        files_to_copy: Iterable[str | Path | None] | None = None,
        add_time_to_log_dir: bool = False,
        gradient_dtype: str | None = None,
        shard: bool = False,
    ):
        if backend is not Backend.PyTorch:
            raise NotImplementedError("only Backend.PyTorch is supported")
        if random_seed is not None and cudnn_benchmark:
            raise UsageError(
                "cudnn_benchmark makes runs irreproducible, which contradicts random_seed",
                fix="leave one of the two out",
            )
        if create_tb_writer and log_dir is None and tensorboard_dir is None:
            raise UsageError("create_tb_writer needs log_dir or tensorboard_dir")
        self._backend = importlib.import_module("nemo.backends.pytorch")
        self.backend = backend
        if local_rank is None and "LOCAL_RANK" in os.environ:
            local_rank = int(os.environ["LOCAL_RANK"])
        self.local_rank = local_rank
        self.optim_level = Optimization.parse(optimization_level)
        self.device = self._backend.place(placement, local_rank)
        self.placement = placement or _placement_of(self.device, local_rank)
        self.world = self._backend.join(self.device)
        self.world_size, self.global_rank = self.world.size, self.world.rank
        self._gradient_dtype = gradient_dtype
        self._shard = shard
        self.random_seed = random_seed
        if random_seed is not None:
            self._backend.seed_everything(random_seed)
            random.seed(random_seed)
        self._backend.set_cudnn_benchmark(cudnn_benchmark)

        self.experiment: ExperimentFolder | None = None
        if log_dir is not None:
            self.experiment = ExperimentFolder(
                log_dir,
                files_to_copy=files_to_copy or (),
                add_time=add_time_to_log_dir,
                timestamp=self.world.broadcast_object(lambda: time.strftime("%Y-%m-%d_%H-%M-%S")),
            )
        self._checkpoint_dir = None if checkpoint_dir is None else str(checkpoint_dir)
        if self._checkpoint_dir is not None:
            os.makedirs(self._checkpoint_dir, exist_ok=True)
        if tensorboard_dir is None and self.experiment is not None:
            tensorboard_dir = self.experiment.tensorboard_dir
        self.tb_writer: Any = None
        if create_tb_writer and self.global_rank == 0:
            self.tb_writer = self._backend.make_tb_writer(tensorboard_dir)
        self._trainer: BackendActions | None = None
        if set_default:
            NeuralModuleFactory._default = self

    @classmethod
    def get_default_factory(cls) -> "NeuralModuleFactory":
        """The factory made last; one with default settings where there is none."""
        return cls._default or cls()

    @classmethod
    def set_default_factory(cls, factory: "NeuralModuleFactory") -> None:
        """Make `factory` the default."""
        cls._default = factory

    @classmethod
    def reset_default_factory(cls) -> None:
        """Forget the default."""
        cls._default = None

    @property
    def work_dir(self) -> str | None:
        """The folder of this run."""
        return None if self.experiment is None else str(self.experiment.work_dir)

    @property
    def checkpoint_dir(self) -> str | None:
        """Where checkpoints go."""
        if self._checkpoint_dir is None and self.experiment is not None:
            return str(self.experiment.checkpoint_dir)
        return self._checkpoint_dir

    @property
    @deprecated(explanation="use nemo.logging instead")
    def logger(self) -> Logger:
        """The logger that `nemo.logging` is."""
        return logging

    def train(
        self,
        tensors_to_optimize: NmTensor | Sequence[NmTensor] | Sequence[tuple[Any, Sequence[NmTensor]]],
        optimizer: Any = None,
        optimization_params: Mapping[str, Any] | None = None,
        callbacks: Iterable[ActionCallback] | None = None,
        lr_policy: LrPolicy | None = None,
        batches_per_step: int | None = None,
        stop_on_nan_loss: bool = True,
        steps_per_nan_check: int = 100,
        synced_batchnorm: bool = False,
        synced_batchnorm_groupsize: int = 0,
        gradient_predivide: bool = False,
        amp_max_loss_scale: float = 2.0**24,
        reset: bool = False,
        when_not_finite: str | None = None,
    ) -> None:
        """Make the sum of the losses small.

        Args:
            tensors_to_optimize: a loss or losses; or pairs of an optimizer, see `create_optimizer`, and its
                losses, of which every step takes the next.
            optimizer: a name, see `nemo.backends.pytorch.optim.optimizers`; or a torch optimizer, which keeps
                its own learning rate and options.
            optimization_params: `lr`, and `num_epochs` or `max_steps`; more in `nemo.core.plan`.
            callbacks: called in this order at every step.
            lr_policy: see `nemo.utils.lr_policies`.
            batches_per_step: batches whose gradients make one step.
            stop_on_nan_loss: False is short for `when_not_finite="skip"`.
            steps_per_nan_check: kept for NeMo 0.10's sake; every step is checked.
            synced_batchnorm, synced_batchnorm_groupsize: kept for NeMo 0.10's sake; refused where several
                processes train, as BERT has no batch norm to synchronize. With one there is nothing to do.
            gradient_predivide: kept for NeMo 0.10's sake; has no effect, as it had none there.
            amp_max_loss_scale: upper bound of the loss scale, where there is one (fp16).
            reset: train from step 0 again with this factory.
            when_not_finite: what follows a loss or gradient that is not finite, whose step is never made:
                "stop" (default) raises; "skip" continues with the next batches; "rewind" does so from the
                weights and the step of the newest checkpoint. The last two do so three times in a row at
                most.

        Raises:
            UsageError: invalid options; a second `train` without `reset`.
            NumericError: a loss or gradient that is not finite.
            Preempted: a signal asked it to stop, and a CheckpointCallback saved it.
        """
        if synced_batchnorm and self.world_size > 1:
            raise UsageError(
                "batch norms are not synchronized between processes",
                where="synced_batchnorm",
                found=f"True with {self.world_size} processes",
                fix="leave it out; to synchronize them, build the module with torch.nn.SyncBatchNorm",
            )
        if reset:
            self.reset_trainer()
        try:
            self.get_trainer().train(
                tensors_to_optimize,
                optimizer,
                optimization_params,
                callbacks,
                lr_policy,
                batches_per_step,
                when_not_finite or ("stop" if stop_on_nan_loss else "skip"),
                amp_max_loss_scale,
            )
        finally:
            self._flush()

    def eval(self, callbacks: Sequence[EvaluatorCallback]) -> None:
        """Run evaluators once.

        Raises:
            UsageError: no callbacks.
            TypeError: a callback that is not an EvaluatorCallback.
        """
        if not callbacks:
            raise UsageError("eval needs at least one EvaluatorCallback")
        for callback in callbacks:
            if not isinstance(callback, EvaluatorCallback):
                raise TypeError(f"eval takes EvaluatorCallbacks; found {type(callback).__name__}")
        for callback in callbacks:
            callback.action = self.get_trainer()
            callback.on_action_end()
        self._flush()

    def infer(
        self,
        tensors: NmTensor | Sequence[NmTensor],
        checkpoint_dir: str | Path | None = None,
        ckpt_pattern: str = "",
        verbose: bool = True,
        cache: bool = False,
        use_cache: bool = False,
        offload_to_cpu: bool = True,
        modules_to_restore: Collection[NeuralModule] | None = None,
    ) -> list[list[Any]]:
        """For each tensor the list of its values, batch by batch.

        Args:
            tensors: what to compute.
            checkpoint_dir: take weights from the newest checkpoint there.
            ckpt_pattern: the newest with this in its name, such as "STEP-500".
            verbose: log every batch.
            cache: keep the values of all tensors that are computed on the way.
            use_cache: compute only what is not kept.
            offload_to_cpu: move values to the CPU.
            modules_to_restore: take weights for these modules only.

        Raises:
            UsageError: `cache` and `use_cache` at once, or with a cache that is full or empty.
            CheckpointError: there is no checkpoint, or it does not fit.
        """
        return self.get_trainer().infer(
            tensors,
            checkpoint_dir=checkpoint_dir,
            ckpt_pattern=ckpt_pattern,
            verbose=verbose,
            cache=cache,
            use_cache=use_cache,
            offload_to_cpu=offload_to_cpu,
            modules_to_restore=modules_to_restore,
        )

    def clear_cache(self) -> None:
        """Forget what `infer(cache=True)` kept."""
        self.get_trainer().clear_cache()

    def create_optimizer(
        self, optimizer: Any, things_to_optimize: Any, optimizer_params: Mapping[str, Any]
    ) -> Any:
        """An optimizer for some modules, to be given to `train` in a pair with the losses it works on.

        Args:
            optimizer: a name, see `nemo.backends.pytorch.optim.optimizers`.
            things_to_optimize: a module, modules, or tensors, which stand for all modules they come from.
            optimizer_params: `lr` and more, see `nemo.core.plan`.
        """
        return self.get_trainer().create_optimizer(optimizer, things_to_optimize, optimizer_params)

    def reset_trainer(self) -> None:
        """Forget the training done so far, its optimizers and caches; weights stay as they are."""
        self._trainer = None

    def get_trainer(self) -> BackendActions:
        """What trains, evaluates and infers for this factory: a `PtActions`."""
        if self._trainer is None:
            self._trainer = self._backend.PtActions(
                local_rank=self.local_rank,
                global_rank=self.global_rank,
                tb_writer=self.tb_writer,
                optimization_level=self.optim_level,
                device=self.device,
                seed=self.random_seed or 0,
                world=self.world,
                gradient_dtype=self._gradient_dtype,
                shard=self._shard,
            )
        return self._trainer

    def deployment_export(
        self,
        module: NeuralModule,
        output: str | Path,
        d_format: DeploymentFormat = DeploymentFormat.AUTO,
        input_example: Any = None,
        output_example: Any = None,
    ) -> None:
        """Write a module for other programs; the module itself stays as it is.

        Args:
            output: a file that is not there yet.
            d_format: AUTO goes by the file's suffix, see `nemo.backends.pytorch.export.deployment`.
            input_example: a tensor, or tensors in the order of the input ports; not needed for weights
                (PYTORCH), nor for TORCHSCRIPT that is compiled from source.
            output_example: kept for NeMo 0.10's sake; outputs are computed.

        Raises:
            FileExistsError: there is a file already.
            UsageError: the format cannot hold this module, or needs an example.
        """
        deployment = importlib.import_module("nemo.backends.pytorch.export.deployment")
        deployment.export_module(module, output, d_format, input_example, output_example)

    def sync_all_processes(self, status: bool = True) -> None:
        """Wait for the other processes; with one process there is nothing to wait for.

        Raises:
            DistributedError: `status` is False in one of them.
        """
        failed = self._backend.num_failed(self.world, status)
        if failed:
            raise DistributedError(
                "some processes failed", where="sync_all_processes", found=f"{failed} failed"
            )

    @deprecated(explanation="create the module by calling its class")
    def get_module(
        self, name: str, collection: str, params: Mapping[str, Any], pretrained: bool = False
    ) -> NeuralModule:
        """The module that a class of that name makes of `params`.

        Args:
            collection: a name that a collection registered when it was imported; "toys" has the tutorial's
                modules.
            pretrained: kept for NeMo 0.10's sake; BERT takes a `pretrained_model_name`.

        Raises:
            UsageError: there is no such collection, or no such module in it.
        """
        classes = {
            name: value
            for address in choose(registered_collections(), collection, what="collection")
            for name, value in vars(importlib.import_module(address)).items()
            if isinstance(value, type) and issubclass(value, NeuralModule)
        }
        return choose(classes, name, what="module")(**params)

    def close(self) -> None:
        """Write no longer to `log_dir`: neither its log nor TensorBoard events."""
        if self.tb_writer is not None:
            self.tb_writer.close()
        if self.experiment is not None:
            self.experiment.close()

    def _flush(self) -> None:
        """Leave no TensorBoard event behind in memory."""
        if self.tb_writer is not None:
            self.tb_writer.flush()


def _placement_of(device: Any, local_rank: int | None) -> DeviceType:
    if device.type == "cpu":
        return DeviceType.CPU
    return DeviceType.GPU if local_rank is None else DeviceType.AllGpu
