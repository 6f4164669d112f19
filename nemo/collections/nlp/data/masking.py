"""What a model has to guess: tokens hidden by whole words, as in BERT (Devlin et al. 2019).

Every random number is a hash of (seed, epoch, sample, position), so a sample is masked alike in every
batch, worker and rank, and after a resume.

Shapes: B batch, T tokens; W words of all rows, row after row, in random order within each.
"""

from dataclasses import dataclass

import numpy as np

_WORD_ORDER, _ACTION, _REPLACEMENT = range(3)  # what a random number is for
_HIDDEN_SHARE, _RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the others stay as they are


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Args:
        probability: share of a sample's tokens that is chosen, from 0 to 1.
        mask_id: what stands for a hidden token.
        replacements: the ids that random tokens are drawn from: all but the special ones.
        whole_word: choose words; False: choose tokens.
        seed: 0 or more.
    """

    probability: float
    mask_id: int
    replacements: np.ndarray
    whole_word: bool = True
    seed: int = 0

    def __call__(
        self,
        ids: np.ndarray,
        starts_word: np.ndarray,
        may_choose: np.ndarray,
        lengths: np.ndarray,
        epoch: int,
        samples: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hide tokens of a batch.

        Of n tokens round(n * probability) are chosen: word after word in random order, skipping those
        that would exceed the number. If all would, the shortest is chosen, so one token always is. Of
        the chosen tokens 80 % become `mask_id` and 10 % random ones.

        Args:
            ids: (B, T) int; T at most 65,536.
            starts_word: (B, T) bool; a token that may be chosen behind one that may not, or at the
                beginning of a row, starts a word in any case.
            may_choose: (B, T) bool, False for special tokens and padding.
            lengths: (B) int, n of each row: its tokens with the special ones.
            epoch: 0 or more.
            samples: (B) int, the number of each row within the epoch.

        Returns:
            ids with some hidden, (B, T) int, and which tokens were chosen, (B, T) bool.
        """
        starts = may_choose.copy()
        if self.whole_word:
            starts[:, 1:] &= starts_word[:, 1:] | ~may_choose[:, :-1]
        budgets = np.rint(lengths * self.probability).astype(np.int64)
        state = np.zeros(len(samples), dtype=np.uint64)
        for number in (self.seed, epoch, samples):
            state = _hashed(state, number)
        chosen = _choose(state, starts, may_choose, budgets)

        rows, positions = _places(chosen)
        action = _random(state, _ACTION, rows, positions) / 2.0**64
        replacement = _random(state, _REPLACEMENT, rows, positions)
        # The upper half of a number, as a fraction of 2**32, picks an entry.
        pick = (replacement >> np.uint64(32)) * np.uint64(len(self.replacements)) >> np.uint64(32)
        shown = np.where(
            action < _HIDDEN_SHARE,
            self.mask_id,
            np.where(
                action < _HIDDEN_SHARE + _RANDOM_SHARE,
                self.replacements[pick],
                ids[rows, positions],
            ),
        )
        masked = ids.copy()
        masked[rows, positions] = shown
        return masked, chosen


def _choose(state: np.ndarray, starts: np.ndarray, may_choose: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """(B, T) bool: the tokens of the chosen words."""
    tokens = np.flatnonzero(may_choose)
    word_of_token = np.cumsum(starts.ravel()[tokens]) - 1
    rows, positions = _places(starts)  # of the words
    first_word = np.searchsorted(rows, np.arange(len(starts) + 1))
    nth = np.arange(len(rows)) - first_word[rows]
    # One number to sort by: the row, 32 random bits, then the word's number in the row, by which
    # it is found again. Much faster than an argsort.
    order = _random(state, _WORD_ORDER, rows, positions) >> np.uint64(32)
    keys = np.sort(rows << 48 | order.astype(np.int64) << 16 | nth)
    words = first_word[rows] + (keys & 0xFFFF)

    taken = _take_words(np.bincount(word_of_token)[words], rows, first_word, budgets)
    is_chosen = np.zeros(len(words), dtype=bool)
    is_chosen[words[taken]] = True
    chosen = np.zeros(starts.shape, dtype=bool)
    chosen.ravel()[tokens[is_chosen[word_of_token]]] = True
    return chosen


def _take_words(
    lengths: np.ndarray, rows: np.ndarray, first_word: np.ndarray, budgets: np.ndarray
) -> np.ndarray:
    """(W) bool: the words that fit a row's budget, one after another; its shortest if none does.

    Args:
        lengths, rows: (W) int, tokens of each word and its row.
        first_word: (B + 1) int, where the words of each row begin.
        budgets: (B) int, tokens to take of each row.
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
        taken[words.start + np.argmin(lengths[words])] = True
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
