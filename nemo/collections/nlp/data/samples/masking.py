"""What a model has to guess: tokens, whole words (both Devlin et al. 2019) or spans of words (SpanBERT).

Every random number is a hash of (seed, epoch, sample, position), so a sample is masked alike in every
batch, worker and rank, and after a resume.

Shapes: B batch, T tokens; W words of all rows, row after row, in random order within each.
"""

from dataclasses import dataclass

import numpy as np

from nemo.collections.nlp.options.choices import MASKINGS
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

_WORD_ORDER, _ACTION, _REPLACEMENT, _SPAN_LENGTH, _TURN = range(5)  # what a random number is for
_ROWS_AT_ONCE = 128  # more do not fit into the processor's cache
_HIDDEN_SHARE, _RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the others stay as they are
# Lengths of spans in words as SpanBERT draws them (Joshi et al. 2020): geometric, 3.8 on average.
_SPAN_LENGTHS = np.arange(1, 11)
_SPAN_SHARES = 0.8 ** (_SPAN_LENGTHS - 1) / np.sum(0.8 ** (_SPAN_LENGTHS - 1))


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Args:
        probability: share of a sample's tokens that is chosen, from 0 to 1.
        mask_id: what stands for a hidden token.
        replacements: the ids that random tokens are drawn from: all but the special ones.
        kind: "token"; "whole_word": the tokens of a word are chosen together, or not at all; "span": also
            neighbouring words are, as in SpanBERT.
        seed: 0 or more.
        max_predictions: the most tokens that may be chosen of a sample; None: only `probability` counts.

    Raises:
        UsageError: another kind, or no predictions at all.
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
        """Hide tokens of a batch.

        Of n tokens round(n * probability) are chosen: word after word in random order, skipping those
        that would exceed the number. If all would, the shortest is chosen, so one token always is, unless
        it is longer than `max_predictions`. For spans, the words of a row are cut into spans of random
        lengths, none of which goes past a special token (but on at the other end of its text: so every word
        is chosen as often as any other); these come in random order, and the words of each one after
        another, so that only the last span can be cut short by the number. Of the chosen tokens 80 % become
        `mask_id` and 10 % random ones; of a span all or none do.

        Args:
            ids: (B, T) int; T at most 65,536.
            starts_word: (B, T) bool; a token that may be chosen behind one that may not, or at the
                beginning of a row, starts a word in any case.
            may_choose: (B, T) bool, False for special tokens and padding.
            lengths: (B) int, n of each row: its tokens with the special ones.
            epoch: 0 or more.
            samples: (B) int, the number of each row within the epoch.
            probabilities: (B) float, of each row, in place of `probability`.

        Returns:
            ids with some hidden, (B, T) int, and which tokens were chosen, (B, T) bool.
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
        """See `__call__`; budgets: (B) int, tokens to choose of each row."""
        starts = may_choose.copy()
        if self.kind != "token":
            starts[:, 1:] &= starts_word[:, 1:] | ~may_choose[:, :-1]
        state = np.zeros(len(samples), dtype=np.uint64)
        for number in (self.seed, epoch, samples):
            state = _hashed(state, number)

        rows, positions = _places(starts)  # of the words
        words = first_of_span = np.arange(len(rows))  # in the order of the text; each is a span by itself
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

        rows, places = _places(chosen)
        # What becomes of a token is drawn for it alone, but of a span for all of it.
        drawn_at = span_at[word_of_token[is_chosen[word_of_token]]] if self.kind == "span" else places
        masked = ids.copy()
        masked[rows, places] = self._shown(ids[rows, places], state, rows, places, drawn_at)
        return masked, chosen

    def _shown(
        self, ids: np.ndarray, state: np.ndarray, rows: np.ndarray, places: np.ndarray, drawn_at: np.ndarray
    ) -> np.ndarray:
        """What stands where `ids` were chosen: [MASK], a random token, or the same."""
        action = _random(state, _ACTION, rows, drawn_at) / 2.0**64
        replacement = _random(state, _REPLACEMENT, rows, places)
        # The upper half of a number, as a fraction of 2**32, picks an entry.
        pick = (replacement >> np.uint64(32)) * np.uint64(len(self.replacements)) >> np.uint64(32)
        is_random = action < _HIDDEN_SHARE + _RANDOM_SHARE
        return np.where(
            action < _HIDDEN_SHARE, self.mask_id, np.where(is_random, self.replacements[pick], ids)
        )


def _turned(random: np.ndarray, begins_text: np.ndarray) -> np.ndarray:
    """(W) int: the words, those of each text from a random one on and then from its first.

    Args:
        random: (W) uint64 random numbers; those of the first word of a text count.
        begins_text: (W) bool, True for the first word behind a special token or of a row.
    """
    first, size = _texts(begins_text)
    words = np.arange(len(begins_text))
    turn = (random[first] % size.astype(np.uint64)).astype(np.int64)
    return first + (words - first + turn) % size


def _spans(random: np.ndarray, begins_text: np.ndarray) -> np.ndarray:
    """(W) int: the first word of the span that each word is in.

    Args:
        random: (W) uint64 random numbers, for as many spans as there can be.
        begins_text: (W) bool, as above; no span goes from one text into the next.
    """
    first, size = _texts(begins_text)
    lengths = _SPAN_LENGTHS[np.searchsorted(np.cumsum(_SPAN_SHARES)[:-1], random / 2.0**64, side="right")]
    # The spans of a text lie one behind the other, until it ends.
    starts = np.cumsum(lengths) - lengths
    starts += first - starts[first]
    starts = starts[starts < first + size]
    begins_span = np.zeros(len(begins_text), dtype=bool)
    begins_span[starts] = True
    return starts[np.cumsum(begins_span) - 1]


def _texts(begins_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W) int twice: the first word of the text that each word is in, and how many words it has."""
    firsts = np.flatnonzero(begins_text)
    text_of_word = np.cumsum(begins_text) - 1
    sizes = np.diff(np.append(firsts, len(begins_text)))
    return firsts[text_of_word], sizes[text_of_word]


