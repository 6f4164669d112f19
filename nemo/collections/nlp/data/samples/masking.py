"""Masking of tokens, whole words (both Devlin et al. 2019) or spans of words (SpanBERT).

Every random number is a hash of (seed, epoch, sample, position), so the masks of a sample do not depend on
its batch, worker or rank, or on a resume.

Shapes: B batch, T tokens; W words of all rows, row after row, in random order within each.
"""

from dataclasses import dataclass

import numpy as np

from nemo.collections.nlp.options.choices import MASKINGS
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

_WORD_ORDER, _ACTION, _REPLACEMENT, _SPAN_LENGTH, _TURN = range(5)  # uses of random numbers
_ROWS_AT_ONCE = 128  # more would not fit into the processor's cache
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the others are not changed
# Span lengths in words, as in SpanBERT (Joshi et al. 2020): geometric, 3.8 on average.
_SPAN_LENGTHS = np.arange(1, 11)
_SPAN_SHARES = 0.8 ** (_SPAN_LENGTHS - 1) / np.sum(0.8 ** (_SPAN_LENGTHS - 1))


@dataclass(frozen=True)
class Masking:
    """Chooses the tokens to predict, and masks them.

    Args:
        probability: share of a sample's tokens to choose, from 0 to 1.
        mask_id: id of [MASK].
        replacements: the ids from which random tokens are drawn: all except special tokens.
        kind: "token"; "whole_word": all tokens of a word are chosen, or none; "span": the same for runs of
            neighboring words, as in SpanBERT.
        seed: 0 or more.
        max_predictions: maximum number of tokens to choose in a sample; None: no limit besides `probability`.

    Raises:
        UsageError: the kind is unknown, or `max_predictions` is below 1.
    """

    probability: float
    mask_id: int
    replacements: np.ndarray
    kind: str = "whole_word"
    seed: int = 0
    max_predictions: int | None = None

    def __post_init__(self) -> None:
        choose({name: name for name in MASKINGS}, self.kind, what="masking")
        if self.max_predictions is not None and self.max_predictions < 1:
            raise UsageError(
                "out of range", where="max_predictions", found=self.max_predictions, expected="1 or more"
            )

    def __call__(
        self,
        ids: np.ndarray,
        starts_word: np.ndarray,
        may_choose: np.ndarray,
        lengths: np.ndarray,
        epoch: int,
        samples: np.ndarray,
        probabilities: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask tokens of a batch.

        Of n tokens, round(n * probability) are chosen: words are taken in random order, skipping those that
        would exceed this budget. If all words would, the shortest is taken, so that every sample has a
        target, unless that word is longer than `max_predictions`. For spans, the words of a row are cut
        into spans of random lengths. No span crosses a special token; it wraps around to the other end of
        its text instead, so that all words are chosen equally often. Spans are taken in random order, with
        their words in sequence, so only the last span can be cut short by the budget. Of the chosen tokens,
        80% become `mask_id` and 10% random tokens; all tokens of a span get the same treatment.

        Args:
            ids: (B, T) int; T at most 65,536.
            starts_word: (B, T) bool; at the beginning of a row, and after a token that may not be chosen, a
                token always starts a word.
            may_choose: (B, T) bool, False for special tokens and padding.
            lengths: (B) int, n of each row: its tokens, including special ones.
            epoch: 0 or more.
            samples: (B) int, the number of each row within the epoch.
            probabilities: (B) float, of each row, in place of `probability`.

        Returns:
            ids with some masked, (B, T) int, and which tokens were chosen, (B, T) bool.
        """
        masked, chosen = np.empty_like(ids), np.empty(ids.shape, dtype=bool)
        budgets = np.rint(lengths * (self.probability if probabilities is None else probabilities))
        if self.max_predictions is not None:
            budgets = np.minimum(budgets, self.max_predictions)
        budgets = budgets.astype(np.int64)
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            masked[rows], chosen[rows] = self._mask(
                ids[rows], starts_word[rows], may_choose[rows], budgets[rows], epoch, samples[rows]
            )
        return masked, chosen

    def _mask(
        self,
        ids: np.ndarray,
        starts_word: np.ndarray,
        may_choose: np.ndarray,
        budgets: np.ndarray,
        epoch: int,
        samples: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask some rows; `budgets`, (B) int, is how many tokens to choose in each.

        Other arguments and the result are those of `__call__`.
        """
        starts = may_choose.copy()
        if self.kind != "token":
            starts[:, 1:] &= starts_word[:, 1:] | ~may_choose[:, :-1]
        state = np.zeros(len(samples), dtype=np.uint64)
        for number in (self.seed, epoch, samples):
            state = _hashed(state, number)

        rows, positions = _positions_of(starts)  # of the words
        words = first_of_span = np.arange(len(rows))  # in text order; each word is a span by itself
        if self.kind == "span":
            begins_text = (positions == 0) | ~may_choose[rows, positions - 1]
            words = _turned(_random(state, _TURN, rows, positions), begins_text)
            first_of_span = _spans(_random(state, _SPAN_LENGTH, rows, positions), begins_text)
        tokens = np.flatnonzero(may_choose)  # counted over all rows
        word_of_token = np.cumsum(starts.ravel()[tokens]) - 1
        is_chosen, span_at = np.empty(len(rows), dtype=bool), np.empty_like(positions)
        span_at[words] = positions[words[first_of_span]]
        is_chosen[words] = _choose(
            _random(state, _WORD_ORDER, rows, span_at[words]),
            np.bincount(word_of_token)[words],
            rows,
            budgets,
            self.max_predictions,
        )
        chosen = np.zeros(starts.shape, dtype=bool)
        chosen.ravel()[tokens[is_chosen[word_of_token]]] = True

        rows, at = _positions_of(chosen)
        # The treatment (mask, random token or none) is drawn once per token, or once per span.
        drawn_at = span_at[word_of_token[is_chosen[word_of_token]]] if self.kind == "span" else at
        masked = ids.copy()
        masked[rows, at] = self._shown(ids[rows, at], state, rows, at, drawn_at)
        return masked, chosen

    def _shown(
        self, ids: np.ndarray, state: np.ndarray, rows: np.ndarray, at: np.ndarray, drawn_at: np.ndarray
    ) -> np.ndarray:
        """What the model sees in place of the chosen `ids`: [MASK], a random token, or the same token."""
        action = _random(state, _ACTION, rows, drawn_at) / 2.0**64
        replacement = _random(state, _REPLACEMENT, rows, at)
        # The upper half of a number, as a fraction of 2**32, picks an entry.
        pick = (replacement >> np.uint64(32)) * np.uint64(len(self.replacements)) >> np.uint64(32)
        is_random = action < _MASK_SHARE + _RANDOM_SHARE
        return np.where(action < _MASK_SHARE, self.mask_id, np.where(is_random, self.replacements[pick], ids))


def _turned(random: np.ndarray, begins_text: np.ndarray) -> np.ndarray:
    """(W) int: the words, with those of each text rotated to begin at a random one.

    Args:
        random: (W) uint64 random numbers; that of the first word of each text is used.
        begins_text: (W) bool, True for the first word of a row or after a special token.
    """
    first, size = _texts(begins_text)
    words = np.arange(len(begins_text))
    turn = (random[first] % size.astype(np.uint64)).astype(np.int64)
    return first + (words - first + turn) % size


def _spans(random: np.ndarray, begins_text: np.ndarray) -> np.ndarray:
    """(W) int: the first word of each word's span.

    Args:
        random: (W) uint64 random numbers, enough for the maximum number of spans.
        begins_text: (W) bool, as above; no span crosses two texts.
    """
    first, size = _texts(begins_text)
    lengths = _SPAN_LENGTHS[np.searchsorted(np.cumsum(_SPAN_SHARES)[:-1], random / 2.0**64, side="right")]
    # The spans of a text follow each other until it ends.
    starts = np.cumsum(lengths) - lengths
    starts += first - starts[first]
    starts = starts[starts < first + size]
    begins_span = np.zeros(len(begins_text), dtype=bool)
    begins_span[starts] = True
    return starts[np.cumsum(begins_span) - 1]


def _texts(begins_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W) int twice: the first word of each word's text, and the number of words in that text."""
    firsts = np.flatnonzero(begins_text)
    text_of_word = np.cumsum(begins_text) - 1
    sizes = np.diff(np.append(firsts, len(begins_text)))
    return firsts[text_of_word], sizes[text_of_word]


def _choose(
    order: np.ndarray, lengths: np.ndarray, rows: np.ndarray, budgets: np.ndarray, max_predictions: int | None
) -> np.ndarray:
    """(W) bool: which words are chosen.

    Args:
        order: (W) uint64 random numbers to sort by; equal ones keep the text order.
        lengths, rows: (W) int, tokens of each word and its row, row after row.
        budgets: (B) int, tokens to choose in each row.
        max_predictions: hard limit on the tokens chosen in a row, if given.
    """
    first_word = np.searchsorted(rows, np.arange(len(budgets) + 1))
    nth = np.arange(len(rows)) - first_word[rows]
    # One sort key: the row, 32 random bits, then the word's number in the row, to recover the word.
    # Much faster than an argsort.
    keys = np.sort(rows << 48 | (order >> np.uint64(32)).astype(np.int64) << 16 | nth)
    words = first_word[rows] + (keys & 0xFFFF)
    chosen = np.zeros(len(words), dtype=bool)
    chosen[words[_take_words(lengths[words], rows, first_word, budgets, max_predictions)]] = True
    return chosen


def _take_words(
    lengths: np.ndarray,
    rows: np.ndarray,
    first_word: np.ndarray,
    budgets: np.ndarray,
    max_predictions: int | None,
) -> np.ndarray:
    """(W) bool: the words that fit a row's budget, taken in order; the shortest word if none fits.

    Args:
        lengths, rows: (W) int, tokens of each word and its row.
        first_word: (B + 1) int, where the words of each row begin.
        budgets: (B) int, tokens to take in each row.
        max_predictions: limit even for the shortest word, if given.
    """
    fits = lengths <= budgets[rows]
    while True:
        # Take words until the first that does not fit. Skip it, and every later word longer than the rest of
        # the budget, which only shrinks.
        sums = np.append(0, np.cumsum(lengths * fits))
        taken = fits & (sums[1:] - sums[first_word[rows]] <= budgets[rows])
        sums = np.append(0, np.cumsum(lengths * taken))
        left = budgets - np.diff(sums[first_word])
        fits = taken | (fits & (lengths <= left[rows]))
        if np.array_equal(fits, taken):
            break
    for row in np.flatnonzero((left == budgets) & (np.diff(first_word) > 0)):
        words = slice(first_word[row], first_word[row + 1])
        shortest = words.start + np.argmin(lengths[words])
        taken[shortest] = max_predictions is None or lengths[shortest] <= max_predictions
    return taken


def _positions_of(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`np.nonzero` of (B, T) flags, several times faster."""
    rows, positions = np.divmod(np.flatnonzero(flags), flags.shape[1])
    return rows, positions


def _random(state: np.ndarray, what: int, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """uint64 random numbers, one for each token at (rows, positions); `state` is (B) uint64."""
    return _hashed(_hashed(state, what)[rows], positions)


def _hashed(state: np.ndarray, number: int | np.ndarray) -> np.ndarray:
    """Mix `number` into `state`, by splitmix64 (Steele et al. 2014)."""
    x: np.ndarray = state ^ np.asarray(number).astype(np.uint64)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
