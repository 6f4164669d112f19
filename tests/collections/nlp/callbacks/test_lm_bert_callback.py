"""The tutorial's evaluation on a tiny BERT, against numbers computed by hand from the raw batches.

Sample i of the data has 1 + i % 5 tokens to guess and the last batch is short, so a mean of batch means is
another number than the mean over tokens or sentences.
"""

import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import log_softmax

from nemo.backends.pytorch import DataLayerNM, LossNM, NonTrainableNM
from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.backends.pytorch.common.losses import LossAggregatorNM
from nemo.collections.nlp.callbacks.lm_bert_callback import (
    eval_epochs_done_callback,
    eval_iter_callback,
    figures,
)
from nemo.collections.nlp.nm.data_layers.lm_bert_datalayer import PRETRAINING_BATCH
from nemo.collections.nlp.nm.losses import SmoothedCrossEntropyLoss
from nemo.collections.nlp.nm.pretraining_model import with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import (
    ChannelType,
    EvaluatorCallback,
    LogitsType,
    LossType,
    NeuralModuleFactory,
    NeuralType,
)
from nemo.utils.errors import UsageError

SAMPLES, TOKENS, VOCABULARY = 11, 8, 13


class Pairs(DataLayerNM):
    """Random pretraining samples."""

    output_ports = PRETRAINING_BATCH

    def __init__(self, batch_size=4):
        generator = torch.Generator().manual_seed(0)
        output_ids = torch.randint(5, VOCABULARY, (SAMPLES, TOKENS), generator=generator)
        mask = (torch.arange(TOKENS) < 1 + torch.arange(SAMPLES)[:, None] % 5).float()
        self.dataset = torch.utils.data.TensorDataset(
            output_ids.masked_fill(mask.bool(), 4),
            (torch.arange(TOKENS) >= 4).long().expand(SAMPLES, -1),
            torch.ones(SAMPLES, TOKENS, dtype=torch.long),
            output_ids,
            mask,
            torch.randint(0, 2, (SAMPLES,), generator=generator),
        )
        self.batch_size = batch_size


@pytest.fixture
def model():
    torch.manual_seed(0)
    bert = BERT(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=TOKENS,
    )
    model = with_heads(bert)
    for module in model.neural_modules:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)  # far from uniform guesses
    return model


def evaluated(tensors, iter_callback=eval_iter_callback, done_callback=eval_epochs_done_callback):
    """What the tutorial's callbacks report of these tensors."""
    reports = []

    def done(state):
        reports.append((done_callback(state), figures(state)))

    NeuralModuleFactory().eval([EvaluatorCallback(tensors, iter_callback, done, eval_step=1)])
    ((scalars, found),) = reports
    return scalars, found


def by_hand(model):
    """Figures from all samples at once."""
    ids, types, mask, targets, to_guess, labels = Pairs().dataset.tensors
    for module in model.neural_modules:
        module.eval()
    with torch.no_grad():
        hidden = model.bert(input_ids=ids, token_type_ids=types, attention_mask=mask)
        tokens = log_softmax(model.mlm(hidden_states=hidden), -1)
        pairs = log_softmax(model.nsp(hidden_states=hidden), -1)
    guessed = [(i, t) for i in range(SAMPLES) for t in range(TOKENS) if to_guess[i, t]]
    mlm = -sum(float(tokens[i, t, targets[i, t]]) for i, t in guessed) / len(guessed)
    nsp = -sum(float(pairs[i, labels[i]]) for i in range(SAMPLES)) / SAMPLES
    frequency = torch.bincount(torch.tensor([int(targets[i, t]) for i, t in guessed])) / len(guessed)
    return {
        "Dev MLM loss": mlm,
        "Dev MLM accuracy": sum(int(tokens[i, t].argmax() == targets[i, t]) for i, t in guessed)
        / len(guessed),
        "Dev MLM perplexity": math.exp(mlm),
        "Dev unigram entropy": -sum(float(p) * math.log(float(p)) for p in frequency if p > 0),
        "Dev NSP loss": nsp,
        "Dev NSP accuracy": sum(int(pairs[i].argmax() == labels[i]) for i in range(SAMPLES)) / SAMPLES,
        "Dev loss": mlm + nsp,
    }


class Wired:
    """The tutorial's graph with its tensors by name."""

    def __init__(self, model, weights=None):
        self.data = Pairs()()
        self.hidden = model.bert(
            input_ids=self.data.input_ids,
            token_type_ids=self.data.input_type_ids,
            attention_mask=self.data.input_mask,
        )
        self.mlm_logits = model.mlm(hidden_states=self.hidden)
        self.nsp_logits = model.nsp(hidden_states=self.hidden)
        self.mlm = SmoothedCrossEntropyLoss()(
            logits=self.mlm_logits, labels=self.data.output_ids, output_mask=self.data.output_mask
        )
        self.nsp = CrossEntropyLossNM()(logits=self.nsp_logits, labels=self.data.labels)
        self.total = LossAggregatorNM(2, weights)(loss_1=self.mlm, loss_2=self.nsp)


@pytest.mark.parametrize(
    "listed", [["total"], ["mlm", "nsp"], ["total", "mlm", "nsp"], ["mlm_logits", "total"]]
)
def test_figures_are_those_of_all_tokens_and_sentences(model, listed):
    graph = Wired(model)
    scalars, _ = evaluated([getattr(graph, name) for name in listed])
    assert scalars == pytest.approx(by_hand(model), rel=1e-6, abs=1e-6)


