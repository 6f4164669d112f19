"""The front door: settings in, actions out."""

import importlib
import os
import random
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from nemo.core.callbacks import ActionCallback, EvaluatorCallback
from nemo.core.graph import NmTensor
from nemo.core.plan import LrPolicy, TrainingPlan
from nemo.utils.errors import UsageError
from nemo.utils.experiment import ExperimentFolder


class Backend(Enum):
    """The engine that runs graphs."""

    PyTorch = 1
    NotSupported = 2


class DeviceType(Enum):
    """Where modules live. AllGpu is one GPU per process."""

    GPU = 1
    CPU = 2
    AllGpu = 3


class DeploymentFormat(Enum):
    """What a module can be exported to."""

    AUTO = 0
    PYTORCH = 1
    TORCHSCRIPT = 2
    ONNX = 3
    TRTONNX = 4


class ModelMode(Enum):
    """Whether dropout is on."""

    train = 0
    eval = 1


class Optimization(Enum):
    """Type of the matrix products: O0 fp32, O1 bf16 on fp32 weights, O2 bf16 weights too."""

    mxprO0 = 0
    mxprO1 = 1
    mxprO2 = 2
    mxprO3 = 3

    @classmethod
    def parse(cls, level: "Optimization | str") -> "Optimization":
        """`Optimization.mxprO1` and "O1" are the same.

        Raises:
            UsageError: no such level.
        """
        if isinstance(level, cls):
            return level
        known = {f"O{member.value}": member for member in cls}
        if level not in known:
            raise UsageError("unknown optimization level", found=repr(level), expected=", ".join(known))
        return known[level]


class NeuralModuleFactory:
    """Holds where and how graphs run, and runs them.

    Args:
        backend: only Backend.PyTorch.
        local_rank: rank on this machine, where several processes train together.
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

    Raises:
        UsageError: settings that contradict each other.
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
    ):
        if backend is not Backend.PyTorch:
            raise NotImplementedError("only Backend.PyTorch is there")
        if random_seed is not None and cudnn_benchmark:
            raise UsageError(
                "cudnn_benchmark is not reproducible, so random_seed cannot be kept",
                fix="leave one of the two out",
            )
        if create_tb_writer and log_dir is None and tensorboard_dir is None:
            raise UsageError("create_tb_writer needs log_dir or tensorboard_dir")
        self._backend = importlib.import_module("nemo.backends.pytorch")
        self.backend = backend
        self.local_rank = local_rank
        self.optim_level = Optimization.parse(optimization_level)
        self.placement = self._backend.place(placement, local_rank)
        self.world_size = int(os.environ.get("WORLD_SIZE", "1")) if local_rank is not None else 1
        self.global_rank = int(os.environ.get("RANK", "0")) if local_rank is not None else 0
        if self.world_size > 1:
            raise UsageError(
                "several processes are not available yet",
                where="WORLD_SIZE",
                found=self.world_size,
                expected=1,
            )
        self.random_seed = random_seed
        if random_seed is not None:
            self._backend.seed_everything(random_seed)
            random.seed(random_seed)
        self._backend.set_cudnn_benchmark(cudnn_benchmark)

        self.experiment: ExperimentFolder | None = None
        if log_dir is not None:
            self.experiment = ExperimentFolder(
                log_dir, files_to_copy=files_to_copy or (), add_time=add_time_to_log_dir
            )
        self._checkpoint_dir = None if checkpoint_dir is None else str(checkpoint_dir)
        if self._checkpoint_dir is not None:
            os.makedirs(self._checkpoint_dir, exist_ok=True)
        if tensorboard_dir is None and self.experiment is not None:
            tensorboard_dir = self.experiment.tensorboard_dir
        self.tb_writer: Any = None
        if create_tb_writer and self.global_rank == 0:
            self.tb_writer = self._backend.make_tb_writer(tensorboard_dir)
        self._trainer: Any = None
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

    def train(
        self,
        tensors_to_optimize: Sequence[NmTensor],
        optimizer: str | None = None,
        optimization_params: dict[str, Any] | None = None,
        callbacks: Sequence[ActionCallback] | None = None,
        lr_policy: LrPolicy | None = None,
        batches_per_step: int | None = None,
        stop_on_nan_loss: bool = True,
        reset: bool = False,
    ) -> None:
        """Make the sum of the losses small.

        Args:
            tensors_to_optimize: losses.
            optimizer: a name, see `nemo.backends.pytorch.optimizers`.
            optimization_params: `lr`, and `num_epochs` or `max_steps`; more in `nemo.core.plan`.
            callbacks: told of every step in this order.
            lr_policy: see `nemo.utils.lr_policies`.
            batches_per_step: batches whose gradients make one update.
            stop_on_nan_loss: kept for 0.10's sake: a loss that is not finite always stops training, before
                the update.
            reset: train from step 0 again with this factory.

        Raises:
            UsageError: options that cannot be; a second `train` without `reset`.
        """
        if optimizer is None:
            raise UsageError("train needs an optimizer", expected="a name such as 'adam_w'")
        plan = TrainingPlan.from_params(
            optimizer,
            optimization_params or {},
            lr_policy=lr_policy,
            batches_per_step=batches_per_step or 1,
            seed=self.random_seed or 0,
        )
        if reset:
            self.reset_trainer()
        if self._trainer is not None:
            raise UsageError("this factory has trained already", fix="pass reset=True to start anew")
        self._trainer = self._make_actions()
        self._trainer.train(tensors_to_optimize, plan, callbacks or ())

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
        actions = self._trainer or self._make_actions()
        for callback in callbacks:
            callback.action = actions
            callback.on_action_end()

    def infer(self, tensors: Sequence[NmTensor], checkpoint_dir: str | Path | None = None) -> list[list[Any]]:
        """For each tensor the list of its values, batch by batch.

        Args:
            tensors: what to compute.
            checkpoint_dir: take weights from the newest checkpoint there.
        """
        return self._make_actions().infer(tensors, checkpoint_dir)

    def reset_trainer(self) -> None:
        """Forget the training done so far; weights stay as they are."""
        self._trainer = None

    def get_trainer(self) -> Any:
        """The actions of the run that is going on, or a new one."""
        return self._trainer or self._make_actions()

    def _make_actions(self) -> Any:
        return self._backend.PtActions(
            device=self.placement,
            optimization_level=self.optim_level,
            local_rank=self.local_rank,
            global_rank=self.global_rank,
            tb_writer=self.tb_writer,
        )
