"""Losses with optimizers of their own."""

import pytest
import torch

from nemo.backends.pytorch import PtActions
from nemo.core import ActionCallback, CheckpointCallback, NeuralModuleFactory
from nemo.utils.errors import UsageError


def test_a_torch_optimizer_keeps_its_own_rate_and_follows_a_policy(toy, batches):
    def run(model, optimizer, params, policy=None):
        PtActions(device="cpu").train(model.wire(batches()), optimizer, params, lr_policy=policy)

    by_name, given, stopped = toy(), toy(), toy()
    run(by_name, "sgd", {"lr": 0.1, "max_steps": 3, "momentum": 0.0})
    sgd = torch.optim.SGD([p for m in given.modules for p in m.parameters()], lr=0.1)
    run(given, sgd, {"max_steps": 3})
    assert torch.equal(by_name.weights(), given.weights())

    sgd = torch.optim.SGD([p for m in stopped.modules for p in m.parameters()], lr=0.1)
    before = stopped.weights()
    run(stopped, sgd, {"max_steps": 3}, policy=lambda lr, step, epoch: 0 * lr)
    assert torch.equal(before, stopped.weights())


def test_objectives_take_turns_each_with_its_own_optimizer(toy, batches):
    class Watch(ActionCallback):
        def __init__(self, model):
            self.model, self.moved = model, []

        def on_iteration_start(self):
            self.before = [p.detach().clone() for m in self.model.modules for p in m.parameters()]

        def on_iteration_end(self):
            after = [p for m in self.model.modules for p in m.parameters()]
            self.moved.append([not torch.equal(a, b) for a, b in zip(self.before, after, strict=True)])

    model = toy()
    masked, sequence = model.wire(batches())
    actions, watch = PtActions(device="cpu"), Watch(model)
    first = actions.create_optimizer("sgd", [model.head], {"lr": 0.1})
    second = actions.create_optimizer("sgd", [sequence], {"lr": 0.1})
    pairs = [(first, [masked]), (second, [sequence])]
    actions.train(pairs, optimization_params={"max_steps": 4}, callbacks=[watch])
    encoder, head, first_token = [True] * 3, [True] * 2, [True] * 2
    head_alone = [*[False] * 3, *head, *[False] * 2]
    assert watch.moved == [head_alone, [*encoder, False, False, *first_token]] * 2


def test_an_objective_leaves_no_gradient_to_the_next(toy, batches):
    def encoder_after(model, *objectives):
        masked, sequence = model.wire(batches(samples=8, batch_size=8))
        actions = PtActions(device="cpu")
        losses = {"masked": (model.head, masked), "sequence": (model.encoder, sequence)}
        pairs = [
            (actions.create_optimizer("sgd", losses[name][0], {"lr": 0.1}), [losses[name][1]])
            for name in objectives
        ]
        actions.train(pairs, optimization_params={"max_steps": len(pairs)})
        return torch.cat([p.detach().flatten() for p in model.encoder.parameters()])

    assert torch.equal(encoder_after(toy(), "masked", "sequence"), encoder_after(toy(), "sequence"))


def test_several_objectives_resume_to_the_bit(toy, batches, tmp_path):
    def run(model, steps, folder):
        masked, sequence = model.wire(batches(samples=10, shuffle=True))
        actions = PtActions(device="cpu")
        pairs = [
            (actions.create_optimizer("adam_w", model.encoder, {"lr": 0.1}), [masked]),
            (actions.create_optimizer("novograd", [masked, sequence], {"lr": 0.1}), [sequence]),
        ]
        callback = CheckpointCallback(tmp_path / folder, step_freq=1)
        actions.train(pairs, optimization_params={"max_steps": steps}, callbacks=[callback])

    whole, resumed = toy(), toy()
    run(whole, 7, "whole")
    run(toy(), 4, "parts")
    run(resumed, 7, "parts")
    assert torch.equal(whole.weights(), resumed.weights())


@pytest.mark.parametrize("given", [[], ["loss"], None, [(1, 2)]])
def test_an_objective_that_cannot_be_optimized_is_named(given):
    with pytest.raises(UsageError, match=r"tensors_to_optimize: not losses; found"):
        PtActions(device="cpu").train(given, "sgd", {"lr": 0.1, "max_steps": 1})


def test_a_tensor_that_is_not_a_loss_is_refused(toy, batches):
    model = toy()
    model.wire(batches())
    with pytest.raises(UsageError, match=r"Head\.logits: cannot be optimized; found a .* \(2, 5, 7\)"):
        PtActions(device="cpu").train(model.logits, "sgd", {"lr": 0.1, "max_steps": 1})


def test_a_training_that_never_began_may_be_tried_again(toy, batches):
    model, factory = toy(), NeuralModuleFactory()
    losses, params = model.wire(batches()), {"lr": 0.1, "max_steps": 1}
    with pytest.raises(UsageError, match="cannot be optimized"):
        factory.train(model.logits, "sgd", params)
    factory.train(losses, "sgd", params)
    assert factory.get_trainer().step == 1
