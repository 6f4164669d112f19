"""A graph is one torch module, and rows nobody reads are not computed."""

import pytest
import torch

from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.utils.errors import UsageError


def gradients(graph, batch):
    graph.zero_grad()
    values = graph(batch)
    sum(values[t] for t in graph.outputs if t.name == "loss").backward()
    return torch.cat([p.grad.flatten() for p in graph.parameters()])


def test_unread_rows_are_not_computed_and_results_do_not_change(toy, batches):
    layer = batches(samples=8, batch_size=8)  # 0+1+2+3+0+1+2+3 = 12 masked tokens, 8 first tokens
    (batch,) = layer.batches(0)
    model = toy()
    losses = model.wire(layer)
    lean, full = GraphModule(losses), GraphModule(losses, passes=False)

    expected = gradients(full, batch)
    assert model.encoder.rows_computed == [40]
    assert model.head.rows_computed == [40]
    assert torch.allclose(gradients(lean, batch), expected, atol=1e-7)
    assert model.encoder.rows_computed[-1] == 12 + 8
    assert model.head.rows_computed[-1] == 12
    for loss in losses:
        assert torch.allclose(lean(batch)[loss], full(batch)[loss])


def test_a_requested_tensor_is_computed_in_full(toy, batches):
    layer = batches(batch_size=8)
    model = toy()
    losses = model.wire(layer)
    (batch,) = layer.batches(0)
    values = GraphModule([*losses, model.logits])(batch)
    assert values[model.logits].shape == (8, 5, 7)
    assert model.encoder.rows_computed[-1] == 40


def test_a_loss_over_a_step_is_its_sum_over_the_steps_items(toy, batches):
    layer = batches(samples=8, batch_size=4)
    first, second = layer.batches(0)
    model = toy()
    graph = GraphModule(model.wire(layer))
    assert graph.counts(first).tolist() == [6, 4]  # masked tokens, sequences
    divisors = graph.counts(first) + graph.counts(second)
    (whole,) = batches(samples=8, batch_size=8).batches(0)
    for loss in graph.outputs:
        parts = sum(graph(batch, divisors)[loss] for batch in (first, second))
        assert torch.allclose(parts, graph(whole)[loss])


def test_a_batch_with_nothing_masked_gives_zero(toy, batches):
    layer = batches(samples=1, batch_size=1)
    (batch,) = layer.batches(0)
    masked, sequence = toy().wire(layer)
    graph = GraphModule([masked, sequence])
    assert graph(batch)[masked] == 0
    assert torch.isfinite(gradients(graph, batch)).all()


def test_a_module_called_twice_is_one_part_with_two_values(toy, batches):
    data = batches()()
    model = toy()
    once, again = model.encoder(tokens=data.tokens), model.encoder(tokens=data.tokens)
    graph = GraphModule([once, again])
    assert list(graph.neural_modules) == ["Encoder"]
    (batch, *_) = batches().batches(0)
    values = graph(batch)
    assert torch.equal(values[once], values[again])


def test_two_modules_of_a_class_have_two_names(toy, batches):
    data = batches()()
    graph = GraphModule([toy().encoder(tokens=data.tokens), toy().encoder(tokens=data.tokens)])
    assert list(graph.neural_modules) == ["Encoder", "Encoder_2"]


def test_a_graph_has_one_data_layer(toy, batches):
    model = toy()
    losses = [*model.wire(batches()), *model.wire(batches())]
    with pytest.raises(UsageError, match="exactly one call of a data layer; found Batches, Batches"):
        GraphModule(losses)


def test_a_loss_can_be_called_on_real_tensors_by_position_or_by_name(toy, batches):
    _, sequence = toy().wire(batches())
    logits, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    loss = sequence.producer
    expected = torch.nn.functional.cross_entropy(logits, label)
    assert torch.allclose(loss(logits, label), expected)
    assert torch.allclose(loss(logits=logits, label=label), expected)
