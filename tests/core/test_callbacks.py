"""Callbacks on the smallest real graph: 12 points of a sine in 3 batches, so 3 steps an epoch."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo import logging
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    ModuleSaverCallback,
    NeuralModuleFactory,
    SimpleLossLoggerCallback,
    UnfreezeCallback,
    ValueSetterCallback,
    WandbCallback,
)
from nemo.utils.errors import CheckpointError, DataError, StorageError, UsageError
from tests.conftest import PATIENCE

SGD = {"lr": 1e-4, "momentum": 0.0}


class Graph:
    """A net with fixed weights, wired for training and for evaluation."""

    def __init__(self):
        torch.manual_seed(0)
        self.net, self.loss_module = TaylorNet(4), MSELoss()
        self.prediction, self.loss = self.wire(RealFunctionDataLayer(batch_size=4, n=12))
        _, self.eval_loss = self.wire(RealFunctionDataLayer(batch_size=4, n=10, f_name="cos"))

    def wire(self, layer):
        points = layer()
        prediction = self.net(x=points.x)
        return prediction, self.loss_module(predictions=prediction, target=points.y)

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


@pytest.fixture
def graph():
    return Graph()


def train(losses, callbacks, factory=None, optimizer="sgd", **params):
    factory = factory or NeuralModuleFactory(random_seed=1)
    losses = losses if isinstance(losses, list) else [losses]
    factory.train(losses, optimizer=optimizer, optimization_params={**SGD, **params}, callbacks=callbacks)
    return factory


def evaluator(graph, seen, **options):
    """Writes (step, mean squared error) of each evaluation into `seen`."""

    def add(batch, state):
        total, count = batch.statistics[graph.eval_loss]["loss"]
        state.setdefault("sums", torch.zeros(2)).add_(torch.stack([total, count]))

    def done(state):
        seen.append((callback.step, float(state["sums"][0] / state["sums"][1])))
        return {"error": seen[-1][1]}

    callback = EvaluatorCallback(graph.eval_loss, add, done, **options)
    return callback


def events(folder):
    """The scalars in a TensorBoard folder by tag, as they are on the disk now: [(step, value)]."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


# ActionCallback


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


def test_tensors_are_registered_at_the_updates_a_callback_reads_them(graph):
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


# SimpleLossLoggerCallback


def test_loggers_speak_at_step_1_and_at_their_own_steps(graph, capsys):
    first, second = [], []
    callbacks = [
        SimpleLossLoggerCallback(graph.loss, lambda values: first.append(values), step_freq=3),
        SimpleLossLoggerCallback(
            [graph.prediction, graph.loss], lambda values: second.append(values), step_freq=2
        ),
    ]
    train(graph.loss, callbacks, max_steps=7)
    assert re.findall(r"Step: (\d+)", capsys.readouterr().out) == ["1", "1", "2", "3", "4", "6", "6"]
    assert [len(values) for values in first] == [1, 1, 1]
    prediction, loss = second[0]  # in the order of `tensors`
    assert prediction.shape == (4, 1)
    assert loss.item() == first[0][0].item()


def test_the_print_function_of_the_tutorial_works(graph, capsys):
    callback = SimpleLossLoggerCallback(
        tensors=[graph.loss],
        print_func=lambda x: logging.info(f"Loss: {x[0].item():.3f}"),
        step_freq=2,
    )
    train(graph.loss, [callback], max_steps=2)
    assert len(re.findall(r"Loss: \d+\.\d{3}\n", capsys.readouterr().out)) == 2


def test_a_logger_without_functions_prints_numbers_by_name(graph, capsys):
    _, other = graph.wire(RealFunctionDataLayer(batch_size=4, n=12))
    del other  # wiring more does not change the names
    first = SimpleLossLoggerCallback([graph.prediction, graph.loss, graph.loss], step_freq=1)
    train(graph.loss, [first], max_steps=1)
    out = capsys.readouterr().out
    assert re.search(r"MSELoss/loss: \d+\.\d{4}\n", out)
    assert re.search(r"MSELoss_2/loss: \d+\.\d{4}\n", out)
    assert "TaylorNet" not in out  # is not one number


