"""From options to batches of shards: files, tokenizer and data layers."""

import dataclasses
from pathlib import Path

import numpy as np

from nemo.collections.nlp.checkpoints.initial_checkpoint import InitialCheckpoint, is_given
from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.hdf5 import has_held_out_shards, shards_of
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.collections.nlp.data.tokenizers.suitability import lacks_capitals, warning_of_unknown
from nemo.collections.nlp.nm.data_layers import BertPretrainingPreprocessedDataLayer
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.choices import TRAINED
from nemo.collections.nlp.pretraining.text_data import PretrainingData
from nemo.utils.errors import DataError, UsageError
from nemo.utils.logging import logging


def open_shards(options: PretrainingOptions, initial: InitialCheckpoint | None = None) -> PretrainingData:
    """The data layers of training and held-out shards, and their tokenizer if it is available.

    Raises:
        UsageError: held-out shards are also trained on.
        DataError: shards are not usable, do not match, or were made with a different tokenizer.
    """
    sampling = Sampling.of(options)
    path, held_out = shard_folders(options)
    tokenizer = tokenizer_of_shards(options, path, initial)

    def layer(path: Path, mode: str, max_seq_length: int | None) -> BertPretrainingPreprocessedDataLayer:
        dataset = BertPretrainingPreprocessedDataset(
            path,
            options.max_predictions_per_seq,
            mode,
            dataclasses.replace(sampling, max_seq_length=max_seq_length),
            tokenizer=tokenizer,
            vocab_size=options.vocab_size if tokenizer is None else tokenizer.vocab_size,
            only_mlm_loss=options.only_mlm_loss,
        )
        return BertPretrainingPreprocessedDataLayer.over(
            dataset, options.batch_size, options.tokens_per_batch
        )

    length = options.max_seq_length if is_given(options, "max_seq_length") else None
    train = layer(path, "train", length)
    if tokenizer is not None:
        tokens = tokenizer.ids_to_tokens(train.dataset.survey.first_rows[0][:20].tolist())
        logging.info("for example: %s ...", "".join(c if c.isprintable() else "?" for c in " ".join(tokens)))
        share = share_of_unknown(train.dataset.survey.first_rows, tokenizer)
        if unknown := warning_of_unknown(share, lacks_capitals(tokenizer)):
            logging.warning("%s: %s", path, unknown)
    else:
        logging.warning(
            "no tokenizer is given, so the shards are not checked against one, and checkpoints will not "
            "contain one; give the tokenizer that made the shards with --tokenizer"
        )
    if held_out is None:
        return PretrainingData(tokenizer, train, None)
    evaluation = layer(held_out, "eval", train.dataset.max_seq_length)
    check_same_kind(evaluation.dataset, train.dataset, held_out)
    return PretrainingData(tokenizer, train, evaluation)


def share_of_unknown(rows: np.ndarray, tokenizer: TokenizerSpec) -> float:
    """The share of unknown tokens in the text of rows (rows, L)."""
    frame = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    num_tokens = rows.size - int(np.isin(rows, frame).sum())
    return int((rows == tokenizer.unk_id).sum()) / max(num_tokens, 1)


def check_same_kind(
    held_out: BertPretrainingPreprocessedDataset, train: BertPretrainingPreprocessedDataset, where: Path
) -> None:
    """Refuse held-out shards with longer rows, or with other tokens for the same ids.

    Raises:
        DataError: they have longer rows than the training shards, or other special tokens.
    """
    if held_out.max_seq_length > train.max_seq_length:
        raise DataError(
            "the rows are longer than in the training shards",
            where=where,
            found=held_out.max_seq_length,
            expected=train.max_seq_length,
        )
    found, expected = held_out.survey, train.survey
    masks = {found.mask_id, expected.mask_id} - {None}
    if found.frame != expected.frame or len(masks) > 1:
        raise DataError(
            "made with a different tokenizer than the training shards",
            where=where,
            found=found.special_tokens,
            expected=expected.special_tokens,
        )


def shard_folders(options: PretrainingOptions) -> tuple[Path, Path | None]:
    """The training shards, and the held-out shards if there are any.

    One folder may contain both, see `hdf5.shards_of`.

    Raises:
        UsageError: held-out shards are trained on.
    """
    train = Path(options.train_data or options.data_dir or "")
    held_out = Path(options.eval_data or options.data_dir or train)
    trained_on = {shard.resolve() for shard in shards_of(train, "train")}
    if options.eval_data is None and not has_held_out_shards(held_out):
        logging.warning("no held-out shards, so nothing is evaluated; give --eval_data")
        return train, None
    both = [shard for shard in shards_of(held_out, "eval") if shard.resolve() in trained_on]
    if both:
        raise UsageError(
            "the held-out shard is also trained on",
            where=both[0],
            fix="give --train_data and --eval_data without a common shard",
        )
    return train, held_out


def tokenizer_of_shards(
    options: PretrainingOptions, train: Path, initial: InitialCheckpoint | None = None
) -> TokenizerSpec | None:
    """The tokenizer of these shards, by the rules of `choose_tokenizer`; None if it is not available."""
    named = None if options.tokenizer in TRAINED else options.tokenizer
    request = TokenizerRequest(named=named, initial=initial, data=train, is_prepared=True)
    return find_tokenizer(request, options.do_lower_case)


def with_length_of_rows(options: PretrainingOptions, data: PretrainingData) -> PretrainingOptions:
    """The options with the sequence length of the data: shards fix their own.

    Raises:
        UsageError: a different length was given, or the model has too few positions for it.
    """
    length = data.train.dataset.max_seq_length
    positions = options.max_position_embeddings or length  # the model's, if already known
    if length > positions:
        raise UsageError(
            "the shards have rows longer than the model allows",
            where=options.train_data or options.data_dir,
            found=length,
            expected=f"{positions} or less",
        )
    if options.max_seq_length not in (PretrainingOptions.max_seq_length, length, positions):
        raise UsageError(
            "the shards have rows of a different length",
            where="--max_seq_length",
            found=options.max_seq_length,
            expected=length,
            fix="leave it out",
        )
    return dataclasses.replace(options, max_seq_length=length)
