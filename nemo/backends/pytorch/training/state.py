"""The training state in a checkpoint: saved during training, restored bit for bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.background_writer import BackgroundWriter
from nemo.backends.pytorch.checkpoints.fit import refuse_other_run
from nemo.backends.pytorch.checkpoints.module_state import load_weights_by_module, weights_by_module
from nemo.backends.pytorch.environment import fingerprint
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.optim.optimizers import load_optimizer_state, optimizer_state
from nemo.backends.pytorch.training.objectives import Objective
from nemo.backends.pytorch.training.precision import Precision
from nemo.backends.pytorch.training.progress import Progress
from nemo.backends.pytorch.training.replicas import Replicas
from nemo.utils.errors import CheckpointError
from nemo.utils.logging import logging


class TrainingState:
    """Weights, optimizers, loss scale and progress of one training.

    Attributes:
        background: writes checkpoints during training; None outside of it.
    """

    def __init__(
        self,
        progress: Progress,
        graph: GraphModule,
        objectives: Sequence[Objective],
        precision: Precision,
        replicas: Replicas,
        device: torch.device,
    ):
        self.progress, self.graph, self.precision, self.replicas = progress, graph, precision, replicas
        # Named as in a checkpoint: optimizer, optimizer_2, ...
        names = ["optimizer", *(f"optimizer_{i}" for i in range(2, len(objectives) + 1))]
        self.objectives = dict(zip(names, objectives, strict=True))
        self.device = device
        self.background: BackgroundWriter | None = None

    def save(
        self,
        folder: Path,
        keep: int,
        extra_files: Mapping[str, Any],
        extra_state: Mapping[str, Any],
        wait: bool,
        spared: int | None,
    ) -> None:
        """Write `folder/STEP-<n>`, in the background unless `wait`; see `Actions.save`."""
        if not self.replicas.is_sharded:
            self.replicas.refuse_if_sharding("save")  # after training, the optimizer's state is lost
        self.replicas.world.now("saving")
        tensors = self.replicas.gathered(
            {
                **weights_by_module(self.graph.neural_modules),
                **{
                    name: optimizer_state(objective.optimizer, objective.parameters)
                    for name, objective in self.objectives.items()
                },
            }
        )
        if self.replicas.is_sharded and self.replicas.world.rank != 0:
            return
        progress = self.progress
        step = progress.step
        state = {
            "step": step,
            "epoch": progress.epoch_num,
            "batch_in_epoch": progress.batch_in_epoch,
            "steps_undone": progress.steps_undone,
            "sample_in_epoch": self.graph.source.samples_before(progress.batch_in_epoch),
            "environment": self._environment(),
            "items_seen": progress.items_seen,
            "scaler": self.precision.scaler.state_dict(),
            **extra_state,
        }

        def write() -> None:
            checkpoint.save(folder, step, tensors, state, extra_files)
            checkpoint.prune(folder, keep, spared)

        self.is_saved(wait=True)  # one at a time, as each copy takes memory
        if wait or self.background is None:
            write()
            return
        tensors = {
            stem: {n: t.detach().to("cpu", copy=True) for n, t in named.items()}
            for stem, named in tensors.items()
        }
        self.background.start(write)

    def is_saved(self, wait: bool) -> bool:
        """Whether no checkpoint is being written; see `Actions.is_saved`."""
        return self.background is None or self.background.is_done(wait)

    def restore(self, folder: Path, identity: Mapping[str, Any], stream: Mapping[str, Any]) -> bool:
        """Resume from the newest intact checkpoint; see `Actions.restore`."""
        world, progress = self.replicas.world, self.progress
        found = world.broadcast_object(lambda: _as_text(checkpoint.find(folder)))
        if found is None:
            return False
        newest = Path(found)
        tensors, state = world.broadcast_tensors(lambda: checkpoint.load(newest))
        saved_identity = state.get("identity", {})
        refuse_other_run(saved_identity, identity, newest, is_loaded=bool(stream))
        tensors = self.replicas.scattered(tensors)
        optimizer_tensors = {name: tensors.pop(name, None) for name in self.objectives}
        if None in optimizer_tensors.values():
            raise CheckpointError("the checkpoint has no optimizer state", where=newest)
        load_weights_by_module(self.graph.neural_modules, tensors, newest)
        for name, objective in self.objectives.items():
            load_optimizer_state(objective.optimizer, objective.parameters, optimizer_tensors[name] or {})
        if state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        progress.step, progress.epoch_num, progress.batch_in_epoch = state["step"], state["epoch"], 0
        progress.items_seen = state["items_seen"]
        logging.info("resuming from %s: step %d, epoch %d", newest, progress.step, progress.epoch_num)
        then, now = state.get("environment", {}), self._environment()
        changed = [f"{n} {now[n]} instead of {then[n]}" for n in now if then.get(n, now[n]) != now[n]]
        if changed:
            logging.info("%s: same samples and masks, but not bit-identical", ", ".join(changed))
        others = [name for name, value in stream.items() if saved_identity.get(name, value) != value]
        if others:
            logging.info("restarting the epoch: the checkpoint has a different %s", ", ".join(others))
        else:
            progress.batch_in_epoch = self._batch_of(state, newest)
            progress.steps_undone = state.get("steps_undone", 0)  # 0.1 did not save it
        return True

    def _environment(self) -> dict[str, str | int]:
        """What the last bits of a result depend on, apart from program, options and data."""
        return {"processes": self.replicas.world.size, **fingerprint(self.device)}

    def _batch_of(self, state: Mapping[str, Any], source: Path) -> int:
        """The micro-batch at which a checkpoint's epoch resumes; the batch size may have changed.

        Raises:
            CheckpointError: the checkpoint falls inside a batch.
        """
        samples = state.get("sample_in_epoch")
        if samples is None:
            return state["batch_in_epoch"]
        batch = self.graph.source.batch_after(samples)
        if batch is None:
            raise CheckpointError(
                "the checkpoint falls inside a batch of this size",
                where=source,
                found=f"{samples} samples",
                expected="a whole number of batches",
                fix="use the previous batch size, or a divisor of it",
            )
        return batch


def _as_text(path: Path | None) -> str | None:
    return None if path is None else str(path)