def _choose(
    order: np.ndarray, lengths: np.ndarray, rows: np.ndarray, budgets: np.ndarray, max_predictions: int | None
) -> np.ndarray:
    """(W) bool: which words are chosen.

    Args:
        order: (W) uint64 random numbers; equal ones keep the order of the text.
        lengths, rows: (W) int, tokens of each word and its row, row after row.
        budgets: (B) int, tokens to take of each row.
        max_predictions: tokens that are never exceeded, if given.
    """
    first_word = np.searchsorted(rows, np.arange(len(budgets) + 1))
    nth = np.arange(len(rows)) - first_word[rows]
    # One number to sort by: the row, 32 random bits, then the word's number in the row, by which
    # it is found again. Much faster than an argsort.
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
    """(W) bool: the words that fit a row's budget, one after another; its shortest if none does.

    Args:
        lengths, rows: (W) int, tokens of each word and its row.
        first_word: (B + 1) int, where the words of each row begin.
        budgets: (B) int, tokens to take of each row.
        max_predictions: what even the shortest must not exceed, if given.
    """
    fits = lengths <= budgets[rows]
    while True:
        # Words are taken until the first that is too much. It is skipped, and so is every later one
        # that is longer than what is left, as less and less will be.
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


def _places(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`np.nonzero` of (B, T) flags, several times as fast."""
    rows, positions = np.divmod(np.flatnonzero(flags), flags.shape[1])
    return rows, positions


def _random(state: np.ndarray, what: int, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """uint64 random numbers, one for each token at (rows, positions); `state` is (B) uint64."""
    return _hashed(_hashed(state, what)[rows], positions)


def _hashed(state: np.ndarray, number: int | np.ndarray) -> np.ndarray:
    """`state` after taking in `number`: splitmix64 (Steele et al. 2014) on both."""
    x: np.ndarray = state ^ np.asarray(number).astype(np.uint64)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
