"""`NeuralModuleFactory`: the entry point that holds the settings of a run and runs its actions."""

import importlib
import os
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo.core.actions import BackendActions, BackendPackage, NmTensors
from nemo.core.callbacks import ActionCallback, EvaluatorCallback
from nemo.core.graph import NmTensor
from nemo.core.neural_modules import NeuralModule
from nemo.core.plan import LrPolicy
from nemo.core.settings import Backend, DeploymentFormat, DeviceType, Optimization
from nemo.utils.collections import registered_collections
from nemo.utils.decorators import deprecated
from nemo.utils.errors import DistributedError, UsageError
from nemo.utils.logging import Logger, logging
from nemo.utils.lookup import choose
from nemo.utils.work_folder import WorkFolder


class NeuralModuleFactory:
    """Holds the settings that graphs run with, and trains, evaluates and infers.

    Args:
        backend: only Backend.PyTorch.
        local_rank: rank on this machine, for training with several processes; None takes the launcher's, if
            any.
        optimization_level: an `Optimization`, or "O0" to "O3".
        placement: a DeviceType; None takes a GPU if there is one, else the CPU.
        cudnn_benchmark: let cuDNN choose its algorithms by benchmark; not reproducible.
        random_seed: seeds torch, numpy and random, which makes initial weights reproducible.
        set_default: make this the default factory.
        log_dir: the work folder; None writes no files.
        checkpoint_dir: None means `<log_dir>/checkpoints`.
        tensorboard_dir: None means `<log_dir>/tensorboard`.
        create_tb_writer: write TensorBoard events (needs log_dir or tensorboard_dir).
        files_to_copy: files to copy to log_dir, as a record of what was run.
        add_time_to_log_dir: put each run in a subfolder named after its start time.
        gradient_dtype: "bfloat16" halves the gradient traffic between processes; None sends gradients in
            their own dtype.
        shard: `train` shards weights, gradients and optimizer state across the processes, for models too
            large for one device. No effect with a single process.

    Attributes:
        device: the torch.device of this process.
        placement: its DeviceType.
        tb_writer: the TensorBoard writer, or None.
        world: the processes that train together; see `nemo.backends.pytorch.distributed.world`.
        world_size, global_rank: 1 and 0 in a single process.

    Raises:
        UsageError: settings that contradict each other.
        DistributedError: other processes do not join.
        NotImplementedError: a backend other than PyTorch.
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
        # Long because the signature is NeMo 0.10's.
        if backend is not Backend.PyTorch:
            raise NotImplementedError("only Backend.PyTorch is supported")
        if random_seed is not None and cudnn_benchmark:
            raise UsageError(
                "cudnn_benchmark makes runs irreproducible, which contradicts random_seed",
                fix="drop one of the two",
            )
        if create_tb_writer and log_dir is None and tensorboard_dir is None:
            raise UsageError("create_tb_writer needs log_dir or tensorboard_dir")
        self._backend: BackendPackage = importlib.import_module("nemo.backends.pytorch")
        self.backend = backend
        if local_rank is None and "LOCAL_RANK" in os.environ:
            local_rank = int(os.environ["LOCAL_RANK"])
        self.local_rank = local_rank
        self.optim_level = Optimization.parse(optimization_level)
        self.device = self._backend.device_for(placement, local_rank)
        self.placement = placement or _placement_of(self.device, local_rank)
        self.world = self._backend.join(self.device)
        self.world_size, self.global_rank = self.world.size, self.world.rank
        self._gradient_dtype = gradient_dtype
        self._shard = shard
        self.random_seed = random_seed
        if random_seed is not None:
            self._backend.seed_everything(random_seed)
            random.seed(random_seed)
        self._backend.set_kernel_benchmark(cudnn_benchmark)

        self.work_folder: WorkFolder | None = None
        if log_dir is not None:
            self.work_folder = WorkFolder(
                log_dir,
                files_to_copy=files_to_copy or (),
                add_time=add_time_to_log_dir,
                timestamp=self.world.broadcast_object(lambda: time.strftime("%Y-%m-%d_%H-%M-%S")),
            )
        self._checkpoint_dir = None if checkpoint_dir is None else str(checkpoint_dir)
        if self._checkpoint_dir is not None:
            os.makedirs(self._checkpoint_dir, exist_ok=True)
        if tensorboard_dir is None and self.work_folder is not None:
            tensorboard_dir = self.work_folder.tensorboard_dir
        self.tb_writer: Any = None
        if create_tb_writer and self.global_rank == 0:
            self.tb_writer = self._backend.make_tb_writer(tensorboard_dir)
        self._trainer: BackendActions | None = None
        if set_default:
            NeuralModuleFactory._default = self

    @classmethod
    def get_default_factory(cls) -> "NeuralModuleFactory":
        """The latest factory, or a new one with default settings."""
        return cls._default or cls()

    @classmethod
    def set_default_factory(cls, factory: "NeuralModuleFactory") -> None:
        """Make `factory` the default; NeMo 0.10's address, for programs with several factories."""
        cls._default = factory

    @classmethod
    def reset_default_factory(cls) -> None:
        """Forget the default; NeMo 0.10's address, for programs with several factories."""
        cls._default = None

    @property
    def work_dir(self) -> str | None:
        """The folder of this run."""
        return None if self.work_folder is None else str(self.work_folder.work_dir)

    @property
    def checkpoint_dir(self) -> str | None:
        """Where checkpoints go."""
        if self._checkpoint_dir is None and self.work_folder is not None:
            return str(self.work_folder.checkpoint_dir)
        return self._checkpoint_dir

    @property
    @deprecated(explanation="use nemo.logging instead")
    def logger(self) -> Logger:
        """The same as `nemo.logging`."""
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
        """Minimize the sum of the losses.

        Args:
            tensors_to_optimize: one loss or several; or pairs (optimizer, losses) that take turns, one pair
                per step (see `create_optimizer`).
            optimizer: a name from `nemo.backends.pytorch.optim.optimizers`, or a torch optimizer, which keeps
                its own learning rate and options.
            optimization_params: `lr`, and `num_epochs` or `max_steps`; for the others see `nemo.core.plan`.
            callbacks: called in this order at each step.
            lr_policy: see `nemo.utils.lr_policies`.
            batches_per_step: number of micro-batches per step (gradient accumulation).
            stop_on_nan_loss: False means `when_not_finite="skip"`.
            steps_per_nan_check: for compatibility with NeMo 0.10; every step is checked.
            synced_batchnorm, synced_batchnorm_groupsize: for compatibility with NeMo 0.10; refused with
                several processes. No effect with one process.
            gradient_predivide: for compatibility with NeMo 0.10; no effect, as there.
            amp_max_loss_scale: upper bound of the loss scale (fp16 only).
            reset: start again from step 0 with this factory.
            when_not_finite: what to do when a loss or gradient is not finite. Its step is never taken.
                "stop" (default) raises; "skip" continues with the next batches; "rewind" continues with them
                from the weights and step of the newest checkpoint. Both act at most three times in a row.

        Raises:
            UsageError: invalid options; a second `train` without `reset`.
            NumericError: a loss or gradient that is not finite.
            Preempted: a signal stopped the run, and a CheckpointCallback saved it.
        """
        # Long because the signature, and so the docstring, is NeMo 0.10's.
        if synced_batchnorm and self.world_size > 1:
            raise UsageError(
                "batch norms are not synchronized between processes",
                where="synced_batchnorm",
                found=f"True with {self.world_size} processes",
                fix="omit it; to synchronize them, build the module with torch.nn.SyncBatchNorm",
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
        """Run each evaluator once.

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
        tensors: NmTensors,
        checkpoint_dir: str | Path | None = None,
        ckpt_pattern: str = "",
        verbose: bool = True,
        cache: bool = False,
        use_cache: bool = False,
        offload_to_cpu: bool = True,
        modules_to_restore: Collection[NeuralModule] | None = None,
    ) -> list[list[Any]]:
        """Compute `tensors` on all batches.

        Args:
            tensors: one tensor or several.
            checkpoint_dir: load the weights from the newest checkpoint in this folder.
            ckpt_pattern: load the newest checkpoint with this text in its name, such as "STEP-500".
            verbose: log each batch.
            cache: keep the values of all tensors that are computed, intermediate ones included.
            use_cache: compute only values that are not in the cache.
            offload_to_cpu: move values to the CPU.
            modules_to_restore: load weights for these modules only.

        Returns:
            For each tensor, the list of its values, one per batch.

        Raises:
            UsageError: both `cache` and `use_cache`; `cache` with a filled cache, or `use_cache` with an
                empty one.
            CheckpointError: there is no checkpoint, or it does not match.
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
        """Empty the cache of `infer(cache=True)`."""
        self.get_trainer().clear_cache()

    def create_optimizer(
        self, optimizer: Any, things_to_optimize: Any, optimizer_params: Mapping[str, Any]
    ) -> Any:
        """An optimizer for some modules; pass it to `train` in a pair with its losses.

        Args:
            optimizer: a name from `nemo.backends.pytorch.optim.optimizers`.
            things_to_optimize: one module or several; or tensors, which mean all modules that compute them.
            optimizer_params: `lr` and others; see `nemo.core.plan`.
        """
        return self.get_trainer().create_optimizer(optimizer, things_to_optimize, optimizer_params)

    def reset_trainer(self) -> None:
        """Discard steps, optimizers and caches; keep the weights."""
        self._trainer = None

    def get_trainer(self) -> BackendActions:
        """The backend's actions, which train, evaluate and infer for this factory."""
        if self._trainer is None:
            self._trainer = self._backend.make_actions(
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
        """Export a module for other programs; the module itself does not change.

        Args:
            output: a new file.
            d_format: AUTO chooses by the file's suffix; see `nemo.backends.pytorch.export.deployment`.
            input_example: one tensor, or several in the order of the input ports; not needed for weights
                (PYTORCH) or for TORCHSCRIPT compiled from source.
            output_example: for compatibility with NeMo 0.10; outputs are computed.

        Raises:
            FileExistsError: the file already exists.
            UsageError: the format cannot hold this module, or needs an example.
        """
        deployment = importlib.import_module("nemo.backends.pytorch.export.deployment")
        deployment.export_module(module, output, d_format, input_example, output_example)

    def sync_all_processes(self, status: bool = True) -> None:
        """Wait for the other processes, if any.

        Raises:
            DistributedError: `status` is False in at least one process.
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
        """A new module of the class `name`, created with `params`.

        Args:
            collection: the name that a collection registers when it is imported.
            pretrained: for compatibility with NeMo 0.10; no effect.

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
        """Close the log in `log_dir` and the TensorBoard writer."""
        if self.tb_writer is not None:
            self.tb_writer.close()
        if self.work_folder is not None:
            self.work_folder.close()

    def _flush(self) -> None:
        """Write all pending TensorBoard events."""
        if self.tb_writer is not None:
            self.tb_writer.flush()


def _placement_of(device: Any, local_rank: int | None) -> DeviceType:
    if device.type == "cpu":
        return DeviceType.CPU
    return DeviceType.GPU if local_rank is None else DeviceType.AllGpu
