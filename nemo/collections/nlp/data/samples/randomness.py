"""One number for each use of randomness, so that uses with the same seed and epoch are independent."""

from enum import IntEnum


class Stream(IntEnum):
    """Part of the seed of a generator: `default_rng((seed, epoch, stream))`. Numbers are never reused."""

    PAIRS = 1
    PAIRS_KEPT = 2
    ORDER = 3
    SHARD_BLOCKS = 4
    SHARD_ROWS = 5
    SHARD_WRITING = 6