def test_losses_are_in_tensorboard_when_training_returns(graph, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True, random_seed=1)
    losses, evaluated = [], []
    callbacks = [
        SimpleLossLoggerCallback([graph.loss], lambda x: losses.append(x[0].item()), step_freq=2),
        evaluator(graph, evaluated, eval_step=3),
        SimpleLossLoggerCallback(
            [graph.loss, graph.prediction],
            get_tb_values=lambda values: [("mine", values[0])],
            log_to_tb_func=lambda writer, values, step: writer.add_scalar("size", len(values[1]), step),
            step_freq=5,
        ),
    ]
    train(graph.loss, callbacks, factory, max_steps=7)
    written = events(tmp_path / "tensorboard")
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1  # nobody closed the writer on the way
    assert written["MSELoss/loss"] == [
        (s, pytest.approx(v)) for s, v in zip((1, 2, 4, 6), losses, strict=True)
    ]
    assert written["error"] == [(step, pytest.approx(value)) for step, value in evaluated]
    assert [step for step, _ in written["error"]] == [0, 3, 6, 7]
    assert [step for step, _ in written["mine"]] == [1, 5]
    assert written["size"] == [(1, 4), (5, 4)]
    assert written["param/lr"][0] == (1, pytest.approx(1e-4))
    assert written["misc/epoch"] == [(3, 1), (3, 1), (6, 2), (6, 2)]


def test_what_was_written_before_a_failure_is_on_the_disk(graph, tmp_path):
    class Broken(ActionCallback):
        def on_action_end(self):
            raise LookupError("mine")

    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True)
    with pytest.raises(LookupError):
        train(graph.loss, [SimpleLossLoggerCallback(graph.loss), Broken()], factory, max_steps=1)
    assert "MSELoss/loss" in events(tmp_path / "tensorboard")


def test_only_whole_epochs_are_said_to_have_ended(graph, capsys):
    train(graph.loss, [SimpleLossLoggerCallback(graph.loss)], max_steps=5)
    assert re.findall(r"Epoch \d+ ended", capsys.readouterr().out) == ["Epoch 1 ended"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [([], "tensors: no tensor was given"), (["loss"], "tensors: not a tensor of a graph; found 'loss'")],
)
@pytest.mark.parametrize("make", [SimpleLossLoggerCallback, lambda t: EvaluatorCallback(t, print, print)])
def test_what_is_no_tensor_is_refused(make, tensors, message):
    with pytest.raises(UsageError, match=message):
        make(tensors)


@pytest.mark.parametrize("step_freq", [0, -1])
def test_a_logger_needs_a_frequency(graph, step_freq):
    with pytest.raises(UsageError, match=f"step_freq: out of range; found {step_freq}"):
        SimpleLossLoggerCallback(graph.loss, step_freq=step_freq)


# EvaluatorCallback


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"eval_step": 4}, [0, 4, 7]),
        ({"eval_step": 4, "eval_at_start": False}, [4, 7]),
        ({"eval_step": None, "eval_epoch": 1}, [0, 3, 6, 7]),
        ({"eval_step": -1, "eval_epoch": 2}, [0, 6, 7]),
        ({"eval_step": 3, "eval_epoch": 1}, [0, 3, 6, 7]),
    ],
)
def test_evaluation_comes_by_steps_and_by_epochs(graph, options, steps):
    seen = []
    train(graph.loss, [evaluator(graph, seen, **options)], max_steps=7)
    assert [step for step, _ in seen] == steps


def test_the_arguments_have_the_order_of_0_10(graph):
    written = []
    callback = EvaluatorCallback(
        [graph.eval_loss],
        lambda batch, state: state.setdefault("batches", []).append(batch),
        lambda state: {"batches": len(state["batches"])},
        "writer",
        lambda writer, scalars, step: written.append((writer, dict(scalars), step)),
        2,
        None,
        None,
        None,
        False,
    )
    train(graph.loss, [callback], max_steps=2)
    assert written == [("writer", {"batches": 3}, 2)]


def test_a_batch_has_the_keys_of_0_10_and_lists_of_values(graph):
    batches = []
    callback = EvaluatorCallback(
        [graph.eval_loss], lambda batch, state: batches.append(batch), lambda s: None
    )
    NeuralModuleFactory().eval([callback])
    assert batches[0].keys() == {graph.eval_loss.unique_name, "IS_FROM_DIST_EVAL"}
    assert batches[0]["IS_FROM_DIST_EVAL"] is False
    (value,) = batches[0][graph.eval_loss.unique_name]
    assert value.item() > 0


def test_a_done_callback_may_have_nothing_to_write(graph, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True)
    callback = EvaluatorCallback(graph.eval_loss, lambda batch, state: None, lambda state: None)
    train(graph.loss, [callback], factory, max_steps=1)
    assert events(tmp_path / "tensorboard") == {}


