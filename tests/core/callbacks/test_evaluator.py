"""When evaluation comes, and what its callbacks get."""

import pytest
import torch

from nemo.backends.pytorch.tutorials import RealFunctionDataLayer
from nemo.core import (
    EvaluatorCallback,
    NeuralModuleFactory,
)
from nemo.utils.errors import DataError, UsageError
from tests.core.sine import evaluator, events, train


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


def test_the_done_callback_may_return_none(graph, tmp_path):
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
