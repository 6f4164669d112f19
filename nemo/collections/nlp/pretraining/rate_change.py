"""Warns when a run resumes with a different learning rate."""

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.duration import lr_policy
from nemo.collections.nlp.pretraining.setup import with_steps
from nemo.core import ActionCallback
from nemo.utils.arguments import names_deciding
from nemo.utils.logging import logging
from nemo.utils.step_plan import StepPlan

PEAKS = {"lr": "", "lr_embeddings": " of the embeddings", "lr_head": " of the heads"}
"""Option -> what its learning rate is for, in a message."""
LEAST_CHANGE = 0.05
"""Share of the rate; smaller changes are not reported."""


def rate_at(options: PretrainingOptions, plan: StepPlan, step: int, peak: str = "lr") -> float:
    """The learning rate of the step after `step` steps; `peak` is the option that sets its peak."""
    policy, own = lr_policy(options, plan), getattr(options, peak)
    lr = options.lr if own is None else own
    return lr if policy is None else policy(lr, step, 0)


class RateChange(ActionCallback):
    """Warns if the learning rate jumps at a resume because options changed.

    Args:
        before: the options of the earlier run, with its number of steps.
        now, plan: options and plan of the resumed run.
    """

    def __init__(self, before: PretrainingOptions, now: PretrainingOptions, plan: StepPlan):
        self.before, self.now, self.plan = before, now, plan

    def on_action_start(self) -> None:
        last, plan_before = self.step - 1, _plan_of(self.before)
        if last < 0 or plan_before is None or self.global_rank != 0:
            return
        for peak, words in PEAKS.items():
            was = rate_at(self.before, plan_before, last, peak)
            if abs(rate_at(self.now, self.plan, last, peak) - was) > LEAST_CHANGE * was:
                is_now = rate_at(self.now, self.plan, self.step, peak)
                logging.warning(
                    "the learning rate%s jumps at step %d, from %.2g to %.2g%s",
                    *(words, self.step + 1, was, is_now, self._changes()),
                )
                return  # the other rates jump for the same reasons

    def _changes(self) -> str:
        """The options that decide the rate and have changed, in brackets."""
        now = with_steps(self.now, self.plan)
        options = [
            (name, getattr(self.before, name), getattr(now, name))
            for name in names_deciding(PretrainingOptions, "rate")
        ]
        changes = [f"--{name} {then} -> {value}" for name, then, value in options if then != value]
        return f" ({', '.join(changes)})" if changes else ""


def _plan_of(options: PretrainingOptions) -> StepPlan | None:
    """The plan in a run's configuration; None if the run stopped before it had one."""
    if options.step_plan is not None:
        return StepPlan.parse(options.step_plan)
    return None if options.num_iters == -1 else StepPlan.of(options.num_iters)