def test_evaluating_again_evaluates_again_with_the_same_result(graph, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True)
    seen = []
    callback = evaluator(graph, seen)
    train(graph.loss, [callback], factory, max_steps=1)
    for _ in range(2):
        factory.eval([callback])
    with torch.no_grad():
        graph.net.fc1.bias.add_(1)
    factory.eval([callback])
    assert [step for step, _ in seen] == [0, 1, 1, 1, 1]
    assert seen[1] == seen[2] == seen[3]
    assert seen[4] != seen[3]
    factory.tb_writer.flush()
    assert len(events(tmp_path / "tensorboard")["error"]) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_step": None}, "never runs"),
        ({"eval_step": 0}, "eval_step: out of range"),
        ({"eval_step": 1, "eval_epoch": -2}, "eval_epoch: out of range"),
    ],
)
def test_an_evaluator_needs_a_time_to_run(graph, options, message):
    with pytest.raises(UsageError, match=message):
        evaluator(graph, [], **options)


def test_evaluation_data_without_a_batch_is_an_error(graph):
    layer = RealFunctionDataLayer(batch_size=4, n=1)
    layer.dataset = torch.utils.data.TensorDataset(torch.zeros(0, 1), torch.zeros(0, 1))
    _, nothing = graph.wire(layer)
    callback = EvaluatorCallback(nothing, lambda batch, state: None, lambda state: None)
    with pytest.raises(DataError, match="no batch to evaluate on"):
        train(graph.loss, [callback], max_steps=1)


# CheckpointCallback


def saved(folder):
    return sorted(int(path.name.removeprefix("STEP-")) for path in folder.glob("STEP-*"))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"step_freq": 2, "epoch_freq": 1}, [2, 3, 4, 6, 7]),
        ({"step_freq": 2}, [2, 4, 6, 7]),
        ({"epoch_freq": 2}, [6, 7]),
        ({"step_freq": 2, "epoch_freq": 1, "checkpoints_to_keep": 2}, [6, 7]),
    ],
)
def test_checkpoints_come_by_steps_and_by_epochs(graph, tmp_path, options, steps):
    options = {"checkpoints_to_keep": 9, **options}
    train(graph.loss, [CheckpointCallback(tmp_path, load_from_folder=None, **options)], max_steps=7)
    assert saved(tmp_path) == steps


def test_without_a_frequency_the_end_is_saved_and_a_warning_says_so(graph, tmp_path, capsys):
    callback = CheckpointCallback(folder=tmp_path, load_from_folder=None)
    assert "only the end of training will be saved" in capsys.readouterr().err
    train(graph.loss, [callback], max_steps=4)
    assert saved(tmp_path) == [4]


def test_a_rerun_goes_on_in_its_folder_and_another_folder_can_be_the_start(tmp_path):
    def run(folder, steps, **options):
        graph = Graph()
        callback = CheckpointCallback(tmp_path / folder, step_freq=2, **options)
        factory = train(graph.loss, [callback], optimizer="adam_w", max_steps=steps)
        return graph.weights(), factory.get_trainer().step

    whole, _ = run("whole", 5)
    run("parts", 3)
    again, step = run("parts", 5)
    assert step == 5
    assert torch.equal(whole, again)
    run("old", 3)
    moved, _ = run("new", 5, load_from_folder=tmp_path / "old")
    assert torch.equal(whole, moved)
    assert saved(tmp_path / "old") == [2, 3]
    with pytest.raises(CheckpointError, match="no checkpoint to continue from"):
        run("none", 5, force_load=True)


def test_two_modules_of_one_class_are_saved_apart(tmp_path):
    def run(seed):
        torch.manual_seed(seed)
        first, second = TaylorNet(2), TaylorNet(2)
        points = RealFunctionDataLayer(batch_size=4, n=12)()
        loss = MSELoss()(predictions=second(x=first(x=points.x)), target=points.y)
        train(loss, [CheckpointCallback(tmp_path, step_freq=1)], max_steps=2)
        return torch.cat([first.fc1.weight, second.fc1.weight]).detach()

    weights = run(seed=0)
    assert torch.equal(run(seed=5), weights)  # continues after the last step, so nothing is trained
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": None}, "no folder to save to; fix: give it a folder, or give the factory log_dir"),
        ({"folder": "x", "step_freq": 0}, "step_freq: out of range; found 0"),
        ({"folder": "x", "checkpoints_to_keep": 0}, "checkpoints_to_keep: out of range; found 0"),
    ],
)
def test_a_checkpointer_that_cannot_save_is_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        CheckpointCallback(**options)


