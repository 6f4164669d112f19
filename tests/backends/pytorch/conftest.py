"""The smallest graph with an encoder, a masked loss and a sequence loss: everything BERT has, but tiny."""

import pytest
import torch
from torch import nn

from nemo.backends.pytorch import DataLayerNM, LossNM, TrainableNM
from nemo.core import ChannelType, LabelsType, LogitsType, MaskType, NeuralType

TOKENS, WIDTH, CLASSES = 5, 4, 7


class Batches(DataLayerNM):
    """Random tokens; sample i has i % 4 masked tokens, so batches differ in what they count."""

    output_ports = {
        "tokens": NeuralType(("B", "T"), ChannelType()),
        "targets": NeuralType(("B", "T"), LabelsType()),
        "mask": NeuralType(("B", "T"), MaskType()),
        "label": NeuralType(("B",), LabelsType()),
    }

    def __init__(self, samples=8, batch_size=2, shuffle=False):
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, CLASSES, (samples, TOKENS), generator=generator)
        mask = (torch.arange(TOKENS) < torch.arange(samples)[:, None] % 4).float()
        label = torch.randint(0, 2, (samples,), generator=generator)
        self.dataset = torch.utils.data.TensorDataset(tokens, tokens.flip(1), mask, label)
        self.batch_size, self.shuffle = batch_size, shuffle


class Encoder(TrainableNM):
    """Embeds, and mixes each token with the mean of its sequence."""

    input_ports = {"tokens": NeuralType(("B", "T"), ChannelType())}
    output_ports = {"hidden": NeuralType(("B", "T", "D"), ChannelType())}
    selects_rows = True

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, WIDTH)
        self.last = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.rows_computed = []

    def forward(self, tokens, rows=None):
        hidden = self.embedding(tokens)
        hidden = self.dropout(hidden + hidden.mean(1, keepdim=True))
        if rows is not None:
            hidden = hidden.flatten(0, 1)[rows]
        self.rows_computed.append(hidden.numel() // WIDTH)
        return self.last(hidden).tanh()


class Head(TrainableNM):
    """Scores tokens."""

    input_ports = {"hidden": NeuralType(("B", "T", "D"), ChannelType())}
    output_ports = {"logits": NeuralType(("B", "T", "D"), LogitsType())}
    token_wise = True

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, CLASSES)
        self.rows_computed = []

    def forward(self, hidden):
        self.rows_computed.append(hidden.numel() // WIDTH)
        return self.linear(hidden)


class FirstTokenHead(TrainableNM):
    """Scores sequences."""

    input_ports = {"hidden": NeuralType(("B", "T", "D"), ChannelType())}
    output_ports = {"logits": NeuralType(("B", "D"), LogitsType())}
    reads_first_token = True

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)

    def forward(self, hidden):
        return self.linear(hidden[:, 0])


class MaskedLoss(LossNM):
    """Cross entropy of the masked tokens."""

    input_ports = {
        "logits": NeuralType(("B", "T", "D"), LogitsType()),
        "targets": NeuralType(("B", "T"), LabelsType()),
        "mask": NeuralType(("B", "T"), MaskType()),
    }
    count_ports = ("mask",)
    row_mask = "mask"

    def total(self, logits, targets, mask):
        losses = nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
        return (losses * mask.flatten()).sum()

    def count(self, mask):
        return mask.sum()


class SequenceLoss(LossNM):
    """Cross entropy of the sequences."""

    input_ports = {
        "logits": NeuralType(("B", "D"), LogitsType()),
        "label": NeuralType(("B",), LabelsType()),
    }
    count_ports = ("label",)

    def total(self, logits, label):
        return nn.functional.cross_entropy(logits, label, reduction="sum")

    def count(self, label):
        return torch.tensor(float(len(label)))


class Toy:
    """Modules with fixed weights, and their wiring."""

    def __init__(self, dropout=0.0):
        torch.manual_seed(1)
        self.encoder, self.head, self.first = Encoder(dropout), Head(), FirstTokenHead()
        self.modules = (self.encoder, self.head, self.first)

    def wire(self, layer):
        data = layer()
        self.hidden = self.encoder(tokens=data.tokens)
        self.logits = self.head(hidden=self.hidden)
        masked = MaskedLoss()(logits=self.logits, targets=data.targets, mask=data.mask)
        sequence = SequenceLoss()(logits=self.first(hidden=self.hidden), label=data.label)
        return masked, sequence

    def weights(self):
        return torch.cat([p.detach().flatten() for m in self.modules for p in m.parameters()])


@pytest.fixture
def toy():
    return Toy


@pytest.fixture
def batches():
    return Batches
