"""Evaluation and inference."""

import inspect

import pytest
import torch

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.inference import Inference
from nemo.core import ActionCallback, CheckpointCallback, NeuralModuleFactory
from nemo.core.actions import InferenceOptions
from nemo.utils.errors import CheckpointError, UsageError
from tests.backends.pytorch.toy_training import train


def test_evaluation_weighs_batches_by_count_and_keeps_dropout_off(toy, batches):
    model = toy(dropout=0.5)
    masked, _ = model.wire(batches(samples=8, batch_size=3))
    actions = PtActions(device="cpu")
    sums = torch.zeros(2)
    for values in actions.evaluate([masked]):
        total, count = values.statistics[masked]["loss"]
        sums += torch.stack([total, count])
    whole = toy()
    ((expected,),) = actions.infer([whole.wire(batches(samples=8, batch_size=8))[0]])
    assert sums[0] / sums[1] == pytest.approx(float(expected), rel=1e-6)
    assert model.encoder.training


def test_inference_computes_only_what_is_not_cached(toy, batches):
    factory = NeuralModuleFactory()
    model = toy()
    layer = batches(samples=6, batch_size=2)
    model.wire(layer)
    (logits,) = factory.infer([model.logits], cache=True, verbose=False)
    assert [tuple(value.shape) for value in logits] == [(2, 5, 7)] * 3
    with torch.no_grad():
        model.encoder.embedding.weight.zero_()  # not read again
    second = model.head(hidden=model.hidden)
    (again,) = factory.infer(second, use_cache=True, verbose=False)
    assert all(torch.equal(a, b) for a, b in zip(logits, again, strict=True))
    assert len(model.encoder.rows_computed) == 3 and len(model.head.rows_computed) == 6


def test_caches_that_contradict_each_other_are_refused(toy, batches):
    factory = NeuralModuleFactory()
    model, other = toy(), toy()
    model.wire(batches())
    other.wire(batches())
    with pytest.raises(ValueError, match="use_cache was set, but cache was empty"):
        factory.infer([model.hidden], use_cache=True)
    factory.infer([model.hidden], cache=True)
    with pytest.raises(ValueError, match="cache was set but was not empty"):
        factory.infer([model.hidden], cache=True)
    with pytest.raises(ValueError, match="cache and use_cache were both set; fix"):
        factory.infer([model.hidden], cache=True, use_cache=True)
    with pytest.raises(ValueError, match="the cache was filled from different data"):
        factory.infer([other.hidden], use_cache=True)
    factory.clear_cache()
    factory.infer([model.hidden], cache=True)


def test_inference_restores_the_requested_modules(toy, batches, tmp_path):
    def biases(model):
        return [model.head.linear.bias.detach().clone(), model.first.linear.bias.detach().clone()]

    model = toy()
    seen = {}

    class Remember(ActionCallback):
        def on_iteration_end(self):
            seen[self.step] = biases(model)

    callbacks = [CheckpointCallback(tmp_path, step_freq=1), Remember()]
    actions = train(model, batches(), callbacks, max_steps=3)
    masked, sequence = model.wire(batches())
    actions.infer(
        [masked, sequence], checkpoint_dir=tmp_path, ckpt_pattern="STEP-2", modules_to_restore=[model.first]
    )
    head, first = biases(model)
    assert torch.equal(head, seen[3][0]) and torch.equal(first, seen[2][1])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        actions.infer([masked], checkpoint_dir=tmp_path, ckpt_pattern="STEP-9")


def test_an_unknown_option_of_infer_is_refused_with_the_nearest(toy, batches):
    with pytest.raises(UsageError, match=r"unknown option of infer.*did you mean 'use_cache'"):
        PtActions().infer(toy().wire(batches()), use_cash=True)
    with pytest.raises(TypeError, match="use_cash"):
        NeuralModuleFactory().infer(toy().wire(batches()), use_cash=True)


def test_the_backend_takes_the_factorys_options_of_infer():
    asked = inspect.signature(NeuralModuleFactory.infer).parameters
    computed = inspect.signature(Inference.infer).parameters
    assert [*asked] == ["self", "tensors", *InferenceOptions.__annotations__] == [*computed]
    assert [p.default for p in asked.values()] == [p.default for p in computed.values()]
