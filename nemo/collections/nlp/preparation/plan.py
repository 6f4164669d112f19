"""The plan of a preparation: which text goes into which part, and which documents into which shard.

A plan depends on text, options and tokenizer alone. Engine, number of workers, order of files and file system
affect neither the plan nor its result.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.hdf5.writer import ShardRecipe
from nemo.collections.nlp.data.inputs import Section, Source, TextOptions, sections_of
from nemo.collections.nlp.data.inputs.options import READER
from nemo.collections.nlp.data.store.store_builder import describe_source, groups_of
from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.utils.errors import DataError
from nemo.utils.files import write_atomically

VERSION = 1
PLAN_FILE = "plan.json"
BYTES_PER_SHARD = 80_000_000  # of text, counting repeated text repeatedly
COMPRESSION = 4  # approximate ratio of text to its compressed file
SMALL_BYTES = 64_000_000  # of text, which takes one process a few seconds
TRAINING, TEST = "training", "test"
STORES = {TRAINING: "train", TEST: "test"}  # the folders of the token stores


@dataclass(frozen=True)
class ShardTask:
    """One file to write.

    Attributes:
        recipe: number of the phase.
        split: TRAINING or TEST.
        index, count: number of this file, and of all files of the split.
    """

    recipe: int
    split: str
    index: int
    count: int


@dataclass(frozen=True)
class PreparationPlan:
    """A plan, see the top of the file.

    Attributes:
        key: SHA-256 of everything that affects what is written.
        out: the folder to write.
        reader: `inputs.options.READER`; not in the key, because data prepared by an earlier reader stays
            usable.
        options: the options that affect what is written, in readable form.
        sources: the manifest entries of the files.
        groups: the sections of each part.
        dataset: prefix of the shard names.
    """

    key: str
    out: Path
    reader: int
    options: dict[str, Any]
    text: TextOptions
    sources: list[dict[str, Any]]
    groups: list[list[Section]]
    recipes: list[ShardRecipe]
    dataset: str
    num_shards: dict[str, int]

    @property
    def shards(self) -> list[ShardTask]:
        """All files to write, in the order of their tasks."""
        return [
            ShardTask(recipe, split, index, count)
            for recipe in range(len(self.recipes))
            for split, count in self.num_shards.items()
            for index in range(count)
        ]

    @property
    def is_small(self) -> bool:
        """Whether there is at most `SMALL_BYTES` of text, counted once plus once for each pass over it."""
        passes = 1 + sum(recipe.dupe_factor for recipe in self.recipes)
        sizes = [_text_bytes(section.num_bytes, section.source) for group in self.groups for section in group]
        return sum(sizes) * passes <= SMALL_BYTES and all(size >= 0 for size in sizes)

    def shard_file(self, task: ShardTask) -> str:
        """The path of a shard within the folder of its phase, as in NVIDIA's scripts."""
        return f"{self.dataset}/{self.dataset}_{task.split}_{task.index}.hdf5"


def make_plan(options: PrepareOptions, sources: Sequence[Source], tokenizer: str) -> PreparationPlan:
    """The plan for a corpus.

    Args:
        tokenizer: the fingerprint of an existing tokenizer, or the kind to train.
    """
    decisive = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.metadata["decides"] != "machine"
    }
    decisive |= {"dataset_name": options.name, "do_lower_case": bool(options.do_lower_case)}
    described = [describe_source(source) for source in sources]
    key = json.dumps([VERSION, tokenizer, decisive, described], sort_keys=True)
    return PreparationPlan(
        key=hashlib.sha256(key.encode()).hexdigest(),
        out=Path(options.out).absolute(),
        reader=READER,
        options=decisive,
        text=TextOptions.of(options),
        sources=described,
        groups=groups_of(sections_of(sources), options.part_mb << 20),
        recipes=[
            ShardRecipe(
                seq_length,
                max_predictions,
                masked_lm_prob=options.masked_lm_prob,
                random_seed=options.random_seed,
                dupe_factor=options.dupe_factor,
                short_seq_prob=options.short_seq_prob,
                masking=options.masking,
            )
            for seq_length, max_predictions in options.shapes
        ],
        dataset=options.name,
        num_shards=_num_shards(options, sources),
    )


def _num_shards(options: PrepareOptions, sources: Sequence[Source]) -> dict[str, int]:
    size = sum(max(_text_bytes(source.num_bytes, source), 0) for source in sources)
    training = options.num_shards or max(1, round(size * options.dupe_factor / BYTES_PER_SHARD))
    share = options.test_fraction / (1 - options.test_fraction)
    test = max(1, round(training * share)) if options.test_fraction else 0
    return {TRAINING: training, TEST: test}


def _text_bytes(stored: int, source: Source) -> int:
    """Approximate bytes of text in `stored` bytes of a file; negative if unknown."""
    return stored if source.compression is None else stored * COMPRESSION


def save_plan(plan: PreparationPlan, work: Path) -> None:
    """Write the plan to a work folder, where every task finds it."""
    content = dataclasses.asdict(plan) | {"out": str(plan.out)}
    write_atomically(work / PLAN_FILE, json.dumps(content).encode())


def load_plan(work: Path) -> PreparationPlan:
    """Load a plan that `save_plan` wrote.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        content = json.loads((work / PLAN_FILE).read_bytes())
        content |= {
            "out": Path(content["out"]),
            "text": TextOptions(**content["text"]),
            "groups": [[_section(**section) for section in group] for group in content["groups"]],
            "recipes": [ShardRecipe(**recipe) for recipe in content["recipes"]],
        }
        return PreparationPlan(**content)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        fix = "delete the folder and start again"
        raise DataError("no plan, or a damaged one", where=work / PLAN_FILE, fix=fix) from problem


def _section(source: dict[str, Any], **others: Any) -> Section:
    return Section(Source(**source), **others)
