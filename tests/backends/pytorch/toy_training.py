"""Training of the toy model, as tests of the backend want it."""

from nemo.backends.pytorch import PtActions


def train(model, layer, callbacks=(), optimizer="sgd", seed=0, batches_per_step=1, **params):
    actions = PtActions(device="cpu", seed=seed)
    params = {"lr": 0.1, "max_steps": 5, **params}
    actions.train(model.wire(layer), optimizer, params, callbacks, batches_per_step=batches_per_step)
    return actions
