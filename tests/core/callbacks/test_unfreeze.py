"""Modules that are trained from a certain epoch on."""

import pytest
import torch

from nemo.backends.pytorch.tutorials import RealFunctionDataLayer, TaylorNet
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    UnfreezeCallback,
)
from nemo.utils.errors import UsageError
from tests.core.sine import Graph, train


class TwoNets(Graph):
    """The second net works on what the first one gives."""

    def __init__(self):
        super().__init__()
        self.second = TaylorNet(2)
        points = RealFunctionDataLayer(batch_size=4, n=12)()
        prediction = self.second(x=self.net(x=points.x))
        self.loss = self.loss_module(predictions=prediction, target=points.y)

    def weights(self):
        return torch.cat([super().weights(), *(p.detach().flatten() for p in self.second.parameters())])


class WeightsOfEpochs(ActionCallback):
    """A module's weights before each epoch and at the end."""

    def __init__(self, module):
        self.module, self.seen = module, []

    def on_epoch_start(self):
        self.seen.append(self.module.fc1.weight.detach().clone())

    on_action_end = on_epoch_start


def test_a_frozen_module_is_trained_from_its_epoch_on():
    nets = TwoNets()
    nets.net.freeze()
    watch = WeightsOfEpochs(nets.net)
    train(nets.loss, [UnfreezeCallback([nets.net], start_epoch=2), watch], num_epochs=3)
    first, second, third, last = watch.seen
    assert torch.equal(first, second)
    assert torch.equal(second, third)
    assert not torch.equal(third, last)


@pytest.mark.parametrize("optimizer", ["adam_w", "sgd", "novograd", "lamb"])
def test_unfrozen_at_once_is_as_if_never_frozen(optimizer):
    free, frozen = TwoNets(), TwoNets()
    train(free.loss, [], optimizer=optimizer, num_epochs=2, lr=1e-3)
    frozen.net.freeze()
    train(frozen.loss, [UnfreezeCallback(frozen.net)], optimizer=optimizer, num_epochs=2, lr=1e-3)
    assert torch.equal(free.weights(), frozen.weights())


@pytest.mark.parametrize("optimizer", ["adam_w", "sgd", "novograd"])
@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_a_resume_before_at_and_after_unfreezing_is_exact(tmp_path, optimizer, stop):
    def run(folder, steps):
        nets = TwoNets()
        nets.net.freeze()
        callbacks = [CheckpointCallback(tmp_path / folder, step_freq=1), UnfreezeCallback([nets.net], 1)]
        train(nets.loss, callbacks, optimizer=optimizer, max_steps=steps, momentum=0.9)
        return nets.weights()

    whole = run("whole", 8)
    run("parts", stop)
    assert torch.equal(run("parts", 8), whole)


def test_freezing_again_later_is_left_alone():
    class Freeze(ActionCallback):
        def on_iteration_end(self):
            if self.step == 3:
                nets.net.freeze()

    nets = TwoNets()
    nets.net.freeze()
    watch = WeightsOfEpochs(nets.net)
    train(nets.loss, [UnfreezeCallback([nets.net]), Freeze(), watch], num_epochs=2)
    assert not torch.equal(watch.seen[0], watch.seen[1])
    assert torch.equal(watch.seen[1], watch.seen[2])


def test_modules_that_cannot_be_unfrozen_are_refused(graph):
    with pytest.raises(UsageError, match="cannot be unfrozen; found MSELoss"):
        UnfreezeCallback([graph.loss_module])
    with pytest.raises(UsageError, match="start_epoch: out of range; found -1"):
        UnfreezeCallback(graph.net, start_epoch=-1)