# UnfreezeCallback


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


def test_what_cannot_be_unfrozen_is_refused(graph):
    with pytest.raises(UsageError, match="cannot be unfrozen; found MSELoss"):
        UnfreezeCallback([graph.loss_module])
    with pytest.raises(UsageError, match="start_epoch: out of range; found -1"):
        UnfreezeCallback(graph.net, start_epoch=-1)


# ValueSetterCallback

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


def test_a_resumed_run_goes_on_with_the_values_it_would_have_had(tmp_path):
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
            "found one from step 1 to 6, expected one that starts at step 0",
        ),
        ([Policy(Method.Const(1), 0, 2), Policy(Method.Const(1), 3, 6)], 6, "leave steps out or overlap"),
        ([Policy(Method.Const(1), 0, 4), Policy(Method.Const(1), 3, 6)], 6, "leave steps out or overlap"),
        ([Policy(Method.Const(1), 0, -1)], None, "leave steps out or overlap"),
        ([Policy(Method.Const(1), 0, 5)], 6, "found step 5, expected step 6"),
        ([Policy(Method.Const(1), 0.0, 0.5)], 6, "found step 3, expected step 6"),
        ([Policy(Method.Const(1), 0.0, 1.0)], None, "share of an unknown number of steps"),
        ([], None, "found step 0, expected a later one"),
    ],
)
def test_policies_that_do_not_cover_the_steps_are_refused(policies, total_steps, message):
    with pytest.raises(UsageError, match=message):
        ValueSetterCallback(SimpleNamespace(value=0), "value", policies, total_steps)


def test_an_attribute_that_is_not_there_is_not_made():
    with pytest.raises(UsageError, match=r"SimpleNamespace.valeu: .*did you mean 'value'\?"):
        ValueSetterCallback(SimpleNamespace(value=0), "valeu")


# ModuleSaverCallback


def test_modules_are_saved_by_steps_and_at_the_end_and_old_files_go(graph, tmp_path):
    other = TaylorNet(4)
    foreign = tmp_path / "TaylorNet_mine-STEP-2.safetensors"
    foreign.write_bytes(b"mine")
    saver = ModuleSaverCallback([graph.net, other], step_freq=2, folder=tmp_path, checkpoints_to_keep=2)
    train(graph.loss, [saver], max_steps=7)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        foreign.name,
        *(
            f"TaylorNet_{module.unique_instance_id}-STEP-{step}.safetensors"
            for module in (graph.net, other)
            for step in (6, 7)
        ),
    }
    assert foreign.read_bytes() == b"mine"
    restored = TaylorNet(4)
    restored.restore_from(tmp_path / f"TaylorNet_{graph.net.unique_instance_id}-STEP-7.safetensors")
    assert torch.equal(restored.fc1.weight, graph.net.fc1.weight)


def test_a_step_is_saved_once(graph, tmp_path, capsys):
    train(graph.loss, [ModuleSaverCallback(graph.net, step_freq=2, folder=tmp_path)], max_steps=2)
    assert capsys.readouterr().out.count("is saved to") == 1


