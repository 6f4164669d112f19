"""Groups samples into batches: a fixed number, or as many as fit a number of tokens.

Batches are given by their bounds, int64 [batches + 1]: batch i is samples bounds[i] to bounds[i + 1].
"""

from collections.abc import Iterable

import numpy as np

from nemo.utils.errors import UsageError


def bounds_by_samples(num_samples: int, batch_size: int) -> np.ndarray:
    """The bounds, int64 [batches + 1], of batches of `batch_size` samples; the last one may have fewer."""
    return np.append(np.arange(0, num_samples, batch_size), num_samples)


def bounds_by_tokens(lengths: Iterable[np.ndarray], tokens_per_batch: int) -> np.ndarray:
    """The bounds, int64 [batches + 1], of batches that take samples as long as their tokens fit.

    Args:
        lengths: tokens of every sample in order, int, in several arrays; none above `tokens_per_batch`.
        tokens_per_batch: maximum number of tokens in a batch.
    """
    bounds = [0]
    num_samples = num_open = 0  # samples before this array; tokens in the open batch
    for block in lengths:
        before = num_open + np.append(0, np.cumsum(block))  # tokens before each sample
        end = tokens_per_batch
        while end < before[-1]:
            too_much = int(np.searchsorted(before, end, side="right")) - 1
            bounds.append(num_samples + too_much)
            end = int(before[too_much]) + tokens_per_batch
        num_open = int(before[-1]) - (end - tokens_per_batch)
        num_samples += len(block)
    return np.array([*bounds, num_samples])


def check_tokens_per_batch(tokens_per_batch: int | None, max_seq_length: int) -> None:
    """Refuse batches that are too small for the longest possible sample.

    Raises:
        UsageError: `tokens_per_batch` is less than `max_seq_length`.
    """
    if tokens_per_batch is not None and tokens_per_batch < max_seq_length:
        raise UsageError(
            "less than the longest sequence",
            where="tokens_per_batch",
            found=tokens_per_batch,
            expected=f"{max_seq_length} or more, as max_seq_length is {max_seq_length}",
        )
