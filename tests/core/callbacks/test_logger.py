"""What the logger says, and where it writes."""

import re

import pytest

from nemo import logging
from nemo.backends.pytorch.tutorials import RealFunctionDataLayer
from nemo.core import (
    ActionCallback,
    EvaluatorCallback,
    NeuralModuleFactory,
    SimpleLossLoggerCallback,
)
from nemo.utils.errors import UsageError
from tests.core.sine import evaluator, events, train


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


def test_events_before_a_failure_are_on_disk(graph, tmp_path):
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
    [([], "tensors: no tensor given"), (["loss"], "tensors: not a tensor of a graph; found 'loss'")],
)
@pytest.mark.parametrize("make", [SimpleLossLoggerCallback, lambda t: EvaluatorCallback(t, print, print)])
def test_a_value_that_is_not_a_tensor_is_refused(make, tensors, message):
    with pytest.raises(UsageError, match=message):
        make(tensors)


@pytest.mark.parametrize("step_freq", [0, -1])
def test_a_logger_needs_a_frequency(graph, step_freq):
    with pytest.raises(UsageError, match=f"step_freq: out of range; found {step_freq}"):
        SimpleLossLoggerCallback(graph.loss, step_freq=step_freq)
