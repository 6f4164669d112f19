"""The model's predictions for a few masked words, before and after training: guesses.json of a run."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import Any

import numpy as np
import torch

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer, BertPretrainingPreprocessedDataLayer
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.predicting import best_predictions
from nemo.core import ActionCallback
from nemo.utils.work_folder import WorkFolder

FILE = "guesses.json"
NUM_SENTENCES = 6
TRIED_ROWS = 64
LEAST_TOKENS, MOST_TOKENS = 6, 40
NUM_PREDICTIONS = 5

Layer = BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer


class Predictions(ActionCallback):
    """Masks a word in each of a few sentences, and records the model's predictions for it.

    The file keeps the earliest and the latest predictions. With sharded weights there are none, because
    predicting would take all processes.

    Args:
        work_folder: that of the run.
        layer: the data from which sentences are taken.
    """

    def __init__(
        self, work_folder: WorkFolder, model: PretrainingModel, tokenizer: TokenizerSpec, layer: Layer
    ):
        self.work_folder, self.model, self.tokenizer, self.layer = work_folder, model, tokenizer, layer

    def on_action_start(self) -> None:
        self._predict()

    def on_stop(self) -> None:
        self._predict()

    def on_action_end(self) -> None:
        self._predict()

    def _predict(self) -> None:
        if self.global_rank != 0 or self.action.is_sharded:
            return
        sentences = self._earlier() or self._chosen()
        for sentence in sentences:
            ids = torch.tensor(sentence["ids"])
            (predictions,) = best_predictions(self.model, self.tokenizer, ids, NUM_PREDICTIONS)
            of_steps = sentence["guesses"]
            for step in list(of_steps)[1:]:
                del of_steps[step]
            of_steps[str(self.step)] = [[each.token, each.probability] for each in predictions]
        self.work_folder.write_json(FILE, {"tokenizer": self.tokenizer.fingerprint, "sentences": sentences})

    def _earlier(self) -> list[dict[str, Any]]:
        """The sentences of the resumed run; empty if the file is missing, damaged or another run's."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads((self.work_folder.work_dir / FILE).read_bytes())
            if content["tokenizer"] == self.tokenizer.fingerprint:
                steps = [int(step) for s in content["sentences"] for step in s["guesses"]]
                return content["sentences"] if self.step >= max(steps) else []
        return []

    def _chosen(self) -> list[dict[str, Any]]:
        """Sentences of the data, the longest single-token word masked in each."""
        sentences = (self._with_masked_word(ids) for ids in _rows(self.layer))
        return list(islice(filter(None, sentences), NUM_SENTENCES))

    def _with_masked_word(self, ids: np.ndarray) -> dict[str, Any] | None:
        """The first sentence of a row, [CLS] in front; None if it is too short, begins within a word, or has
        no such word."""
        tokenizer = self.tokenizer
        ids = ids[: MOST_TOKENS + 1]
        end = int(np.argmax(np.append(ids, tokenizer.sep_id) == tokenizer.sep_id))
        ids = ids[:end]
        if end <= LEAST_TOKENS or not tokenizer.starts_word[ids[1]]:
            return None
        starts = tokenizer.starts_word[ids] | np.isin(ids, tokenizer.special_ids)
        is_word = starts & np.append(starts[1:], True) & ~np.isin(ids, tokenizer.special_ids)
        if not is_word.any():
            return None
        tokens = tokenizer.ids_to_tokens(ids.tolist())
        longest = max(np.flatnonzero(is_word).tolist(), key=lambda i: len(tokens[i]))
        masked = [tokenizer.mask_id if i == longest else int(token) for i, token in enumerate(ids)]
        return {
            "before": tokenizer.ids_to_text(ids[1:longest].tolist()),
            "word": tokenizer.ids_to_text([int(ids[longest])]),
            "after": tokenizer.ids_to_text(ids[longest + 1 :].tolist()),
            "ids": [*masked, tokenizer.sep_id],
            "guesses": {},
        }


def _rows(layer: Layer) -> Iterator[np.ndarray]:
    """Token ids of some rows of epoch 0, unmasked, without padding."""
    if isinstance(layer, BertPretrainingDataLayer):
        samples = np.unique(np.linspace(0, len(layer.dataset) - 1, TRIED_ROWS).astype(int))
        batch = layer.dataset.batch(0, samples)
        ids, mask = batch["output_ids"], batch["input_mask"]
    else:
        with closing(layer.batches(epoch=0)) as batches:
            named = dict(zip(layer.output_ports, next(batches), strict=True))
        ids, mask = named["output_ids"].numpy(), named["input_mask"].numpy()
    for row, is_token in zip(ids, mask, strict=True):
        yield row[is_token.astype(bool)]
