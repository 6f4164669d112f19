"""The loop: steps, accumulation, evaluation, checkpoints."""

import pytest
import torch

from nemo.core import CheckpointCallback, NeuralModuleFactory
from nemo.utils.errors import UsageError


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


def test_synced_batchnorm_is_refused_with_several_processes(toy, batches):
    factory = NeuralModuleFactory()
    factory.train(toy().wire(batches()), "sgd", {"lr": 0.1, "max_steps": 1}, synced_batchnorm=True)
    factory.world_size = 2
    with pytest.raises(UsageError, match=r"batch norms are not synchronized.*True with 2 processes"):
        factory.train(toy().wire(batches()), "sgd", {"lr": 0.1}, synced_batchnorm=True, reset=True)
