"""Evaluates a trained model: held-out figures, and predictions for masked words.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from nemo.backends.pytorch import PtActions
from nemo.collections.nlp.callbacks import lm_bert_callback
from nemo.collections.nlp.checkpoints.loading import Pretrained
from nemo.collections.nlp.data.datasets import BertPretrainingDataset, BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.hdf5 import holds_shards_instead_of_text
from nemo.collections.nlp.data.inputs import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.places import place_of
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.store.token_store import held_out_in, open_or_build
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer, BertPretrainingPreprocessedDataLayer
from nemo.collections.nlp.nm.pretraining_model import PretrainingLosses, wire
from nemo.collections.nlp.predicting import Prediction, best_predictions
from nemo.collections.nlp.pretraining.data_files import held_out_text
from nemo.utils.errors import UsageError
from nemo.utils.progress import working

DEFAULT = Sampling(max_seq_length=None)


def held_out_figures(actions: PtActions, losses: PretrainingLosses) -> dict[str, float]:
    """One pass over the evaluation data, see `lm_bert_callback.figures`."""
    state: dict = {}
    with working("evaluating"):
        for values in actions.evaluate([losses.total]):
            lm_bert_callback.eval_iter_callback(values, state)
    return lm_bert_callback.figures(state)


def evaluate(
    pretrained: Pretrained,
    dataset: str | Path,
    sampling: Sampling = DEFAULT,
    batch_size: int = 32,
    text: TextOptions = AUTO,
) -> dict[str, float]:
    """Figures on text or shards; every call with the same sampling uses the same pairs and masks.

    Args:
        dataset: text, a shard, or a folder of either; a token store, or the output of `nemo-bert prepare`. If
            it has held-out data, only this is used.
        sampling: how samples and masks are drawn; for text, the default length is the model's positions.
        text: how text is read.

    Raises:
        UsageError: the length or the masks do not fit the model or the data.
        DataError: the data is not usable, or was made with a different tokenizer.
    """
    max_seq_length = sampling.max_seq_length
    positions = pretrained.model.bert.settings.max_position_embeddings
    if max_seq_length is not None and max_seq_length > positions:
        raise UsageError(
            "longer than the model allows",
            where="--max_seq_length",
            found=max_seq_length,
            expected=f"{positions} or less",
        )
    dataset = held_out_in(dataset) or dataset
    only_mlm_loss = pretrained.model.nsp is None
    layer: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer
    if holds_shards_instead_of_text(dataset):
        rows = BertPretrainingPreprocessedDataset(
            dataset,
            mode="eval",
            sampling=sampling,
            tokenizer=pretrained.tokenizer,
            only_mlm_loss=only_mlm_loss,
        )
        length = rows.max_seq_length
        if length > positions or max_seq_length not in (None, length):
            raise UsageError(
                "the shards have rows of a different length",
                where=dataset,
                found=length,
                expected=max_seq_length or f"{positions}, the model's positions, or less",
            )
        layer = BertPretrainingPreprocessedDataLayer.over(rows, batch_size)
    else:
        sampling = replace(sampling, max_seq_length=max_seq_length or positions).of_text()
        path = held_out_text(place_of(dataset), text)
        store = open_or_build(path, pretrained.tokenizer, options=text)
        pairs = BertPretrainingDataset(pretrained.tokenizer, store, sampling, path, only_mlm_loss)
        layer = BertPretrainingDataLayer.over(pairs, batch_size)
    return held_out_figures(PtActions(), wire(pretrained.model, layer))


def table(figures: Mapping[str, float]) -> str:
    """A readable table of figures, with the gap between loss and unigram entropy."""
    rows = [f"{name.replace('_', ' '):<18}{value:9.4f}" for name, value in figures.items()]
    if {"mlm_loss", "unigram_entropy"} <= figures.keys():
        gain = figures["unigram_entropy"] - figures["mlm_loss"]
        rows.append(f"{'below unigram':<18}{gain:9.4f} nat")
    return "\n".join(rows)


def fill_mask(pretrained: Pretrained, text: str, top: int = 5) -> list[list[Prediction]]:
    """The `top` most probable tokens for every [MASK] in `text`, in the order of the text.

    Raises:
        UsageError: there is no [MASK], or the text is longer than the model allows, or not Unicode.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the text is not UTF-8", found=ascii(text[:80]))
    tokenizer, model = pretrained.tokenizer, pretrained.model
    ids = [tokenizer.cls_id, *tokenizer.text_to_ids(text), tokenizer.sep_id]
    positions = model.bert.settings.max_position_embeddings
    if tokenizer.mask_id not in ids:
        raise UsageError("nothing to fill", found=repr(text[:80]), expected="a text with [MASK] in it")
    if len(ids) > positions:
        raise UsageError("the text is too long", found=f"{len(ids)} tokens", expected=f"{positions} or less")
    return best_predictions(model, tokenizer, torch.tensor(ids), top)
