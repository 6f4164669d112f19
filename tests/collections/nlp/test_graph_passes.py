"""The passes over BERT's graph: the same losses and gradients, without the work that nobody reads."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nemo.backends.pytorch import DataLayerNM, PtActions
from nemo.backends.pytorch.graph import graph_module
from nemo.backends.pytorch.graph.graph_module import GraphModule
from nemo.backends.pytorch.ops import native
from nemo.backends.pytorch.ops.packing import bucket_size
from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import PRETRAINING_BATCH
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.collections.nlp.nm.pretraining_model import wire, with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import ActionCallback

V, B, T, D, LAYERS = 67, 6, 20, 24, 3
LENGTHS = [20, 3, 11, 20, 7, 15]


class Sentences(DataLayerNM):
    """One batch of ragged sequences, a fifth of the tokens masked."""

    output_ports = PRETRAINING_BATCH
    vocab_size = V

    def __len__(self):
        return B

    def batches(self, epoch, first=0, stride=1):
        if first > 0:
            return
        generator = torch.Generator().manual_seed(epoch)
        ids = torch.randint(5, V, (B, T), generator=generator)
        mask = (torch.arange(T) < torch.tensor(LENGTHS)[:, None]).long()
        types = (torch.arange(T) > 4).long().expand(B, T) * mask
        guess = (torch.rand((B, T), generator=generator) < 0.2).long() * mask
        yield [ids * mask, types, mask, ids, guess, torch.arange(B) % 2]


@pytest.fixture
def model():
    torch.manual_seed(0)
    bert = BERT(
        vocab_size=V,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=T,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return with_heads(bert)


class Recorder(TorchDispatchMode):
    """What torch computes, forward and backward: shapes of matrix products, and every size that is made."""

    def __init__(self):
        super().__init__()
        self.products, self.sizes, self.made = [], [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            left, right = args[-2:]
            self.products.append((left.shape[0], left.shape[1], right.shape[1]))
        if isinstance(out, torch.Tensor):
            self.sizes.append(out.numel())
            if not function.is_view and not function._schema.name.endswith("_"):
                self.made.append((function.overloadpacket.__name__, out.numel()))
        return out


def run(compute, batch, graph=None):
    graph = graph or compute
    graph.zero_grad()
    values = compute(batch)
    sum(values[loss] for loss in graph.outputs[:1]).backward()
    return {
        "values": [values[tensor].detach() for tensor in graph.outputs],
        "gradients": {name: p.grad.to_dense() for name, p in graph.named_parameters() if p.grad is not None},
    }


def test_losses_and_gradients_are_the_same_with_passes_on_and_off(model):
    layer = Sentences()
    losses = wire(model, layer)
    tensors = [losses.total, losses.mlm, losses.nsp]
    (batch,) = layer.batches(0)
    lean, full = (run(GraphModule(tensors, passes=passes), batch) for passes in (True, False))
    torch.testing.assert_close(lean["values"], full["values"], atol=1e-6, rtol=1e-6)
    assert lean["gradients"].keys() == full["gradients"].keys()
    for name, gradient in full["gradients"].items():
        torch.testing.assert_close(lean["gradients"][name], gradient, atol=2e-6, rtol=1e-4, msg=name)


def test_embeddings_add_looked_up_rows_to_the_tied_heads_gradient(model):
    layer = Sentences()
    (batch,) = layer.batches(0)
    graph = GraphModule([wire(model, layer).total])
    with Recorder() as recorder:
        run(graph, batch)
    weight = model.bert.bert.embeddings.word_embeddings.weight
    assert weight.grad.layout is torch.strided
    # One table of zeros for each of the small embeddings, none for the words.
    made = [name for name, size in recorder.made if size == V * D]
    assert made[0] == "mm" and "zeros" not in made and "embedding_dense_backward" not in made
    assert not model.bert.bert.embeddings.word_embeddings.sparse  # elsewhere its gradient is dense


def test_only_masked_rows_enter_the_vocabulary_product(model):
    layer = Sentences()
    (batch,) = layer.batches(0)
    masked, real = int(batch[4].sum()), sum(LENGTHS)
    with Recorder() as recorder:
        run(GraphModule([wire(model, layer).total]), batch)
    into_vocabulary = [shape for shape in recorder.products if shape[1:] == (D, V)]
    assert into_vocabulary == [(masked, D, V)]
    # No scores of all tokens, nor of all real ones; the largest things are of masked rows, or a layer's.
    assert not {B * T * V, real * V} & set(recorder.sizes)


def test_padding_enters_no_product_and_unread_rows_are_not_computed(model):
    layer = Sentences()
    (batch,) = layer.batches(0)
    read = int(batch[4].sum()) + B
    with Recorder() as recorder:
        GraphModule([wire(model, layer).total])(batch)
    feed_forward = [shape[0] for shape in recorder.products if shape[1:] == (D, 40)]
    assert feed_forward == [sum(LENGTHS)] * (LAYERS - 1) + [read]


def test_a_callback_that_requests_scores_gets_all_of_them(model):
    layer = Sentences()
    data = layer()
    hidden = model.bert(
        input_ids=data.input_ids, token_type_ids=data.input_type_ids, attention_mask=data.input_mask
    )
    logits = model.mlm(hidden_states=hidden)
    loss = SmoothedCrossEntropyLoss()(logits=logits, labels=data.output_ids, output_mask=data.output_mask)
    seen = []

    class Look(ActionCallback):
        tensors = (logits,)

        def on_iteration_end(self):
            seen.append(self.action.value_of(logits))

    PtActions().train([loss], "sgd", {"lr": 1e-9, "max_steps": 1}, [Look()])
    (scores,) = seen
    assert scores.shape == (B, T, V)
    (batch,) = layer.batches(0)
    expected = model.mlm(force_pt=True, hidden_states=model.bert(*batch[:3], force_pt=True))
    torch.testing.assert_close(scores, expected.detach(), atol=1e-5, rtol=1e-5)


def test_rounding_rows_up_to_a_few_sizes_changes_nothing_but_the_sizes(model, monkeypatch):
    monkeypatch.setattr(graph_module, "FIRST_TOKEN_BUCKETS", 1)  # six first tokens become more
    assert B % bucket_size(B, 1) != 0
    layer = Sentences()
    losses = wire(model, layer)
    graph = GraphModule([losses.total, losses.mlm, losses.nsp])
    sizes = set()
    for epoch in range(6):
        (batch,) = layer.batches(epoch)
        exact = run(graph, batch)
        plan = graph.plan_rows(batch, buckets=2)
        rounded = run(lambda batch, plan=plan: graph(batch, row_plan=plan), batch, graph)
        torch.testing.assert_close(rounded["values"], exact["values"], atol=1e-6, rtol=1e-6)
        for name, gradient in exact["gradients"].items():
            torch.testing.assert_close(rounded["gradients"][name], gradient, atol=2e-6, rtol=1e-4, msg=name)
        (packing,) = plan.packings.values()
        sizes.add((len(packing.tokens), len(packing.requested)))
    assert len(sizes) < 6


def test_hidden_states_of_padding_too_do_not_depend_on_the_sizes(model):
    layer = Sentences()
    data = layer()
    hidden = model.bert(
        input_ids=data.input_ids, token_type_ids=data.input_type_ids, attention_mask=data.input_mask
    )
    graph = GraphModule([hidden])
    (batch,) = layer.batches(0)
    with torch.no_grad():
        exact = graph(batch)[hidden]
        rounded = graph(batch, row_plan=graph.plan_rows(batch, buckets=7))[hidden]
        expected = model.bert(*batch[:3], force_pt=True)
    assert rounded.shape == (B, T, D)
    torch.testing.assert_close(rounded, exact, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(rounded, expected, atol=1e-6, rtol=1e-6)


def test_training_with_kernels_and_without_is_the_same_training(model, monkeypatch):
    """Dropout included: its masks do not depend on who computes them."""
    if not native.build():
        pytest.skip(native.library.problem)
    weights = copy.deepcopy(model)
    for part in weights.bert.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1
        if hasattr(part, "dropout_prob"):
            part.dropout_prob = 0.1

    def losses_of_training():
        trained = copy.deepcopy(weights)
        loss = wire(trained, Sentences()).total
        seen = []

        class Look(ActionCallback):
            def on_iteration_end(self):
                seen.append(self.action.value_of(loss).item())

        PtActions(seed=3).train([loss], "adam_w", {"lr": 0.01, "max_steps": 12}, [Look()])
        return seen

    with_kernels = losses_of_training()
    monkeypatch.setattr(native.library, "kernels", None)
    without = losses_of_training()
    assert with_kernels == pytest.approx(without, rel=1e-4)
    assert with_kernels != without
