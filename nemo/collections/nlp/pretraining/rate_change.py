"""Warns when a run resumes with a different learning rate."""

from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.duration import lr_policy
from nemo.core import ActionCallback
from nemo.utils.logging import logging
from nemo.utils.step_plan import StepPlan

DECIDES_RATE = ("lr", "lr_embeddings", "lr_head", "lr_policy", "lr_warmup_proportion", "num_iters", "minutes")
LEAST_CHANGE = 0.05
"""Share of the rate; smaller changes are not reported."""


def rate_at(options: PretrainingOptions, plan: StepPlan, step: int) -> float:
    """The learning rate of the step after `step` steps."""
    policy = lr_policy(options, plan)
    return options.lr if policy is None else policy(options.lr, step, 0)


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
        was = rate_at(self.before, plan_before, last)
        if abs(rate_at(self.now, self.plan, last) - was) <= LEAST_CHANGE * was:
            return
        options = [(name, getattr(self.before, name), getattr(self.now, name)) for name in DECIDES_RATE]
        logging.warning(
            "the learning rate jumps at step %d, from %.2g to %.2g (%s)",
            self.step + 1,
            was,
            rate_at(self.now, self.plan, self.step),
            ", ".join(f"--{name} {then} -> {now}" for name, then, now in options if then != now),
        )


def _plan_of(options: PretrainingOptions) -> StepPlan | None:
    """The plan in a run's configuration; None if the run stopped before it had one."""
    if options.step_plan is not None:
        return StepPlan.parse(options.step_plan)
    return None if options.num_iters == -1 else StepPlan.of(options.num_iters)
