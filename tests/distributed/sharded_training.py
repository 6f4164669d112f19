"""Trainings of a small BERT, sharded and not; run by torchrun, see test_sharding.py.

Usage: sharded_training.py FOLDER CASE ..., each of `CASES`; results go to FOLDER/<case>/<rank>.pt.
"""

import sys
from pathlib import Path

import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.distributed.world import join
from nemo.collections.nlp.callbacks import lm_bert_callback
from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import PRETRAINING_BATCH
from nemo.collections.nlp.nm.pretraining_model import wire, with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    ModuleSaverCallback,
    NeuralModuleFactory,
)
from nemo.utils.errors import UsageError

V, D, T, LAYERS = 101, 32, 12, 3  # 101 rows do not divide

CASES = {
    "plain": dict(),
    "sharded": dict(shard=True),
    "accumulated": dict(batches_per_step=2, max_steps=6),
    "accumulated_sharded": dict(batches_per_step=2, max_steps=6, shard=True),
    "lamb": dict(optimizer="lamb", weight_decay=0.01, max_steps=10),
    "lamb_sharded": dict(optimizer="lamb", weight_decay=0.01, max_steps=10, shard=True),
    "novograd": dict(optimizer="novograd", luc=True, max_steps=10),
    "novograd_sharded": dict(optimizer="novograd", luc=True, max_steps=10, shard=True),
    "larc": dict(optimizer="sgd", larc=True, lr=0.1, max_steps=10),
    "larc_sharded": dict(optimizer="sgd", larc=True, lr=0.1, max_steps=10, shard=True),
    "bf16_sharded": dict(level="O1", max_steps=10, shard=True),
    "muon_sharded": dict(optimizer="muon", max_steps=1, shard=True),
    "saver_sharded": dict(saver=True, max_steps=1, shard=True),
    "one_batch": dict(num_batches=1, max_steps=3),
    "one_batch_sharded": dict(num_batches=1, max_steps=3, shard=True),
    "again_sharded": dict(max_steps=5, again=True, shard=True),
    "first": dict(max_steps=10, checkpoints=True, shard=True),
    "second": dict(max_steps=20, checkpoints=True, batches_per_step=2),  # of one process
    "third": dict(max_steps=30, checkpoints=True, shard=True),
}


class Sentences(DataLayerNM):
    """Ragged sequences, a third of the tokens masked; another epoch has others."""

    output_ports = PRETRAINING_BATCH
    vocab_size = V
    items = "tokens"

    def __init__(self, num_batches):
        super().__init__()
        self._num_batches = num_batches

    def __len__(self):
        return self._num_batches * self.batch_size

    def batches(self, epoch, first=0, stride=1):
        for number in range(first, self._num_batches, stride):
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            size = 4 + number % 3
            ids = torch.randint(5, V, (size, T), generator=generator)
            lengths = torch.randint(5, T + 1, (size, 1), generator=generator)
            mask = (torch.arange(T) < lengths).long()
            guess = (torch.rand((size, T), generator=generator) < 0.3).long() * mask
            types = (torch.arange(T) > 4).long() * mask
            yield [ids * mask, types, mask, ids, guess, torch.arange(size) % 2]

    def samples_before(self, batch):
        return batch

    def batch_after(self, samples):
        return samples


class Recorder(ActionCallback):
    """Losses, and in the second step how much this process holds and how often gradients are sent."""

    def __init__(self, model, losses):
        self.tensors, self.model = [losses.total], model
        self.found = {"losses": [], "norms": []}

    def on_iteration_end(self):
        self.found["losses"].append(float(self.action.value_of(self.tensors[0])))
        self.found["norms"].append(self.action.grad_norm)
        sums = next(iter(self.action.replicas._sums.values()), None)
        if self.step == 2 and sums is not None:
            optimizer = self.action.optimizers[0]
            local = [
                getattr(p, "_local_tensor", p)
                for module in self.model.neural_modules
                for p in module.parameters()
            ]
            self.found["elements"] = sum(p.numel() for p in dict.fromkeys(local))
            self.found["moments"] = sum(t.numel() for s in optimizer.state.values() for t in s.values())
            self.found["messages"], self.found["bytes"] = sums.num_messages, sums.num_bytes
            self.found["is_tied"] = (
                self.model.mlm.mlp.last_linear_layer.weight
                is self.model.bert.bert.embeddings.word_embeddings.weight
            )


def make_model():
    return with_heads(
        BERT(
            vocab_size=V,
            hidden_size=D,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=T,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,
        )
    )


def parameters_of(model):
    return {f"{module}.{name}": p for module in model.neural_modules for name, p in module.named_parameters()}


def classes_of(model):
    return [type(m) for module in model.neural_modules for m in module.modules()]


def num_hooks(model):
    return sum(
        len(hooks)
        for module in model.neural_modules
        for m in module.modules()
        for name, hooks in vars(m).items()
        if name.endswith("_hooks") and hooks
    )


def train(
    folder,
    shard=False,
    optimizer="adam_w",
    level="O0",
    max_steps=30,
    batches_per_step=1,
    num_batches=7,  # the last step of an epoch has one for the first process alone
    checkpoints=False,
    saver=False,
    again=False,
    lr=0.003,
    **params,
):
    """Train, and return what was found on the way."""
    factory = NeuralModuleFactory(random_seed=1, optimization_level=level, shard=shard)
    model = make_model()
    parameters, classes = parameters_of(model), classes_of(model)
    losses = wire(model, Sentences(num_batches))
    recorder, figures = Recorder(model, losses), []

    def keep(state):
        figures.append(lm_bert_callback.figures(state)["loss"])

    evaluated = [wire(model, Sentences(3)).total]
    callbacks = [
        recorder,
        EvaluatorCallback(evaluated, lm_bert_callback.eval_iter_callback, keep, eval_step=5),
    ]
    if checkpoints:
        callbacks.append(CheckpointCallback(folder.parent / "checkpoints", step_freq=5))
    if saver:
        callbacks.append(ModuleSaverCallback(model.bert, folder=folder))
    for reset in (False, True) if again else (False,):
        factory.train(
            [losses.total],
            optimizer=optimizer,
            # Of a gradient that is nothing but rounding, Adam would make a whole step.
            optimization_params={"lr": lr, "max_steps": max_steps, "grad_norm_clip": 1.0, "eps": 1e-5}
            | params,
            callbacks=callbacks,
            batches_per_step=batches_per_step,
            reset=reset,
        )
    for module in model.neural_modules:
        module.load_state_dict(module.state_dict())
    figures.append(loss_after(factory, evaluated))
    after = parameters_of(model)
    return {
        **recorder.found,
        "figures": figures,
        "weights": {name: p.detach() for name, p in after.items()},
        "are_same_parameters": after.keys() == parameters.keys()
        and all(after[name] is p for name, p in parameters.items()),
        "are_same_classes": classes_of(model) == classes,
        "hooks": num_hooks(model),
    }


def loss_after(factory, tensors):
    """The loss that this process finds by itself, when training is over."""
    state = {}
    for batch in factory.get_trainer().evaluate(tensors):
        lm_bert_callback.eval_iter_callback(batch, state)
    return lm_bert_callback.figures(state)["loss"]


def main(folder, *cases):
    torch.set_num_threads(1)
    with join(torch.device("cpu"), 60.0) as world:
        for case in cases:
            target = folder / case
            target.mkdir(parents=True, exist_ok=True)
            try:
                found = train(target, **CASES[case])
            except UsageError as problem:
                found = {"problem": str(problem)}  # the same in all processes
            torch.save(found, target / f"{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
