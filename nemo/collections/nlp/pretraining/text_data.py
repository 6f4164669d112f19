"""From options to batches of text: files, tokenizer and data layers."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.collections.nlp.checkpoints.initial_checkpoint import InitialCheckpoint
from nemo.collections.nlp.data.datasets import BertPretrainingDataset
from nemo.collections.nlp.data.inputs import Source, TextOptions, sections_of
from nemo.collections.nlp.data.samples.batching import check_tokens_per_batch
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.store.store_builder import excerpt_of
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, choose_tokenizer
from nemo.collections.nlp.data.tokenizers.suitability import (
    lacks_capitals,
    strips_marks,
    warning_of_lost_marks_in,
    warning_of_unknown,
)
from nemo.collections.nlp.data.tokenizers.vocabulary import find_or_train_tokenizer
from nemo.collections.nlp.nm.data_layers import (
    BertPretrainingDataLayer,
    BertPretrainingPreprocessedDataLayer,
)
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.data import TokenizerOptions
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.collections.nlp.pretraining.data_files import Corpus, data_files
from nemo.utils.arguments import names_of
from nemo.utils.errors import UsageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.strict import parse_json

READING = set(names_of(TextReading)) - {"max_bad_records"}
"""Options that decide what the text is; skipped records contain none."""


@dataclass(frozen=True)
class PretrainingData:
    """The training data, the held-out data, and their tokenizer.

    Attributes:
        tokenizer: the tokenizer of the data; None for shards whose tokenizer is not available.
        eval: the held-out data; None if there is none.
    """

    tokenizer: TokenizerSpec | None
    train: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer
    eval: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer | None

    def token_counts(self, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
        """How often each token occurs in the training data, (V,), and which ids are not text.

        In shards, only the first rows are counted.
        """
        if isinstance(self.train, BertPretrainingDataLayer):
            tokens, special_ids = self.train.dataset.store.tokens, np.zeros(0, np.int64)
        else:
            survey = self.train.dataset.survey
            frame = (0, survey.frame.cls_id, survey.frame.sep_id, survey.mask_id or 0)
            tokens, special_ids = survey.first_rows.ravel(), np.array(frame)
        if self.tokenizer is not None:
            special_ids = self.tokenizer.special_ids
        counts = np.bincount(tokens, minlength=vocab_size)
        counts[special_ids] = 0
        return counts, special_ids


def open_tokenizer(
    options: PretrainingOptions, train: Corpus, folder: Path, initial: InitialCheckpoint | None = None
) -> TokenizerSpec:
    """The tokenizer for this text, by the rules of `choose_tokenizer`; a new one goes to `folder`.

    Raises:
        UsageError: it cannot be read or contradicts the options; or the initial checkpoint has no tokenizer,
            which its weights need.
    """
    choice = choose_tokenizer(
        TokenizerRequest(
            named=options.tokenizer,
            initial=initial,
            data=None if isinstance(train.place, list) else train.place,
            is_prepared=train.is_prepared,
            train_in=folder,
        )
    )
    assert choice is not None  # one can be trained
    if choice.is_new:
        forget_other_tokenizer(options, train.sources, folder)
        tokenizer = find_or_train_tokenizer(
            options.tokenizer,
            train.sources,
            folder,
            options.vocab_size,
            sample_size=options.sample_size,
            do_lower_case=options.do_lower_case,
            text=TextOptions.of(options),
        )
    else:
        tokenizer = load_tokenizer(choice.source, options.do_lower_case)
    if initial is not None and initial.tokenizer not in (None, choice.source):
        _warn_of_other_tokens(tokenizer, initial.name, load_tokenizer(initial.tokenizer))
    logging.info("the tokenizer has %d entries", tokenizer.vocab_size)
    return tokenizer


def _warn_of_other_tokens(tokenizer: TokenizerSpec, source: str, of_source: TokenizerSpec) -> None:
    """Warn if the ids of a tokenizer stand for other tokens than in the model that the weights come from."""
    ours, theirs = tokenizer.vocabulary(), of_source.vocabulary()
    if ours != theirs:
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        logging.warning(
            "only %d of the %d ids of --tokenizer stand for the same token in %s; the other embeddings are "
            "those of other tokens",
            same,
            len(ours),
            source,
        )


def _read_note(note: Path, made_for: Mapping[str, Any]) -> dict[str, Any]:
    """What the tokenizer in this folder was made for; empty if unknown.

    If unknown, the tokenizer is kept if there are checkpoints, which know its fingerprint, else removed.
    """
    if not note.is_file():
        return {}
    try:
        earlier = parse_json(note.read_bytes())
    except ValueError:
        earlier = None
    if isinstance(earlier, dict) and set(made_for) - READING <= set(earlier):  # 0.1 did not note READING
        return earlier
    logging.warning("%s is damaged; it will be rewritten", note)
    if not checkpoint.list_checkpoints(note.parent.parent / "checkpoints"):
        shutil.rmtree(note.parent)
    return {}


def forget_other_tokenizer(options: PretrainingOptions, sources: list[Source], folder: Path) -> None:
    """Remove a tokenizer that an earlier run in this work folder trained with other options or on other text.

    Raises:
        UsageError: that run has checkpoints, which need it.
    """
    names = names_of(TokenizerOptions) + sorted(READING)
    made_for = {name: getattr(options, name) for name in names}
    made_for["do_lower_case"] = bool(options.do_lower_case)
    made_for["text"] = [[source.name, source.num_bytes] for source in sources]
    note = folder / "made-for.json"
    earlier = _read_note(note, made_for)
    for name, value in made_for.items():
        if earlier.get(name, value) != value:
            if checkpoint.list_checkpoints(folder.parent / "checkpoints"):
                raise UsageError(
                    f"the tokenizer of this run was trained with a different {name}",
                    where=folder,
                    found=value,
                    expected=earlier[name],
                    fix="use the same options, or another --work_dir",
                )
            logging.info("%s was trained with a different %s; it will be retrained", folder, name)
            shutil.rmtree(folder)
            break
    if earlier != made_for:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(made_for).encode())


def open_data(
    options: PretrainingOptions, work_dir: Path, initial: InitialCheckpoint | None = None
) -> PretrainingData:
    """The tokenizer (trained if necessary), and the data layers of training and held-out text.

    Args:
        initial: the initial checkpoint, whose tokenizer is used unless the options name one.
    """
    # Check this before training a tokenizer in vain.
    check_tokens_per_batch(options.tokens_per_batch, options.max_seq_length)
    text = TextOptions.of(options)
    sampling = Sampling.of(options).of_text()
    train, held_out = data_files(options)
    tokenizer = open_tokenizer(options, train, work_dir / "tokenizer", initial)

    def layer(corpus: Corpus, shuffle: bool) -> BertPretrainingDataLayer:
        store = open_or_build(corpus.sources or corpus.place, tokenizer, options=text)
        dataset = BertPretrainingDataset(tokenizer, store, sampling, corpus.place, options.only_mlm_loss)
        return BertPretrainingDataLayer.over(dataset, options.batch_size, shuffle, options.tokens_per_batch)

    if train.sources and strips_marks(tokenizer):
        lost = warning_of_lost_marks_in(excerpt_of(sections_of(train.sources), text), tokenizer)
        if lost is not None:
            logging.warning("%s", lost)
    data = PretrainingData(
        tokenizer, layer(train, True), layer(held_out, False) if held_out is not None else None
    )
    counts = data.train.dataset.store.manifest["counts"]
    if unknown := warning_of_unknown(counts["unknown_tokens"] / counts["tokens"], lacks_capitals(tokenizer)):
        logging.warning("%s", unknown)
    return data
