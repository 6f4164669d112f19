"""The loop: updates, accumulation, evaluation, checkpoints."""

import pytest
import torch

from nemo.backends.pytorch import STATISTICS, PtActions
from nemo.core import ActionCallback, CheckpointCallback, NeuralModuleFactory, TrainingPlan
from nemo.utils.errors import CheckpointError, NumericError, UsageError


def train(model, layer, callbacks=(), **plan):
    actions = PtActions("cpu")
    settings = {"optimizer": "sgd", "lr": 0.1, "max_steps": 5, "optimizer_options": {"momentum": 0.9}}
    actions.train(model.wire(layer), TrainingPlan(**{**settings, **plan}), callbacks)
    return actions


@pytest.mark.parametrize(("batch_size", "batches_per_step"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_accumulation_equals_the_large_batch_for_unequal_masked_counts(
    toy, batches, batch_size, batches_per_step
):
    whole, parts = toy(), toy()
    train(whole, batches(samples=16, batch_size=8), max_steps=6)
    layer = batches(samples=16, batch_size=batch_size)
    train(parts, layer, max_steps=6, batches_per_step=batches_per_step)
    assert torch.allclose(whole.weights(), parts.weights(), atol=1e-6, rtol=0)


def test_the_rest_of_an_epoch_makes_an_update_of_its_own(toy, batches):
    layer = batches(samples=10, batch_size=2)  # 5 batches: 2 + 2 + 1
    actions = train(toy(), layer, num_epochs=2, max_steps=None, batches_per_step=2)
    assert (actions.step, actions.epoch_num, actions.items_seen) == (6, 2, 20)


def test_a_loss_of_a_step_is_reported_over_all_its_batches(toy, batches):
    class Keep(ActionCallback):
        def __init__(self, tensors):
            self.tensors, self.seen = tensors, []

        def on_iteration_end(self):
            self.seen.append([float(self.action.value_of(t)) for t in self.tensors])

    def losses(**settings):
        model = toy()
        layer = batches(samples=8, batch_size=settings.pop("batch_size"))
        tensors = model.wire(layer)
        keep = Keep(tensors)
        plan = TrainingPlan("sgd", lr=0.1, max_steps=3, **settings)
        PtActions("cpu").train(tensors, plan, [keep])
        return keep.seen

    assert losses(batch_size=8)[0] == pytest.approx(losses(batch_size=2, batches_per_step=4)[0], rel=1e-6)


def test_max_steps_ends_inside_an_epoch(toy, batches):
    actions = train(toy(), batches(samples=8, batch_size=2), max_steps=6)
    assert (actions.step, actions.epoch_num, actions.batch_in_epoch) == (6, 1, 2)


def test_hooks_come_in_order(toy, batches):
    class Log(ActionCallback):
        def __init__(self):
            self.moments = []

        def __getattribute__(self, name):
            if name.startswith("on_"):
                self.moments.append(name[3:])
            return super().__getattribute__(name)

    log = Log()
    train(toy(), batches(samples=4, batch_size=2), [log], max_steps=None, num_epochs=1)
    update = ["iteration_start", "iteration_end"]
    assert log.moments == [
        "restore", "action_start", "epoch_start", *update, *update, "epoch_end", "action_end"
    ]  # fmt: skip


def test_training_again_with_the_same_seed_gives_the_same_weights(toy, batches):
    first, second, other = toy(dropout=0.5), toy(dropout=0.5), toy(dropout=0.5)
    train(first, batches(shuffle=True))
    torch.rand(3)  # the state of the global generator must not matter
    train(second, batches(shuffle=True))
    train(other, batches(shuffle=True), seed=1)
    assert torch.equal(first.weights(), second.weights())
    assert not torch.equal(first.weights(), other.weights())


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_that_stops_and_resumes_gives_the_same_weights_bit_for_bit(toy, batches, tmp_path, stop):
    def layer():
        return batches(samples=10, batch_size=2, shuffle=True)  # 5 batches, 3 updates an epoch

    def run(model, steps, folder):
        checkpoints = CheckpointCallback(tmp_path / folder, step_freq=1)
        options = {"max_steps": steps, "batches_per_step": 2, "optimizer": "adam_w"}
        return train(model, layer(), [checkpoints], optimizer_options={}, **options)

    whole = toy(dropout=0.3)
    run(whole, 8, "whole")
    run(toy(dropout=0.3), stop, "parts")
    resumed = toy(dropout=0.3)
    with torch.no_grad():
        for module in resumed.modules:
            for parameter in module.parameters():
                parameter.add_(1)  # whatever it starts from is replaced
    actions = run(resumed, 8, "parts")
    assert torch.equal(whole.weights(), resumed.weights())
    assert (actions.step, actions.epoch_num, actions.batch_in_epoch) == (8, 2, 4)


def test_a_checkpoint_of_another_run_is_refused(toy, batches, tmp_path):
    def run(stream):
        callback = CheckpointCallback(tmp_path, step_freq=1, stream=stream)
        train(toy(), batches(), [callback], max_steps=2)

    run({"data": "abc"})
    with pytest.raises(CheckpointError, match="a run with another data; found abc, expected xyz"):
        run({"data": "xyz"})


def test_loading_from_an_empty_folder_is_an_error(toy, batches, tmp_path):
    callback = CheckpointCallback(tmp_path / "mine", load_from_folder=tmp_path / "none", step_freq=1)
    with pytest.raises(CheckpointError, match="no checkpoint to continue from"):
        train(toy(), batches(), [callback])


def test_a_tied_weight_is_one_parameter_and_is_saved_once(toy, batches, tmp_path):
    from nemo.backends.pytorch.actions import trainable_parameters, weights_by_part
    from nemo.backends.pytorch.graph_module import GraphModule
    from nemo.core import WeightShareTransform

    model = toy()
    model.head.tie_weights_with(
        model.encoder,
        ["linear.weight"],
        {"linear.weight": ("embedding.weight", WeightShareTransform.SAME)},
    )
    graph = GraphModule(model.wire(batches()))
    assert model.head.linear.weight is model.encoder.embedding.weight
    assert "Head.linear.weight" not in trainable_parameters(graph)
    assert list(weights_by_part(graph.parts)["Head"]) == ["linear.bias"]

    # Plain SGD moves the shared weight by the sum of both gradients, once.
    before = model.encoder.embedding.weight.detach().clone()
    (batch, *_) = batches().batches(0)
    sum(graph(batch)[loss] for loss in graph.outputs).backward()
    gradient = model.encoder.embedding.weight.grad.clone()
    graph.zero_grad()
    train(model, batches(), max_steps=1, optimizer_options={"momentum": 0.0})
    assert torch.allclose(model.encoder.embedding.weight, before - 0.1 * gradient, atol=1e-7)


def test_a_tie_of_other_sizes_is_refused_with_both(toy):
    model = toy()
    with pytest.raises(UsageError, match=r"shapes differ; found \(2, 4\), expected \(7, 4\)"):
        model.first.tie_weights_with(
            model.encoder, ["linear.weight"], {"linear.weight": ("embedding.weight", _same())}
        )


def _same():
    from nemo.core import WeightShareTransform

    return WeightShareTransform.SAME


def test_a_loss_that_is_not_finite_stops_before_the_update(toy, batches):
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
    options = {"max_steps": 1, "optimizer_options": {"momentum": 0.0}}
    actions = train(free, batches(), **options)
    train(clipped, batches(), grad_norm_clip=actions.grad_norm / 2, **options)
    assert torch.allclose((clipped.weights() - start) * 2, free.weights() - start, atol=1e-6)


def test_evaluation_weighs_batches_by_what_they_count_and_keeps_dropout_off(toy, batches):
    model = toy(dropout=0.5)
    masked, _ = model.wire(batches(samples=8, batch_size=3))
    actions = PtActions("cpu")
    sums = torch.zeros(2)
    for values in actions.evaluate([masked]):
        total, count = values[STATISTICS][masked.unique_name]["loss"]
        sums += torch.stack([total, count])
    whole = toy()
    ((expected,),) = actions.infer([whole.wire(batches(samples=8, batch_size=8))[0]])
    assert sums[0] / sums[1] == pytest.approx(float(expected), rel=1e-6)
    assert model.encoder.training


def test_the_factory_trains_infers_and_refuses_a_second_training(toy, batches, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, random_seed=3)
    model = toy()
    losses = model.wire(batches())
    callback = CheckpointCallback(factory.checkpoint_dir, step_freq=2)
    params = {"lr": 0.1, "num_epochs": 1, "batch_size": 2}
    factory.train(list(losses), optimizer="sgd", optimization_params=params, callbacks=[callback])
    trained = model.weights()
    with torch.no_grad():
        model.first.linear.bias.add_(1)
    factory.infer([losses[1]], checkpoint_dir=factory.checkpoint_dir)
    assert torch.equal(model.first.linear.bias, trained[-2:])
    with pytest.raises(UsageError, match="has trained already"):
        factory.train(list(losses), optimizer="sgd", optimization_params=params)
