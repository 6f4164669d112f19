"""Shards in the format of NVIDIA's BERT scripts: finding, reading, checking and writing them."""

from nemo.collections.nlp.data.hdf5.folders import (
    has_held_out_shards,
    holds_shards_instead_of_text,
    lengths_by_name,
    shards_of,
)
from nemo.collections.nlp.data.hdf5.manifest import ShardManifest, manifests_of
from nemo.collections.nlp.data.hdf5.shard import (
    LABELS,
    Limits,
    Rows,
    Shard,
    longest_row,
    open_shard,
    read_lengths,
)
from nemo.collections.nlp.data.hdf5.structure import Frame, read_checked, restored
from nemo.collections.nlp.data.hdf5.survey import Survey, check_shard_tokenizer, row_blocks_of, survey_of

__all__ = [
    "LABELS",
    "Frame",
    "Limits",
    "Rows",
    "Shard",
    "ShardManifest",
    "Survey",
    "check_shard_tokenizer",
    "has_held_out_shards",
    "holds_shards_instead_of_text",
    "lengths_by_name",
    "longest_row",
    "manifests_of",
    "open_shard",
    "read_checked",
    "read_lengths",
    "restored",
    "row_blocks_of",
    "shards_of",
    "survey_of",
]
