"""Checks shards before training, so that no model is silently trained on wrong data.

A shard does not record its tokenizer. But the structure of its rows reveals the special tokens, which must be
the tokenizer's, and its words must be split as that tokenizer splits them.

Shapes: N rows, L tokens, P targets.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nemo.collections.nlp.data.hdf5.shard import FIELDS, LABELS, Limits, Shard
from nemo.collections.nlp.data.hdf5.structure import Frame, frame_of, read_checked, restored
from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.utils.errors import DataError
from nemo.utils.logging import logging

BLOCK_BYTES = 4 << 20  # bytes of rows read at a time
ENOUGH = 50  # targets needed to estimate a share
USUAL_MASKED_SHARE = (0.75, 0.85)  # of targets that are masked by [MASK]: 0.8 for BERT
USUAL_RANDOM_SHARE = (0.45, 0.70)  # of pairs: 0.5 for BERT, 0.54 to 0.65 if documents are short
MAX_ODD_SHARE = 0.01  # of rows with a [SEP] inside a sentence; a text may mention [SEP]
# Share of words that the tokenizer splits as in the shards. Measured on news and Wikipedia with vocabularies
# of 1,000 and 4,000 entries: 1.000 with the one that made them; 0.17 to 0.90 with another WordPiece, 0.89 to
# 0.99 with another SentencePiece, 0.89 to 0.98 with the same entries under other ids.
MIN_CANONICAL_SHARE = 0.98
ENOUGH_WORDS = 200
FIRST_ROWS, MOST_WORDS = 512, 1000


@dataclass(frozen=True)
class Survey:
    """Statistics of a whole shard.

    Attributes:
        frame: the special tokens that frame every row.
        mask_id: the id that masks most tokens to predict; None if there are too few to tell.
        random_share: share of random pairs; None without labels.
        padding_share: share of padding in all positions.
        first_rows: without masks, [at most FIRST_ROWS, L].
        sha256: SHA-256 of all values.
    """

    frame: Frame
    mask_id: int | None
    random_share: float | None
    padding_share: float
    first_rows: np.ndarray
    sha256: str

    @property
    def special_tokens(self) -> str:
        """The special tokens and their ids, for messages."""
        mask = "" if self.mask_id is None else f", [MASK] {self.mask_id}"
        return f"[CLS] {self.frame.cls_id}, [SEP] {self.frame.sep_id}{mask}"

    def __str__(self) -> str:
        random = "" if self.random_share is None else f", {self.random_share:.0%} of the pairs random"
        return f"{self.padding_share:.0%} padding{random}; {self.special_tokens}"


def row_blocks_of(shard: Shard, limits: Limits) -> Iterator[tuple[int, int]]:
    """(start, stop) of the blocks of rows to read at once.

    They have about `BLOCK_BYTES`, in whole chunks unless these are far larger.
    """
    size = max(1, BLOCK_BYTES // limits.row_bytes)
    chunk = shard.rows_per_chunk
    if chunk <= 8 * size:
        size = -(-size // chunk) * chunk
    for start in range(0, shard.num_rows, size):
        yield start, min(start + size, shard.num_rows)


def survey_of(shard: Shard, limits: Limits) -> Survey:
    """Read a whole shard in bounded memory.

    Raises:
        DataError: a row is invalid (see `read_checked`), or too many rows are unsuitable for masked language
            modeling.
    """
    frame: Frame | None = None
    behind: Counter[int] = Counter()  # the input ids at the positions to predict
    tokens = odd_rows = random_rows = 0
    first_rows: list[np.ndarray] = []
    digest = hashlib.sha256()
    for start, stop in row_blocks_of(shard, limits):
        rows = read_checked(shard, start, stop, limits, frame)
        frame = frame or frame_of(rows)
        for name in FIELDS:
            digest.update(rows[name].tobytes())
        originals, row_has_b = restored(rows), (rows["segment_ids"] == 1).any(1)
        row, slot = rows["masked_lm_positions"].nonzero()
        behind.update(rows["input_ids"][row, rows["masked_lm_positions"][row, slot]].tolist())
        separators = ((originals == frame.sep_id) & (rows["input_mask"] == 1)).sum(1)
        odd_rows += int((separators > 1 + row_has_b).sum())
        random_rows += int(rows[LABELS].sum())
        tokens += int(rows["input_mask"].sum())
        first_rows.append(originals[: FIRST_ROWS - sum(map(len, first_rows))])
    assert frame is not None  # a shard has rows
    if odd_rows > MAX_ODD_SHARE * shard.num_rows:
        raise DataError(
            "[SEP] inside sentences",
            where=f"{shard.path} input_ids",
            found=f"{odd_rows} rows with more than one per sentence",
            expected="[CLS] A [SEP] B [SEP]",
        )
    return Survey(
        frame,
        _mask_id(behind, shard),
        _random_share(random_rows, shard),
        1 - tokens / (shard.num_rows * limits.seq_length),
        np.concatenate(first_rows),
        digest.hexdigest(),
    )


def _mask_id(behind: Counter[int], shard: Shard) -> int | None:
    if not behind:
        raise DataError("nothing to predict", where=f"{shard.path} masked_lm_positions")
    ((mask_id, times),) = behind.most_common(1)
    share = times / behind.total()
    if behind.total() < ENOUGH:
        return None
    if share < 0.5:
        raise DataError(
            "tokens to predict are not masked",
            where=f"{shard.path} input_ids",
            found=f"the most frequent id in their place, {mask_id}, in only {share:.0%}",
            expected="[MASK] in about 80%",
        )
    if not USUAL_MASKED_SHARE[0] <= share <= USUAL_MASKED_SHARE[1]:
        logging.warning(
            "%s: %.0f%% of the tokens to predict are replaced by one id (%d); 80%% is usual",
            shard.path,
            100 * share,
            mask_id,
        )
    return mask_id


def _random_share(random_rows: int, shard: Shard) -> float | None:
    if not shard.has_labels:
        return None
    share = random_rows / shard.num_rows
    low, high = USUAL_RANDOM_SHARE
    if shard.num_rows >= 10 * ENOUGH and not low <= share <= high:
        logging.warning(
            "%s: %.0f%% of the pairs are random; 50%% is usual; equal labels teach nothing",
            shard.path,
            100 * share,
        )
    return share


def check_shard_tokenizer(tokenizer: TokenizerSpec, found: Survey, shard: Shard) -> None:
    """Refuse a tokenizer that did not make these shards.

    Raises:
        DataError: it has other special tokens, or splits words differently.
    """
    fix = "give the vocabulary that the shards were made with: --tokenizer"
    for token, of_tokenizer, in_shard in (
        (tokenizer.cls_token, tokenizer.cls_id, found.frame.cls_id),
        (tokenizer.sep_token, tokenizer.sep_id, found.frame.sep_id),
        (tokenizer.mask_token, tokenizer.mask_id, found.mask_id),
    ):
        if in_shard is not None and in_shard != of_tokenizer:
            raise DataError(
                f"made with a different tokenizer: {token} has a different id",
                where=shard.path,
                found=in_shard,
                expected=f"{of_tokenizer}, as in the tokenizer",
                fix=fix,
            )
    words = _words(tokenizer, found.first_rows)
    if len(words) < ENOUGH_WORDS:
        return
    cut = tokenizer.encode_batch([tokenizer.ids_to_text(list(word)) for word in words])
    share = np.mean([tuple(ids.tolist()) == word for ids, word in zip(cut, words, strict=True)])
    if share < MIN_CANONICAL_SHARE:
        raise DataError(
            "made with a different tokenizer: it splits words differently",
            where=shard.path,
            found=f"{share:.0%} of {len(words)} words split as the tokenizer does",
            expected="nearly all",
            fix=fix,
        )


def _words(tokenizer: TokenizerSpec, rows: np.ndarray) -> list[tuple[int, ...]]:
    """Distinct words of several tokens that are complete, that is, followed by another word."""
    starts_word = tokenizer.starts_word
    is_special = np.zeros(tokenizer.vocab_size, bool)
    is_special[tokenizer.special_ids] = True
    words: dict[tuple[int, ...], None] = {}
    for row in rows:
        for start, stop in itertools.pairwise(np.flatnonzero(starts_word[row]).tolist()):
            if stop - start > 1 and not is_special[row[start : stop + 1]].any():
                words[tuple(row[start:stop].tolist())] = None
    return list(words)[:MOST_WORDS]
