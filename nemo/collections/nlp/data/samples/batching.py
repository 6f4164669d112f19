"""Which samples make a batch: a fixed number, or as many as fit a number of tokens.

Batches are told by their bounds, int64 [batches + 1]: batch i is samples bounds[i] to bounds[i + 1].
"""

from collections.abc import Iterable

import numpy as np

from nemo.utils.errors import UsageError


def bounds_by_samples(num_samples: int, batch_size: int) -> np.ndarray:
    """The bounds of batches of `batch_size` samples; the last one may have fewer."""
    return np.append(np.arange(0, num_samples, batch_size), num_samples)


def bounds_by_tokens(lengths: Iterable[np.ndarray], tokens_per_batch: int) -> np.ndarray:
    """The bounds of batches that end where the next sample would be too much for them.

    Args:
        lengths: tokens of every sample in their order, int, some at a time; none above `tokens_per_batch`.
        tokens_per_batch: tokens that no batch exceeds.
    """
    bounds = [0]
    num_samples = num_open = 0  # samples before this part; tokens of the batch that is not full yet
    for part in lengths:
        before = num_open + np.append(0, np.cumsum(part))  # tokens before each sample
        end = tokens_per_batch
        while end < before[-1]:
            too_much = int(np.searchsorted(before, end, side="right")) - 1
            bounds.append(num_samples + too_much)
            end = int(before[too_much]) + tokens_per_batch
        num_open = int(before[-1]) - (end - tokens_per_batch)
        num_samples += len(part)
    return np.array([*bounds, num_samples])


def check_tokens_per_batch(tokens_per_batch: int | None, max_seq_length: int) -> None:
    """Refuse batches that cannot hold the longest sample there may be.

    Raises:
        UsageError: names both numbers.
    """
    if tokens_per_batch is not None and tokens_per_batch < max_seq_length:
        raise UsageError(
            "less than the longest sequence",
            where="tokens_per_batch",
            found=tokens_per_batch,
            expected=f"{max_seq_length} or more, as max_seq_length is {max_seq_length}",
        )
