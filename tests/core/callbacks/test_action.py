"""What every callback sees and may do."""

import pytest
import torch

from nemo.backends.pytorch.tutorials import RealFunctionDataLayer
from nemo.core import (
    ActionCallback,
    NeuralModuleFactory,
)
from tests.core.sine import train


def test_a_callback_as_in_0_10_sees_the_run_and_the_tensors_it_registers(graph):
    class Mine(ActionCallback):
        def __init__(self, tensors):
            super().__init__()
            self.tensors = tensors
            self.seen = []

        def on_iteration_end(self):
            values = self.registered_tensors
            self.seen.append(
                (self.step, self.epoch_num, self.learning_rate, self.global_rank, self.local_rank)
            )
            self.values = [values[tensor.unique_name] for tensor in self.tensors]
            self.logger.info("mine at %d", self.action.step)

    layer = RealFunctionDataLayer(batch_size=4, n=4)
    prediction, loss = graph.wire(layer)
    x, y = layer.dataset.tensors
    expected = graph.net(x).detach()
    mine = Mine([loss, prediction])
    train(loss, [mine], max_steps=1, lr=0.5)
    assert mine.seen == [(1, 0, 0.5, 0, None)]
    assert torch.allclose(mine.values[1], expected)
    assert float(mine.values[0]) == pytest.approx(float(((expected - y) ** 2).mean()))


def test_tensors_are_registered_at_the_steps_a_callback_reads_them(graph):
    class EverySecond(ActionCallback):
        def __init__(self, tensor):
            self.tensors, self.seen = [tensor], []

        def reads_at(self, step):
            return step % 2 == 0

        def on_iteration_end(self):
            self.seen.append(list(self.registered_tensors))

    mine = EverySecond(graph.prediction)
    train(graph.loss, [mine], max_steps=3)
    assert mine.seen == [[], [graph.prediction.unique_name], []]


def test_a_callback_that_raises_ends_the_training_with_its_own_error(graph):
    class Broken(ActionCallback):
        def on_iteration_end(self):
            if self.step == 2:
                raise LookupError("mine")

    factory = NeuralModuleFactory()
    with pytest.raises(LookupError, match="mine"):
        train(graph.loss, [Broken()], factory, max_steps=5)
    assert factory.get_trainer().step == 2
