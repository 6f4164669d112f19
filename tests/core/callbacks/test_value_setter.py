"""Attributes that follow a schedule."""

from types import SimpleNamespace

import pytest
import torch

from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    NeuralModuleFactory,
    ValueSetterCallback,
)
from nemo.utils.errors import UsageError
from tests.core.sine import Graph, events, train

Policy, Method = ValueSetterCallback.Policy, ValueSetterCallback.Method


class Values(ActionCallback):
    """What an object's `value` is at each step."""

    def __init__(self, thing):
        self.thing, self.seen = thing, []

    def on_iteration_end(self):
        self.seen.append(self.thing.value)


@pytest.mark.parametrize(
    ("policies", "total_steps", "expected"),
    [
        ([Policy(Method.Linear(0, 5), start=0, end=6)], 6, [0, 1, 2, 3, 4, 5]),
        (
            [Policy(Method.Const(7), 0.0, 0.5), Policy(Method.Linear(4, 8), start=0.5, end=1.0)],
            6,
            [7, 7, 7, 4, 6, 8],
        ),
        ([Policy(Method.Linear(3, 9), 0, 1), Policy(Method.Const(1), 1, 6)], None, [3, 1, 1, 1, 1, 1]),
        ([Policy(lambda step, total: 10 * total + step, 0, 3)], None, [30, 31, 32, 32, 32, 32]),
        ([Policy(Method.Const(0), 0.0, 0.01), Policy(Method.Const(2), 0.01, 1.0)], 6, [2] * 6),
        (None, 6, [42] * 6),
        (None, None, [42] * 6),
    ],
)
def test_values_follow_their_policies(graph, policies, total_steps, expected):
    thing = SimpleNamespace(value=42)
    watch = Values(thing)
    train(graph.loss, [ValueSetterCallback(thing, "value", policies, total_steps), watch], max_steps=6)
    assert watch.seen == pytest.approx(expected)


def test_a_resumed_run_continues_with_the_scheduled_values(tmp_path):
    def run(steps):
        thing = SimpleNamespace(value=0)
        watch = Values(thing)
        setter = ValueSetterCallback(thing, "value", [Policy(Method.Linear(0, 5), 0, 6)], 6)
        train(Graph().loss, [CheckpointCallback(tmp_path, step_freq=1), setter, watch], max_steps=steps)
        return watch.seen

    assert run(2) == [0, 1]
    assert run(6) == [2, 3, 4, 5]


def test_a_value_is_in_tensorboard(graph, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True)
    thing = SimpleNamespace(value=0.0)
    setter = ValueSetterCallback(thing, "value", [Policy(Method.Linear(1, 3), 0.0, 1.0)], total_steps=3)
    train(graph.loss, [setter], factory, max_steps=3)
    assert events(tmp_path / "tensorboard")["param/SimpleNamespace.value"] == [(1, 1), (2, 2), (3, 3)]


def test_the_probability_of_a_dropout_takes_effect():
    class Dropped(TaylorNet):
        def __init__(self, p):
            super().__init__(4)
            self.dropout = torch.nn.Dropout(p)

        def forward(self, x):
            return self.dropout(super().forward(x))

    def run(p, value=None):
        torch.manual_seed(0)
        net = Dropped(p)
        points = RealFunctionDataLayer(batch_size=4, n=12)()
        loss = MSELoss()(predictions=net(x=points.x), target=points.y)
        policies = [Policy(Method.Const(value), 0, 4)]
        setter = [] if value is None else [ValueSetterCallback(net.dropout, "p", policies)]
        train(loss, setter, max_steps=4)
        return net.fc1.weight.detach()

    assert torch.equal(run(0.5, value=0.25), run(0.25))
    assert not torch.equal(run(0.5), run(0.25))


@pytest.mark.parametrize(
    ("policies", "total_steps", "message"),
    [
        (
            [Policy(Method.Const(1), 1, 6)],
            6,
            "found a policy from step 1 to 6, expected a policy that starts at step 0",
        ),
        ([Policy(Method.Const(1), 0, 2), Policy(Method.Const(1), 3, 6)], 6, "leave a gap or overlap"),
        ([Policy(Method.Const(1), 0, 4), Policy(Method.Const(1), 3, 6)], 6, "leave a gap or overlap"),
        ([Policy(Method.Const(1), 0, -1)], None, "leave a gap or overlap"),
        ([Policy(Method.Const(1), 0, 5)], 6, "found step 5, expected step 6"),
        ([Policy(Method.Const(1), 0.0, 0.5)], 6, "found step 3, expected step 6"),
        ([Policy(Method.Const(1), 0.0, 1.0)], None, "fractional border needs total_steps"),
        ([], None, "found step 0, expected a later step"),
    ],
)
def test_policies_that_do_not_cover_the_steps_are_refused(policies, total_steps, message):
    with pytest.raises(UsageError, match=message):
        ValueSetterCallback(SimpleNamespace(value=0), "value", policies, total_steps)


def test_a_missing_attribute_is_refused():
    with pytest.raises(UsageError, match=r"SimpleNamespace.valeu: .*did you mean 'value'\?"):
        ValueSetterCallback(SimpleNamespace(value=0), "valeu")
