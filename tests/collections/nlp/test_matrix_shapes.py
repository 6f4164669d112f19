"""A run multiplies matrices of a few shapes, whatever the lengths of its sequences; programs are compiled for
shapes, and kept.
"""

import os
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nemo.backends.pytorch import DataLayerNM, PtActions
from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.training import precision
from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import PRETRAINING_BATCH
from nemo.collections.nlp.nm.pretraining_model import wire, with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT

V, D, INNER = 67, 24, 40
SAMPLES = 16
ONEDNN_KEEPS = 1024  # programs, each for one shape


class Texts(DataLayerNM):
    """Batches of ragged sequences, some 15% of the tokens masked: 16, or as many as have the tokens of 16."""

    output_ports = PRETRAINING_BATCH
    vocab_size = V

    def __init__(self, num_batches, by_tokens=False, length=32):
        self.num_batches, self.by_tokens, self.length = num_batches, by_tokens, length

    def __len__(self):
        return self.num_batches

    def batches(self, epoch, first=0, stride=1):
        for i in range(first, self.num_batches, stride):
            generator = torch.Generator().manual_seed(i)
            longest = int(torch.randint(self.length // 2, self.length + 1, (), generator=generator))
            lengths = torch.randint(self.length // 4, longest + 1, (4 * SAMPLES,), generator=generator)
            size = SAMPLES
            if self.by_tokens:
                size = int((lengths.cumsum(0) <= SAMPLES * self.length).sum())
            mask = (torch.arange(self.length) < lengths[:size, None]).long()
            ids = torch.randint(5, V, mask.shape, generator=generator) * mask
            guess = (torch.rand(mask.shape, generator=generator) < 0.15).long() * mask
            guess[:, 0] = 0
            yield [ids, torch.zeros_like(ids), mask, ids, guess, torch.arange(size) % 2]


class Products(TorchDispatchMode):
    """The shapes of matrix products, forward and backward: [M, I] and [I, O] as (M, I, O)."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            left, right = args[-2:]
            self.shapes.add((*left.shape, right.shape[-1]))
        return function(*args, **(kwargs or {}))

    def sizes(self, *sides):
        """What M is in products with a weight of these sides."""
        return {shape[0] for shape in self.shapes if shape[1:] == sides}


def encoder(longest):
    torch.manual_seed(0)
    return BERT(
        vocab_size=V,
        hidden_size=D,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=INNER,
        max_position_embeddings=longest,
    )


@pytest.fixture(autouse=True)
def units(monkeypatch):
    """On any processor what is done on one that multiplies bf16 matrices."""
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: True)


def train(layer, level="O2", **settings):
    loss = wire(with_heads(encoder(layer.length)), layer).total
    action = PtActions(optimization_level=level, device="cpu")
    action.train([loss], "adam_w", {"lr": 1e-3, "num_epochs": 1}, **settings)


def accumulate(layer):
    train(layer, batches_per_step=3)


def evaluate(layer):
    loss = wire(with_heads(encoder(layer.length)), layer).total
    for _ in PtActions(optimization_level="O2", device="cpu").evaluate([loss]):
        pass


def hidden_states(layer):
    data, bert = layer(), encoder(layer.length)
    hidden = bert(
        input_ids=data.input_ids, token_type_ids=data.input_type_ids, attention_mask=data.input_mask
    )
    values = PtActions(optimization_level="O2", device="cpu").infer(hidden, verbose=False)
    assert all(value.shape[1:] == (layer.length, D) for value in values[0])


@pytest.mark.parametrize(("length", "by_tokens"), [(128, False), (512, True)], ids=["128", "512 by tokens"])
@pytest.mark.parametrize("run", [train, accumulate, evaluate, hidden_states], ids=lambda run: run.__name__)
def test_a_run_has_few_sizes(run, length, by_tokens):
    layer = Texts(40, by_tokens, length)
    with Products() as products:
        run(layer)
    of_batches = {int(batch[2].sum()) for batch in layer.batches(0)}
    assert len(of_batches) > 20
    tokens, asked, scored = products.sizes(D, 2 * D), products.sizes(D, INNER), products.sizes(D, V)
    pairs = products.sizes(D, 2)  # what the next-sentence head scores
    assert len(tokens) <= (2 if by_tokens else 20)
    assert len(asked) <= 20 and len(scored) <= 20 and len(pairs) <= 8
    assert len(products.shapes) < ONEDNN_KEEPS / 4


@pytest.mark.slow
@pytest.mark.parametrize("level", ["O0", "O2"])
def test_memory_does_not_grow_with_the_lengths_seen(level):
    """300 batches, no two alike."""
    native.build()
    train(Texts(30), level)
    before = resident_bytes()
    train(Texts(300), level)
    assert resident_bytes() - before < 200e6


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