def test_batch_means_would_be_other_numbers(model):
    graph, means = Wired(model), []

    def add(batch, state):
        means.append(float(batch[graph.mlm.unique_name][0]))

    NeuralModuleFactory().eval([EvaluatorCallback(graph.mlm, add, lambda state: None)])
    assert abs(sum(means) / len(means) - by_hand(model)["Dev MLM loss"]) > 1e-3


def test_only_a_masked_language_model(model):
    scalars, found = evaluated(Wired(model).mlm)
    expected = {name: value for name, value in by_hand(model).items() if "NSP" not in name}
    expected["Dev loss"] = expected["Dev MLM loss"]
    assert scalars == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found["loss"] == found["mlm_loss"]


def test_the_weights_of_the_aggregator_count_in_the_total(model):
    expected = by_hand(model)
    scalars, _ = evaluated(Wired(model, weights=[1.0, 0.25]).total)
    assert scalars["Dev loss"] == pytest.approx(expected["Dev MLM loss"] + 0.25 * expected["Dev NSP loss"])


def test_several_losses_of_one_class_go_by_their_modules(model):
    graph = Wired(model)
    again = CrossEntropyLossNM()(logits=graph.nsp_logits, labels=graph.data.labels)
    total = LossAggregatorNM(3)(loss_1=graph.mlm, loss_2=graph.nsp, loss_3=again)
    scalars, _ = evaluated(total)
    expected = by_hand(model)
    nsp_loss, nsp_accuracy = expected.pop("Dev NSP loss"), expected.pop("Dev NSP accuracy")
    for name in ("CrossEntropyLossNM", "CrossEntropyLossNM_2"):
        expected |= {f"Dev {name} loss": nsp_loss, f"Dev {name} accuracy": nsp_accuracy}
    assert scalars == pytest.approx(
        expected | {"Dev loss": expected["Dev loss"] + nsp_loss}, rel=1e-6, abs=1e-6
    )


def test_several_masked_losses_have_a_perplexity_each(model):
    graph = Wired(model)
    again = SmoothedCrossEntropyLoss(label_smoothing=0.1)(
        logits=graph.mlm_logits, labels=graph.data.output_ids, output_mask=graph.data.output_mask
    )
    _, found = evaluated([graph.mlm, again])
    first, second = found["SmoothedCrossEntropyLoss_loss"], found["SmoothedCrossEntropyLoss_2_loss"]
    assert first < second
    assert found["SmoothedCrossEntropyLoss_2_perplexity"] == pytest.approx(math.exp(second))
    assert found["loss"] == pytest.approx(first + second)
    assert "mlm_loss" not in found


def test_a_custom_loss_is_reported_under_its_name(model):
    class Length(LossNM):
        """The mean square of the first token's hidden state."""

        input_ports = {"hidden": NeuralType(("B", "T", "D"), ChannelType())}

        def _loss_function(self, hidden):
            return hidden[:, 0].square().mean()

    graph = Wired(model)
    scalars, _ = evaluated([graph.total, Length()(hidden=graph.hidden)])
    assert scalars["Dev loss"] == pytest.approx(by_hand(model)["Dev loss"] + scalars["Dev Length loss"])
    assert scalars["Dev Length loss"] > 0


def test_a_graph_without_a_loss_has_nothing_to_report(model):
    with pytest.raises(UsageError, match=r"no loss to report; found BertTokenClassifier.logits"):
        evaluated(Wired(model).mlm_logits)


def test_where_no_loss_is_listed_the_total_is_of_those_the_graph_has(model):
    class Certainty(NonTrainableNM):
        input_ports = {"loss": NeuralType(elements_type=LossType())}
        output_ports = {"certainty": NeuralType(elements_type=LogitsType())}

        def forward(self, loss):
            return (-loss).exp()

    scalars, _ = evaluated(Certainty()(loss=Wired(model).nsp))
    assert scalars["Dev loss"] == scalars["Dev NSP loss"]


def test_a_total_that_is_not_made_of_losses_alone_is_refused(model):
    class Odd(NonTrainableNM):
        input_ports = {
            "loss": NeuralType(elements_type=LossType()),
            "logits": NeuralType(("B", "D"), LogitsType()),
        }
        output_ports = {"loss": NeuralType(elements_type=LossType())}

        def forward(self, loss, logits):
            return loss * logits.exp().mean()

    graph = Wired(model)
    with pytest.raises(UsageError, match=r"Odd.loss: the mean of this loss cannot be computed"):
        evaluated(Odd()(loss=graph.nsp, logits=graph.nsp_logits))


def test_the_tutorial_reports_both_tasks_on_the_screen_and_in_tensorboard(model, tmp_path, capsys):
    factory = NeuralModuleFactory(log_dir=tmp_path, create_tb_writer=True)
    graph = Wired(model)
    callback = EvaluatorCallback(
        eval_tensors=[graph.total],
        user_iter_callback=eval_iter_callback,
        user_epochs_done_callback=eval_epochs_done_callback,
        eval_step=2,
    )
    factory.train([graph.total], "sgd", {"lr": 1e-3, "max_steps": 2}, [callback])
    assert "Dev MLM loss: " in capsys.readouterr().out
    written = EventAccumulator(str(tmp_path / "tensorboard"))
    written.Reload()
    expected = by_hand(model)
    assert set(written.Tags()["scalars"]) == set(expected)
    last = {name: written.Scalars(name)[-1] for name in expected}
    assert {name: event.value for name, event in last.items()} == pytest.approx(expected, abs=1e-5)
    assert {event.step for event in last.values()} == {2}
