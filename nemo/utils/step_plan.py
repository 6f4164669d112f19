"""The total number of steps of a run, which may be planned anew while it runs."""

from dataclasses import dataclass

from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class StepPlan:
    """The planned total number of steps, with its changes.

    Attributes:
        changes: (finished steps, total steps) at each planning; the first at step 0.
    """

    changes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, total: int) -> "StepPlan":
        """A plan with a fixed number of steps."""
        return cls(((0, total),))

    @classmethod
    def parse(cls, text: str) -> "StepPlan":
        """Parse the output of `str`.

        Raises:
            UsageError: the text is not a step plan.
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
                expected="FINISHED_STEPS:TOTAL_STEPS,... from 0 on, as in the config.yaml of a run",
                fix="omit it",
            )
        return cls(changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return ",".join(f"{start}:{total}" for start, total in self.changes)

    @property
    def total(self) -> int:
        """Total number of steps by the latest plan."""
        return self.changes[-1][1]

    @property
    def is_settled(self) -> bool:
        """Whether the number was planned anew after the run began."""
        return len(self.changes) > 1

    def at(self, step: int) -> int:
        """Total number of steps, as planned when `step` of them were finished."""
        return [total for start, total in self.changes if start <= step][-1]

    def changed(self, step: int, total: int) -> "StepPlan":
        """This plan with a new total, set after `step` finished steps."""
        return StepPlan((*self.changes, (step, total)))
