"""What a terminal shows of a run."""

import io

import pytest
from rich.console import Console

from nemo.collections.nlp.callbacks.training_view import TrainingView


def view_of(losses, **more):
    view = TrainingView(**more)
    for loss in losses:
        view.add({"loss": loss, "mlm_loss": loss, "tokens_per_s": 1234.0}, seconds_left=0)
    return view


@pytest.mark.parametrize(
    ("losses", "trend"),
    [([5.0, 4.0, 3.0, 2.0], "falling"), ([2.0, 3.0, 4.0, 5.0], "rising"), ([3.0] * 5, "flat"), ([3.0], "")],
)
def test_the_trend_is_that_of_the_latest_losses(losses, trend):
    assert view_of(losses).trend == trend


def test_bars_are_high_where_the_loss_was():
    view = view_of([])
    view.losses.extend([8.0, 4.5, 1.0])
    assert view.bars == "█▄▁"


def test_the_view_shows_progress_losses_and_checkpoint():
    view = view_of([5.0, 4.0], unigram_entropy=6.5)
    view.step, view.total, view.checkpoint = 30, 120, "STEP-20"
    view.evaluation = (20, {"mlm_loss": 4.25, "mlm_accuracy": 0.1234, "loss": 5.0})
    console = Console(file=io.StringIO(), width=100)
    console.print(view)
    told = console.file.getvalue()
    for part in (
        "step 30/120", "25%", "1,234 tokens/s", "0 s left",
        "loss 4.800", "unigram 6.50",  # 5 + 0.2 * (4 - 5)
        "held out 4.250, accuracy 12.3% at step 20", "saved STEP-20",
    ):  # fmt: skip
        assert part in told, told


def test_before_the_first_step_the_view_shows_a_notice():
    console = Console(file=io.StringIO(), width=100)
    console.print(TrainingView())
    assert "waiting for the first step" in console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_nothing_is_cut_off_on_a_narrow_terminal(width):
    view = view_of([9.0 - i / 10 for i in range(40)], unigram_entropy=6.5)
    view.step, view.total, view.checkpoint = 1_030, 12_000, "STEP-1000"
    view.evaluation = (1000, {"mlm_loss": 4.25, "unigram_entropy": 6.4, "mlm_accuracy": 0.1234, "loss": 5.0})
    console = Console(file=io.StringIO(), width=width)
    console.print(view)
    told = console.file.getvalue()
    assert all(len(line) <= width for line in told.splitlines())
    assert "…" not in told
    words = " ".join(told.split())
    for part in ("step 1,030/12,000", "9%", "1,234 tokens/s", "0 s left", "falling", "▁ unigram 6.50",
                 "held out 4.250 (unigram 6.40), accuracy 12.3% at step 1,000 saved STEP-1000"):  # fmt: skip
        assert part in words, told
