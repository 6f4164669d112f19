"""O1 and O2: bf16 products, float32 for everybody else."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.optim.adamw import OnePassAdamW
from nemo.backends.pytorch.training import precision
from nemo.backends.pytorch.training.precision import Precision
from nemo.collections.nlp.nm.pretraining_model import wire, with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import ActionCallback, CheckpointCallback, UnfreezeCallback
from nemo.core.settings import Optimization
from nemo.utils.errors import UsageError
from tests.collections.nlp.test_graph_passes import Sentences, T, V


@pytest.fixture
def model():
    torch.manual_seed(0)
    return with_heads(
        BERT(
            vocab_size=V,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=T,
        )
    )


def train(model, level, steps=6, optimizer="adam_w", callbacks=(), batches_per_step=1, **params):
    """The losses of a training, the same batches at every level."""
    losses = wire(model, Sentences())
    seen = []

    class Look(ActionCallback):
        def on_iteration_end(self):
            seen.append(self.action.value_of(losses.total).item())

    actions = PtActions(optimization_level=level, seed=1)
    params = {"lr": 0.003, "max_steps": steps, "grad_norm_clip": 1.0, **params}
    actions.train([losses.total], optimizer, params, [*callbacks, Look()], batches_per_step=batches_per_step)
    return seen


def weights(model):
    return {
        name: p.detach().clone() for module in model.neural_modules for name, p in module.named_parameters()
    }


@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("optimizer", ["adam_w", "adam", "sgd", "novograd", "lamb", "muon"])
def test_a_level_learns_what_float32_learns(model, level, optimizer):
    other = copy.deepcopy(model)
    expected = train(model, "O0", optimizer=optimizer)
    assert train(other, level, optimizer=optimizer) == pytest.approx(expected, rel=0.03)


def test_only_within_a_step_are_matrices_bf16(model):
    seen = []
    hook = model.bert.bert.encoder.register_forward_hook(
        lambda module, inputs, output: seen.append({p.dtype for p in module.parameters()} | {output.dtype})
    )

    class Look(ActionCallback):
        def on_iteration_start(self):
            assert {p.dtype for p in model.bert.parameters()} == {torch.float32}

        on_iteration_end = on_epoch_start = on_action_end = on_iteration_start

    word = model.bert.bert.embeddings.word_embeddings.weight
    train(model, "O2", steps=2, callbacks=[Look()])
    hook.remove()
    assert seen == [{torch.bfloat16, torch.float32}] * 2
    assert model.bert.bert.embeddings.word_embeddings.weight is word  # the very same, and tied as before
    assert model.mlm.decoder.weight is word
    assert word.dtype == torch.float32 and not torch.equal(word, word.bfloat16().float())


def test_weights_are_float32_again_after_an_error(model):
    class Stop(ActionCallback):
        def on_iteration_start(self):
            model.bert.bert.encoder.layer[1].register_forward_hook(lambda *_: 1 / 0)

    before = weights(model)
    with pytest.raises(ZeroDivisionError):
        train(model, "O2", callbacks=[Stop()])
    after = weights(model)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_small_steps_accumulate_in_the_master_weights(model):
    """A step of 1e-6 is lost in a bf16 weight, and not in its master."""
    before = weights(model)
    train(model, "O2", steps=3, lr=1e-6)
    after = weights(model)
    name = "bert.encoder.layer.0.output.dense.weight"
    moved = (after[name] - before[name]).abs()
    assert moved.median() > 2e-6 and moved.max() < 4e-6  # rounding would move most of them further
    rounded_equal = after[name].bfloat16() == before[name].bfloat16()
    assert rounded_equal.float().mean() > 0.9


def test_gradients_of_several_batches_are_summed_in_float32():
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    with Precision(Optimization.mxprO2, torch.device("cpu")).matrices([parameter]) as matrices:
        for gradient in (1.0, 1 / 256, 1 / 256):  # in bf16, 1 + 1/256 is 1
            parameter.grad = torch.full((2, 2), gradient, dtype=torch.bfloat16)
            matrices.collect()
    assert parameter.dtype == parameter.grad.dtype == torch.float32
    assert parameter.grad.tolist() == [[1 + 1 / 128] * 2] * 2


def test_sizes_are_rounded_up_where_programs_are_compiled_for_them(monkeypatch):
    cpu, levels = torch.device("cpu"), (Optimization.mxprO0, Optimization.mxprO1, Optimization.mxprO2)
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: True)
    assert [Precision(level, cpu).buckets for level in levels] == [0, 64, 64]
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: False)
    assert [Precision(level, cpu).buckets for level in levels] == [0, 0, 0]  # products are float32's


def test_the_gradient_of_one_batch_may_stay_bf16():
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    precision = Precision(Optimization.mxprO2, torch.device("cpu"))
    for number_of_batches, dtype in ((1, torch.bfloat16), (2, torch.float32)):
        with precision.matrices([parameter], keep_gradients=True) as matrices:
            for _ in range(number_of_batches):
                parameter.grad = torch.ones(2, 2, dtype=torch.bfloat16)
                matrices.collect()
        assert parameter.dtype == torch.float32 and parameter.grad.dtype == dtype
        parameter.grad = None


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_that_was_not_made_scales_no_later_one(clip):
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = OnePassAdamW([weight], lr=0.1)
    precision = Precision(Optimization.mxprO0, torch.device("cpu"))
    weight.grad = torch.full((4,), torch.inf)
    precision.gradient_norm(optimizer, [weight], 1.0)
    weight.grad = torch.full((4,), 0.25)  # its norm is 0.5
    precision.gradient_norm(optimizer, [weight], clip)
    assert optimizer.gradient_scale == 1.0


def test_micro_batches_of_a_step_equal_one_large_batch(toy, batches):
    def run(batch_size, batches_per_step):
        small = toy()
        losses = small.wire(batches(samples=16, batch_size=batch_size))
        actions = PtActions(optimization_level="O2", device="cpu")
        params = {"lr": 0.1, "max_steps": 4, "grad_norm_clip": 0.5}
        actions.train(losses, "sgd", params, batches_per_step=batches_per_step)
        return small.weights()

    torch.testing.assert_close(run(2, 4), run(8, 1), atol=5e-3, rtol=0)


def test_frozen_weights_do_not_change_until_they_are_unfrozen(model):
    name, has_moved = "bert.encoder.layer.0.output.dense.weight", []
    before = weights(model)[name]

    class Look(ActionCallback):
        def on_iteration_end(self):
            has_moved.append(not torch.equal(weights(model)[name], before))

    model.bert.freeze()
    train(model, "O2", steps=4, callbacks=[UnfreezeCallback(model.bert, start_epoch=2), Look()])
    assert has_moved == [False, False, True, True]


def test_optimizers_made_before_training_take_turns(toy, batches):
    def run(level):
        small = toy()
        masked, sequence = small.wire(batches())
        actions = PtActions(optimization_level=level, device="cpu")
        first = actions.create_optimizer("adam_w", [small.encoder, small.head], {"lr": 0.02})
        second = actions.create_optimizer("novograd", small.first, {"lr": 0.02})
        tasks = [(first, [masked]), (second, [sequence])]
        actions.train(tasks, optimization_params={"max_steps": 6})
        return small.weights()

    assert not torch.equal(run("O0"), run("O2"))
    torch.testing.assert_close(run("O0"), run("O2"), atol=0.02, rtol=0)


def test_callbacks_evaluate_and_save_the_masters(toy, batches, tmp_path):
    small = toy()
    losses = small.wire(batches())

    class Save(ActionCallback):
        def on_iteration_end(self):
            list(self.action.evaluate(losses))
            small.encoder.save_to(tmp_path / "encoder.safetensors")

    params = {"lr": 0.01, "max_steps": 2}
    PtActions(optimization_level="O2", device="cpu").train(losses, "adam_w", params, [Save()])
    saved = load_file(tmp_path / "encoder.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in small.encoder.state_dict().items())
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


@pytest.mark.parametrize(("first", "second"), [("O2", "O2"), ("O0", "O2"), ("O2", "O0")])
def test_a_run_goes_on_at_any_level(model, tmp_path, first, second):
    undisturbed = copy.deepcopy(model)
    losses = train(undisturbed, first, steps=6)

    train(model, first, steps=3, callbacks=[CheckpointCallback(tmp_path, step_freq=3)])
    again = copy.deepcopy(model)
    with torch.no_grad():
        for p in again.bert.parameters():
            p.zero_()
    rest = train(again, second, steps=6, callbacks=[CheckpointCallback(tmp_path, step_freq=100)])
    if first == second:
        assert rest == losses[3:]
        expected = weights(undisturbed)
        assert [n for n, w in weights(again).items() if not torch.equal(w, expected[n])] == []
    else:
        assert rest == pytest.approx(losses[3:], rel=0.03)


def test_level_o3_is_refused(model):
    with pytest.raises(UsageError, match="O0, O1 or O2"):
        train(model, "O3")
