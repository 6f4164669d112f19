"""The number of steps of a run, as planned and replanned during it."""

from dataclasses import dataclass

from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class StepPlan:
    """The number of steps of a run, from which step on.

    Attributes:
        changes: (finished steps, steps in all) each time that it was planned; the first one before any step.
    """

    changes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, total: int) -> "StepPlan":
        """A fixed number of steps."""
        return cls(((0, total),))

    @classmethod
    def parse(cls, text: str) -> "StepPlan":
        """What `str` gives.

        Raises:
            UsageError: it is no such text.
        """
        try:
            changes = tuple(tuple(int(number) for number in change.split(":")) for change in text.split(","))
            starts = [start for start, _ in changes]
            fits = starts[0] == 0 and starts == sorted(set(starts))
            fits = fits and all(start <= total and total >= 1 for start, total in changes)
        except ValueError:
            fits = False
        if not fits:
            raise UsageError(
                "not a step plan",
                where="--step_plan",
                found=repr(text),
                expected="FINISHED_STEPS:STEPS_IN_ALL,... from 0 on, as in the config.yaml of a run",
                fix="leave it out",
            )
        return cls(changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return ",".join(f"{start}:{total}" for start, total in self.changes)

    @property
    def total(self) -> int:
        """Steps in all, by the latest plan."""
        return self.changes[-1][1]

    @property
    def is_settled(self) -> bool:
        """Has it been planned since the run began?"""
        return len(self.changes) > 1

    def at(self, step: int) -> int:
        """Steps in all, as planned when `step` of them were finished."""
        return [total for start, total in self.changes if start <= step][-1]

    def changed(self, step: int, total: int) -> "StepPlan":
        """The plan that holds from now on, after `step` finished steps."""
        return StepPlan((*self.changes, (step, total)))