def test_without_a_folder_modules_are_saved_in_the_current_one(graph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(graph.loss, [ModuleSaverCallback(graph.net)], max_steps=1)
    assert [path.name for path in tmp_path.iterdir()] == [
        f"TaylorNet_{graph.net.unique_instance_id}-STEP-1.safetensors"
    ]


def test_a_save_that_fails_halfway_leaves_no_file(graph, tmp_path):
    class Full(TaylorNet):
        def save_to(self, path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    saver = ModuleSaverCallback([Full(2)], step_freq=1, folder=tmp_path)
    with pytest.raises(StorageError, match="disk full"):
        train(graph.loss, [saver], max_steps=1)
    assert list(tmp_path.iterdir()) == []


def test_a_saver_that_cannot_save_is_refused_at_once(graph):
    with pytest.raises(UsageError, match="cannot be saved; found MSELoss"):
        ModuleSaverCallback([graph.loss_module])
    with pytest.raises(UsageError, match="step_freq: out of range"):
        ModuleSaverCallback([graph.net], step_freq=0)
    with pytest.raises(UsageError, match="checkpoints_to_keep: out of range"):
        ModuleSaverCallback([graph.net], checkpoints_to_keep=0)


# WandbCallback. wandb itself needs an account: a package of the same name writes down what it is told.

STAND_IN = """
import json, os

run = None

def note(*what):
    with open(os.environ["WANDB_NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")

note("import")

class config:
    @staticmethod
    def update(options, allow_val_change=None):
        note("config", options if isinstance(options, dict) else vars(options))

def init(name=None, project=None):
    global run
    run = object()
    note("init", name, project)

def log(figures, step=None):
    note("log", step, {name: value if isinstance(value, (int, float)) else list(value.shape)
                       for name, value in figures.items()})
"""


@pytest.fixture
def wandb_notes(tmp_path, monkeypatch):
    """Puts the stand-in where `import wandb` finds it; what it was told is read by calling this."""
    import json

    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    notes = tmp_path / "notes"
    monkeypatch.setenv("WANDB_NOTES", str(notes))
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    sys.modules.pop("wandb", None)


def test_wandb_is_told_figures_options_and_evaluations(graph, wandb_notes):
    options = SimpleNamespace(lr=0.01)
    callbacks = [
        WandbCallback([graph.loss, graph.prediction], "first try", "curves", options, update_freq=3),
        evaluator(graph, seen := [], eval_step=3, wandb_name="first try"),
    ]
    assert wandb_notes() == []  # not before a run starts
    train(graph.loss, callbacks, max_steps=4)
    notes = wandb_notes()
    assert notes[:3] == [["import"], ["init", "first try", "curves"], ["config", {"lr": 0.01}]]
    assert {note[0] for note in notes[3:]} == {"log"}  # all to the one run
    logged = [(step, figures) for _, step, figures in notes[3:]]
    assert [(step, set(figures)) for step, figures in logged] == [
        (0, {"error"}),
        (1, {"MSELoss/loss", "TaylorNet/y_pred", "LR"}),
        (3, {"MSELoss/loss", "TaylorNet/y_pred", "LR"}),
        (3, {"error"}),
        (3, {"epoch", "epoch_time"}),
        (4, {"error"}),
    ]
    assert logged[0][1]["error"] == pytest.approx(seen[0][1])
    assert logged[1][1]["LR"] == 1e-4
    assert logged[1][1]["TaylorNet/y_pred"] == [4, 1]
    assert logged[4][1]["epoch"] == 1


def test_an_evaluator_opens_a_run_of_its_own(graph, wandb_notes):
    callback = evaluator(graph, [], eval_step=5, wandb_project="curves")
    train(graph.loss, [callback], max_steps=1)
    assert [note[:3] for note in wandb_notes()[:2]] == [["import"], ["init", None, "curves"]]
    assert [note[1] for note in wandb_notes() if note[0] == "log"] == [0, 1]


@pytest.mark.parametrize("by", ["callback", "evaluator"])
def test_a_missing_wandb_is_one_clear_error_before_training(graph, by, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed, where it is
    options = {"wandb_name": "x", "eval_step": 9, "eval_at_start": False}
    callback = WandbCallback() if by == "callback" else evaluator(graph, [], **options)
    before = graph.weights()
    with pytest.raises(UsageError, match=r"wandb: Weights & Biases cannot be used.*fix: pip install wandb"):
        train(graph.loss, [callback], max_steps=1)
    assert torch.equal(graph.weights(), before)


def test_wandb_callback_refuses_what_it_cannot_log():
    with pytest.raises(UsageError, match="train_tensors: not a tensor of a graph"):
        WandbCallback(["loss"])
    with pytest.raises(UsageError, match="update_freq: out of range"):
        WandbCallback(update_freq=0)


@pytest.mark.slow
def test_who_does_not_ask_for_wandb_never_imports_it(wandb_notes, tmp_path):
    program = """
import sys
import nemo.collections.nlp.callbacks.lm_bert_callback
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import EvaluatorCallback, NeuralModuleFactory, SimpleLossLoggerCallback, WandbCallback
points = RealFunctionDataLayer(batch_size=4, n=4)()
loss = MSELoss()(predictions=TaylorNet(2)(x=points.x), target=points.y)
WandbCallback([loss])
callbacks = [SimpleLossLoggerCallback(loss), EvaluatorCallback(loss, lambda b, s: None, lambda s: {"a": 1})]
NeuralModuleFactory().train([loss], "sgd", {"lr": 0.1, "max_steps": 1}, callbacks)
assert "wandb" not in sys.modules
import wandb
"""
    packages = str(tmp_path / "packages")
    path = os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=PATIENCE
    )
    assert wandb_notes() == [["import"]]  # of the last line only: it was there to be found
