"""The loop: steps, micro-batches, hooks."""

import traceback
from dataclasses import replace

import pytest
import torch
from torch import nn

from nemo.backends.pytorch import PtActions
from nemo.core import ActionCallback
from nemo.utils.errors import NumericError
from tests.backends.pytorch.toy_training import train


@pytest.mark.parametrize(("batch_size", "batches_per_step"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_accumulation_equals_the_large_batch_for_unequal_masked_counts(
    toy, batches, batch_size, batches_per_step
):
    whole, parts = toy(), toy()
    train(whole, batches(samples=16, batch_size=8), max_steps=6)
    layer = batches(samples=16, batch_size=batch_size)
    train(parts, layer, max_steps=6, batches_per_step=batches_per_step)
    assert torch.allclose(whole.weights(), parts.weights(), atol=1e-6, rtol=0)


def test_the_rest_of_an_epoch_makes_a_step_of_its_own(toy, batches):
    layer = batches(samples=10, batch_size=2)  # 5 batches: 2 + 2 + 1
    actions = train(toy(), layer, num_epochs=2, max_steps=None, batches_per_step=2)
    assert (actions.step, actions.epoch_num, actions.items_seen) == (6, 2, 20)


def test_a_loss_of_a_step_is_reported_over_all_its_batches(toy, batches):
    class Keep(ActionCallback):
        def __init__(self, tensors):
            self.tensors, self.seen = tensors, []

        def on_iteration_end(self):
            self.seen.append([float(self.action.value_of(t)) for t in self.tensors])

    def losses(batch_size, batches_per_step=1):
        model = toy()
        tensors = model.wire(batches(samples=8, batch_size=batch_size))
        keep = Keep(tensors)
        params = {"lr": 0.1, "max_steps": 3}
        PtActions(device="cpu").train(tensors, "sgd", params, [keep], batches_per_step=batches_per_step)
        return keep.seen

    assert losses(batch_size=8)[0] == pytest.approx(losses(batch_size=2, batches_per_step=4)[0], rel=1e-6)


def test_max_steps_ends_inside_an_epoch(toy, batches):
    actions = train(toy(), batches(samples=8, batch_size=2), max_steps=6)
    assert (actions.step, actions.epoch_num, actions.batch_in_epoch) == (6, 1, 2)


def test_a_callback_may_plan_anew(toy, batches):
    class Shorter(ActionCallback):
        def on_iteration_end(self):
            rates.append(self.learning_rate)
            if self.step == 3:
                self.action.plan = replace(self.action.plan, max_steps=5, lr_policy=lambda lr, *_: lr / 8)

    rates = []
    actions = PtActions()
    actions.train(toy().wire(batches()), "sgd", {"lr": 0.8, "max_steps": 100}, [Shorter()])
    assert actions.step == 5 and rates == [0.8, 0.8, 0.8, 0.1, 0.1]


def test_a_step_neither_walks_through_the_model_nor_takes_stack_traces(toy, batches, monkeypatch):
    def counting(name, work):
        def counted(*args, **kwargs):
            calls[name] += 1
            return work(*args, **kwargs)

        return counted

    class Watch(ActionCallback):
        def on_iteration_start(self):
            before.append(dict(calls))

    calls, before = {"named_modules": 0, "format_stack": 0}, []
    monkeypatch.setattr(nn.Module, "named_modules", counting("named_modules", nn.Module.named_modules))
    monkeypatch.setattr(traceback, "format_stack", counting("format_stack", traceback.format_stack))
    PtActions().train(toy().wire(batches()), "sgd", {"lr": 0.1, "max_steps": 8}, [Watch()])
    # In the first step a model is walked through for what lasts.
    assert before[1:] == [before[1]] * 7 and before[1]["format_stack"] == before[0]["format_stack"]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_waits_for_its_result_once(toy, batches, monkeypatch, clip):
    def counted(name, original):
        def read(tensor, *args):
            reads.append(name)
            return original(tensor, *args)

        return read

    class Watch(ActionCallback):
        def on_iteration_start(self):
            reads.clear()

        def on_iteration_end(self):
            of_steps.append(list(reads))

    reads, of_steps = [], []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    params = {"lr": 0.1, "max_steps": 4, "grad_norm_clip": clip}
    PtActions().train(toy().wire(batches()), "sgd", params, [Watch()])
    # The gradient's norm with the loss; divisors were read before the step, of tensors that were on the CPU.
    assert of_steps == [["tolist"]] * 4


def test_hooks_are_called_in_order(toy, batches):
    class Log(ActionCallback):
        def __init__(self):
            self.moments = []

        def __getattribute__(self, name):
            if name.startswith("on_"):
                self.moments.append(name[3:])
            return super().__getattribute__(name)

    log = Log()
    train(toy(), batches(samples=4, batch_size=2), [log], max_steps=None, num_epochs=1)
    step = ["iteration_start", "iteration_end"]
    assert log.moments == [
        "restore", "action_start", "epoch_start", *step, *step, "epoch_end", "action_end"
    ]  # fmt: skip


def test_training_leaves_the_generator_to_its_owner(toy, batches):
    model = toy(dropout=0.5)
    before = torch.get_rng_state()
    train(model, batches(), max_steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_not_finite_stops_before_the_step(toy, batches):
    model = toy()
    with torch.no_grad():
        model.first.linear.bias[0] = float("inf")
    before = model.weights()
    with pytest.raises(NumericError, match="step 1, epoch 0, batch 0: the loss or its gradient is not"):
        train(model, batches())
    assert torch.equal(before, model.weights())


def test_the_gradient_is_clipped_to_its_norm(toy, batches):
    free, clipped = toy(), toy()
    start = free.weights()
    options = {"max_steps": 1, "momentum": 0.0}
    actions = train(free, batches(), **options)
    train(clipped, batches(), grad_norm_clip=actions.grad_norm / 2, **options)
    assert torch.allclose((clipped.weights() - start) * 2, free.weights() - start, atol=1e-6)


def test_steps_with_a_loss_that_is_not_finite_are_skipped_on_demand(toy, batches):
    class Break(ActionCallback):
        """Breaks the bias before steps 2 and 3, mends it after them."""

        def __init__(self, bias):
            self.bias, self.kept = bias, []

        def on_iteration_start(self):
            with torch.no_grad():
                self.was = float(self.bias[0])
                if self.step in (1, 2):
                    self.bias[0] = float("inf")

        def on_iteration_end(self):
            with torch.no_grad():
                if self.step in (2, 3):
                    self.kept.append(torch.isinf(self.bias[0]).item())
                    self.bias[0] = self.was

    model = toy()
    actions, broken = PtActions(device="cpu"), Break(model.first.linear.bias)
    params = {"lr": 0.1, "max_steps": 5}
    actions.train(model.wire(batches()), "sgd", params, [broken], when_not_finite="skip")
    assert broken.kept == [True, True] and actions.step == 5
    assert model.weights().isfinite().all()

    with torch.no_grad():
        model.first.linear.bias[0] = float("inf")
    actions = PtActions(device="cpu")
    with pytest.raises(NumericError, match="step 4"):  # three in a row are skipped
        actions.train(model.wire(batches()), "sgd", params, when_not_finite="skip")


def test_a_callback_gets_whole_tensors_only_when_it_reads(toy, batches):
    class Read(ActionCallback):
        def __init__(self, tensor):
            self.tensors, self.shapes = [tensor], []

        def reads_at(self, step):
            return step == 2

        def on_iteration_end(self):
            self.shapes.append([tuple(v.shape) for v in self.registered_tensors.values()])

    model = toy()
    losses = model.wire(batches(samples=4, batch_size=4))  # 0 + 1 + 2 + 3 masked rows, of 20
    read = Read(model.logits)
    PtActions(device="cpu").train(losses, "sgd", {"lr": 0.1, "max_steps": 3}, [read])
    assert read.shapes == [[], [(4, 5, 7)], []]
    assert model.head.rows_computed == [6, 20, 6]
