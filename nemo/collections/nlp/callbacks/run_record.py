"""The record of a run: metrics.jsonl, status.json, TensorBoard and the progress line."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.collections.nlp.callbacks.divergence import Divergence
from nemo.collections.nlp.callbacks.overfitting import Overfitting
from nemo.collections.nlp.callbacks.plateau import ADVICE, Plateau
from nemo.collections.nlp.callbacks.trackers import Trackers
from nemo.collections.nlp.callbacks.training_view import TrainingView
from nemo.core import ActionCallback, NmTensor
from nemo.core.actions import BadStep
from nemo.utils.logging import logging
from nemo.utils.progress import is_displayed
from nemo.utils.stopwatch import duration
from nemo.utils.wording import quantity
from nemo.utils.work_folder import WorkFolder


class RunRecord(ActionCallback):
    """Records and shows the first, the last and every `step_freq`th step.

    Put it first among the callbacks, so that evaluation and saving do not count as training time.

    Args:
        work_folder: that of the run.
        losses: name in metrics.jsonl -> tensor; includes "loss", and possibly "mlm_loss".
        step_freq: steps between two rows.
        unigram_entropy: unigram entropy of the training text, nats; None if unknown.
        vocab_size: vocabulary size of the model.
        trackers: receive the same figures.

    Attributes:
        has_diverged: whether the latest masked-token loss is far above that of a uniform prediction.
        is_planned: returns whether the number of steps is known; with `--minutes` it is not at first.
    """

    has_diverged = False

    def __init__(
        self,
        work_folder: WorkFolder,
        losses: Mapping[str, NmTensor],
        step_freq: int,
        unigram_entropy: float | None = None,
        vocab_size: int | None = None,
        trackers: Trackers | None = None,
    ):
        self.work_folder = work_folder
        self.trackers = trackers
        self.losses = dict(losses)
        self.tensors = list(losses.values())
        self.step_freq = step_freq
        self.unigram_entropy = unigram_entropy
        self._divergence = None if vocab_size is None else Divergence(vocab_size)
        self._has_told_of_divergence = False
        self._latest_step = 0
        self.view = TrainingView(unigram_entropy)
        self.is_planned: Callable[[], bool] = lambda: True
        self._overfitting: Overfitting | None = Overfitting()
        self._losses_since_evaluation: list[float] = []
        self._plateaus = {"training": Plateau(), "held-out": Plateau()}

    @property
    def total_steps(self) -> int:
        """Steps of the whole run in the current plan."""
        assert self.action.plan.max_steps is not None  # every run of `pretrain` has an end
        return self.action.plan.max_steps

    def on_action_start(self) -> None:
        self._began = time.monotonic()
        self._num_steps = 0
        self._training_seconds = 0.0
        self._go_on_from_here()
        self._status("training")

    def on_iteration_start(self) -> None:
        if self.step < self._latest_step:  # a bad step sent training back
            self._go_on_from_here()
        self._step_began = time.monotonic()

    def on_iteration_end(self) -> None:
        self._training_seconds += time.monotonic() - self._step_began
        self._num_steps += 1
        self._show_step()
        self._latest_step = self.step
        is_due = self.step % self.step_freq == 0 or self._num_steps == 1
        if not (is_due or self.step >= self.total_steps) or self.global_rank != 0:
            return
        row = {
            "step": self.step,
            "epoch": self.epoch_num,
            **{name: float(self.action.value_of(tensor)) for name, tensor in self.losses.items()},
            "lr": self.learning_rate,
            "grad_norm": self.action.grad_norm,
            "tokens_per_s": (self.action.items_seen - self._items_at_row)
            / (self._training_seconds - self._seconds_at_row),
            "seconds": time.monotonic() - self._began,
        }
        self._begin_row()
        self.work_folder.append_metrics(row)
        self._hand_on(row)
        self._status("training")
        seconds_a_step = self._training_seconds / self._num_steps
        seconds_left = seconds_a_step * (self.total_steps - self.step)
        self.view.add(row, seconds_left)
        self._tell(row, seconds_left)
        if self._divergence is not None and "mlm_loss" in row:
            self._name_divergence(row["mlm_loss"], self._divergence)
        self._losses_since_evaluation.append(row.get("mlm_loss", row["loss"]))
        if self.unigram_entropy is not None and "mlm_loss" in row:
            self._explain_plateau("training", row["mlm_loss"], self.unigram_entropy)

    def _show_step(self) -> None:
        self.view.step, self.view.total = self.step, self.total_steps if self.is_planned() else 0

    def _tell(self, row: Mapping[str, Any], seconds_left: float) -> None:
        """Log a line; on a terminal that shows the same figures, only to the log file."""
        losses = "  ".join(f"{name.replace('_', ' ')} {row[name]:.3f}" for name in row if "loss" in name)
        is_planned = self.is_planned()
        logging.info(
            "step %d%s  %s  lr %.2e  %s tokens/s%s",
            row["step"],
            f"/{self.total_steps}" if is_planned else "",
            losses,
            row["lr"],
            f"{row['tokens_per_s']:,.0f}",
            f"  {duration(seconds_left)} left" if is_planned else "",
            extra={"is_shown": is_displayed()},
        )

    def _go_on_from_here(self) -> None:
        """Remove records of later steps, for example from a killed run."""
        self.work_folder.truncate_metrics(self.step)
        self._evaluated = set(evaluations_in(self.work_folder.metrics_path))
        self._latest_step = self.step
        self._begin_row()

    def _begin_row(self) -> None:
        self._seconds_at_row, self._items_at_row = self._training_seconds, self.action.items_seen

    def on_bad_step(self, bad: BadStep) -> None:
        self.work_folder.append_bad_step(dataclasses.asdict(bad))

    def evaluated(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Record an evaluation; returns it as scalars for TensorBoard."""
        row = {f"eval_{name}": value for name, value in figures.items()}
        if self.step not in self._evaluated:  # a rerun evaluates the same weights again
            self._evaluated.add(self.step)
            self.work_folder.append_metrics({"step": self.step, "epoch": self.epoch_num, **row})
        self.view.evaluation = (self.step, figures)
        text = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())
        logging.info("evaluation after step %d: %s", self.step, text)
        if {"mlm_loss", "unigram_entropy"} <= figures.keys():
            self._explain_plateau("held-out", figures["mlm_loss"], figures["unigram_entropy"])
        if "mlm_loss" in figures:
            self._name_overfitting(figures["mlm_loss"])
        scalars = {name.replace("_", "/", 1): value for name, value in row.items()}
        if self.trackers is not None:
            self.trackers.log(scalars, self.step)
        return scalars

    def on_action_end(self) -> None:
        self._status("training")  # until the last checkpoint is there

    def _name_divergence(self, loss: float, divergence: Divergence) -> None:
        """Warn of divergence, once."""
        cause = divergence.cause(loss, self.learning_rate)
        self.has_diverged = cause is not None
        if cause is not None and not self._has_told_of_divergence:
            self._has_told_of_divergence = True
            logging.warning(
                "after %s the MLM loss is %.4g; a uniform prediction has %.2f (ln V): %s",
                quantity(self.step, "step"),
                loss,
                divergence.loss_of_chance,
                cause,
            )

    def _name_overfitting(self, held_out: float) -> None:
        """Warn of overfitting, once."""
        losses, self._losses_since_evaluation = self._losses_since_evaluation, []
        if not losses or self._overfitting is None:
            return
        since = self._overfitting.since(self.step, held_out, sum(losses) / len(losses))
        if since is not None:
            self._overfitting = None
            logging.warning(
                "the model is overfitting: since step %d the held-out MLM loss has been rising (to %.2f) "
                "while the training loss falls; use more text, a smaller model, more dropout or fewer steps "
                "(--patience stops such a run, --keep_best keeps its best checkpoint)",
                since,
                held_out,
            )

    def _explain_plateau(self, of: str, loss: float, entropy: float) -> None:
        """Warn once of a plateau."""
        if self._plateaus and self._plateaus[of].is_on(self.step, self.total_steps, loss, entropy):
            logging.warning(
                "after %s steps the %s MLM loss, %.2f, is not below the unigram "
                "entropy, %.2f: the model has not learned to use context yet; %s",
                f"{self.step:,}",
                of,
                loss,
                entropy,
                ADVICE,
            )
            self._plateaus.clear()

    def _status(self, state: str) -> None:
        self._show_step()
        self.view.checkpoint = newest_checkpoint(self.work_folder)
        self.work_folder.write_status(
            state=state,
            code=None,
            problem=None,
            step=self.step,
            epoch=self.epoch_num,
            total_steps=self.total_steps,
            tokens=self.action.items_seen,
            checkpoint=self.view.checkpoint,
        )

    def _hand_on(self, row: Mapping[str, Any]) -> None:
        """Send figures to TensorBoard, which the evaluator also uses, and to other trackers."""
        scalars = {f"train/{name}": row[name] for name in (*self.losses, "grad_norm", "tokens_per_s")}
        scalars["param/lr"] = row["lr"]
        if self.trackers is not None:
            self.trackers.log(scalars, self.step)
        writer = getattr(self.action, "tb_writer", None)
        if writer is not None:
            for name, value in scalars.items():
                writer.add_scalar(name, value, self.step)


def newest_checkpoint(work_folder: WorkFolder) -> str | None:
    """The name of the newest checkpoint, for status.json; None if there is none."""
    found = list_checkpoints(work_folder.checkpoint_dir)
    return found[-1].name if found else None


def evaluations_in(metrics: Path) -> dict[int, dict[str, float]]:
    """The held-out figures that `RunRecord.evaluated` wrote to a metrics.jsonl, by step."""
    found = {}
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else ():
        row = json.loads(line)
        figures = {n.removeprefix("eval_"): v for n, v in row.items() if n.startswith("eval_")}
        if figures:
            found[row["step"]] = figures
    return found
