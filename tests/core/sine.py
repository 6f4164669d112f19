"""The smallest real graph: 12 points of a sine in 3 batches, so 3 steps an epoch."""

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import (
    EvaluatorCallback,
    NeuralModuleFactory,
)

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
