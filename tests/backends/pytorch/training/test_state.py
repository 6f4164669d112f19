"""What a checkpoint brings back: a run that stops and resumes is the run that never stopped."""

import pytest
import torch

from nemo.backends.pytorch import PtActions
from nemo.core import ActionCallback, CheckpointCallback
from nemo.utils.errors import CheckpointError, UsageError
from tests.backends.pytorch.toy_training import train


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
        return batches(samples=10, batch_size=2, shuffle=True)  # 5 batches, 3 steps an epoch

    def run(model, steps, folder):
        checkpoints = CheckpointCallback(tmp_path / folder, step_freq=1)
        options = {"max_steps": steps, "batches_per_step": 2, "optimizer": "adam_w"}
        return train(model, layer(), [checkpoints], **options)

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
    with pytest.raises(CheckpointError, match="a run with a different data; found abc, expected xyz"):
        run({"data": "xyz"})


@pytest.mark.parametrize(
    ("folder", "fix"),
    [
        ("old", "use the same options, or another --work_dir"),
        ("new", "use the same options, or --bert_checkpoint in place of --load_dir for the weights alone"),
    ],
)
def test_a_refused_checkpoint_comes_with_what_helps_there(toy, batches, tmp_path, folder, fix):
    first, second = (
        CheckpointCallback(
            tmp_path / name, source, step_freq=1, identity={"tokenizer": tokenizer}, stream={"seed": 0}
        )
        for name, source, tokenizer in (("old", None, "a"), (folder, tmp_path / "old", "b"))
    )
    train(toy(), batches(), [first], max_steps=2)
    with pytest.raises(CheckpointError, match="a different tokenizer; .*; fix: " + fix + "$"):
        train(toy(), batches(), [second], max_steps=3)


def test_loading_from_an_empty_folder_is_an_error(toy, batches, tmp_path):
    callback = CheckpointCallback(tmp_path / "mine", load_from_folder=tmp_path / "none", step_freq=1)
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train(toy(), batches(), [callback])


def test_a_tied_weight_is_one_parameter_and_is_saved_once(toy, batches, tmp_path):
    from nemo.backends.pytorch.checkpoints.module_state import parameters_by_name, weights_by_module
    from nemo.backends.pytorch.graph.graph_module import GraphModule
    from nemo.core import WeightShareTransform

    model = toy()
    model.head.tie_weights_with(
        model.encoder,
        ["linear.weight"],
        {"linear.weight": ("embedding.weight", WeightShareTransform.SAME)},
    )
    graph = GraphModule(model.wire(batches()))
    assert model.head.linear.weight is model.encoder.embedding.weight
    assert "Head.linear.weight" not in parameters_by_name(graph.neural_modules)
    assert list(weights_by_module(graph.neural_modules)["Head"]) == ["linear.bias"]

    # Plain SGD moves the shared weight by the sum of both gradients, once.
    before = model.encoder.embedding.weight.detach().clone()
    (batch, *_) = batches().batches(0)
    sum(graph(batch)[loss] for loss in graph.outputs).backward()
    gradient = model.encoder.embedding.weight.grad.clone()
    graph.zero_grad()
    train(model, batches(), max_steps=1, momentum=0.0)
    assert torch.allclose(model.encoder.embedding.weight, before - 0.1 * gradient, atol=1e-7)


def test_a_tie_of_other_sizes_is_refused_with_both(toy):
    model = toy()
    with pytest.raises(UsageError, match=r"different shapes; found \(2, 4\), expected \(7, 4\)"):
        model.first.tie_weights_with(
            model.encoder, ["linear.weight"], {"linear.weight": ("embedding.weight", _same())}
        )


def _same():
    from nemo.core import WeightShareTransform

    return WeightShareTransform.SAME


def test_counters_and_optimizers_round_trip_through_a_file_without_pickle(toy, batches, tmp_path):
    path = tmp_path / "optimizer.pt"
    model = toy()
    actions = PtActions(device="cpu")
    for lr, name in enumerate(("sgd", "novograd", "adam", "adam_w"), start=1):
        actions.create_optimizer(name, [model.head], {"lr": float(lr)})
    model.head(torch.ones(2, 5, 4), force_pt=True).sum().backward()
    for optimizer in actions.optimizers:
        optimizer.step()
    moments = actions.optimizers[3].state[model.head.linear.weight]["exp_avg"].clone()
    actions.save_state_to(path)
    actions.step, actions.epoch_num = 123, 324
    for optimizer in actions.optimizers:
        optimizer.param_groups[0]["lr"] = 7.0
        optimizer.state.clear()
    actions.restore_state_from(path)
    assert [o.param_groups[0]["lr"] for o in actions.optimizers] == [1.0, 2.0, 3.0, 4.0]
    assert torch.equal(actions.optimizers[3].state[model.head.linear.weight]["exp_avg"], moments)
    assert (actions.step, actions.epoch_num) == (0, 0)
    with pytest.raises(CheckpointError, match="a different number of optimizers; found 4, expected 0"):
        PtActions(device="cpu").restore_state_from(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: not the state of these optimizers"):
        actions.restore_state_from(path)


def test_a_module_that_is_unfrozen_on_the_way_is_trained_and_resumes(toy, batches, tmp_path):
    class Unfreeze(ActionCallback):
        def __init__(self, module):
            self.module = module

        def on_iteration_start(self):
            if self.step >= 2:
                self.module.unfreeze()

    def run(model, steps, folder):
        model.head.freeze()
        callbacks = [Unfreeze(model.head), CheckpointCallback(tmp_path / folder, step_freq=1)]
        train(model, batches(), callbacks, optimizer="adam_w", max_steps=steps)

    frozen, whole = toy(), toy()
    start = frozen.head.linear.weight.detach().clone()
    run(frozen, 2, "frozen")
    assert torch.equal(frozen.head.linear.weight, start)
    run(whole, 6, "whole")
    assert not torch.equal(whole.head.linear.weight, start)
    run(toy(), 4, "parts")
    resumed = toy()
    run(resumed, 6, "parts")
    assert torch.equal(whole.weights(), resumed.weights())
