"""Extending a vocabulary as one function: options in, a Hugging Face folder and figures out."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
from nemo.collections.nlp.data.inputs import TextOptions
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import HubModel, TokenizerRequest, find_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import draw_lines
from nemo.collections.nlp.extension.figures import Change, Cut, changes, cut_of
from nemo.collections.nlp.extension.vocabulary import Extension, count_words, extend, refuse_other_kinds
from nemo.collections.nlp.extension.weights import write_extended
from nemo.collections.nlp.models.hub import is_other_folder, load_config, load_tensors
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import ExtensionOptions
from nemo.utils.errors import DataError
from nemo.utils.hashing import number_of
from nemo.utils.logging import logging

HELD_OUT = 10
"""One line in ten is held out."""
TIMED_LINES, ROUNDS = 64, 5


@dataclass(frozen=True)
class ExtensionResult:
    """The result of an extension; all figures are for held-out lines.

    Attributes:
        folder: the model with its new vocabulary.
        extension: the new entries.
        before, after: how words are split.
        changed: the words that are split differently.
        speed: CPU seconds of the encoder on the same lines, before divided by after.
    """

    folder: Path
    extension: Extension
    before: Cut
    after: Cut
    changed: Sequence[Change]
    speed: float

    @property
    def num_longer(self) -> int:
        """The number of words that have more pieces than before."""
        return sum(change.count for change in self.changed if len(change.after) > len(change.before))


def extend_vocabulary(options: ExtensionOptions) -> ExtensionResult:
    """Add entries for the words of a text to a BERT's vocabulary.

    Raises:
        UsageError, DataError, CheckpointError: an input is not usable; names the fix.
    """
    with TemporaryDirectory() as aside:
        name = huggingface_folder_of(options.model, Path(aside))
        settings, tensors = load_config(name), load_tensors(name)
        tokenizer = find_tokenizer(TokenizerRequest(initial=HubModel(name)))
        assert tokenizer is not None  # the model has one, or opening it failed
        refuse_other_kinds(tokenizer, options.model)
        lines = draw_lines(options.text, 10**9, options.sample_bytes, (), TextOptions.of(options))
        learned, held_out = _split(lines)
        extension = extend(tokenizer, learned, options.pieces, options.least_saving)
        folder = Path(options.out)
        write_extended(folder, settings, tensors, extension, options.force)
        words = count_words(tokenizer, held_out)
        before, after = cut_of(words, tokenizer), cut_of(words, extension.tokenizer)
        speed = _speed(name, tokenizer, str(folder), extension.tokenizer, held_out[:TIMED_LINES])
    logging.info("%d new entries; the model is in %s", len(extension.ids), folder)
    return ExtensionResult(folder, extension, before, after, changes(words, before, after), speed)


def huggingface_folder_of(model: str, aside: Path) -> str:
    """A model as a Hugging Face folder or name; a nemo-bert run is exported to `aside`."""
    path = Path(model)
    if is_other_folder(path):
        export(load_pretrained(path), aside / "model", force=True)
        return str(aside / "model")
    return model


def _split(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split lines by a hash: one in `HELD_OUT` to measure on, others to learn from; copies stay together."""
    split: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        split[number_of(line) % HELD_OUT == 0].append(line)
    if not all(split):
        raise DataError(
            "too little text to hold some out for evaluation",
            found=f"{len(lines)} lines",
            expected=f"a few times {HELD_OUT} lines",
            fix="give more text",
        )
    return split


@torch.no_grad()
def _speed(
    old: str, old_tokenizer: TokenizerSpec, new: str, new_tokenizer: TokenizerSpec, lines: Sequence[str]
) -> float:
    """Median over rounds of the old model's CPU seconds for these lines, divided by the new model's."""
    ways = [
        (BERT(pretrained_model_name=n).eval(), t) for n, t in ((old, old_tokenizer), (new, new_tokenizer))
    ]
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for bert, tokenizer in ways:
            most = bert.settings.max_position_embeddings - 2
            rows = [
                [tokenizer.cls_id, *ids[:most].tolist(), tokenizer.sep_id]
                for ids in tokenizer.encode_batch(lines)
            ]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, -1)
            began = time.process_time()
            bert.compute(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long())
            seconds.append(time.process_time() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
