"""Measures the speed of preparing a token store and HDF5 shards, compared with `datasets.map`.

    python benchmarks/prepare.py TEXT.txt [...] [--tokenizer word-piece sentence-piece] [--rounds 3]

Needs the extra [bench]. Three ways, each on one core, alternating (A B C A B C ...) in one process:

    store   read, split into sentences, tokenize, find words, hash; write parts, then a token store
    hdf5    shards from that store: 128 tokens, at most 20 predictions, every document once
    map     `datasets.map` as in Hugging Face's run_mlm.py: tokenize every line, join lines, cut blocks of
            128; does not include reading the file, and has no sentences, words, pairs or masks

The ids are the same: the script compares every sentence of the store with Hugging Face's tokenizer. Times are
CPU seconds; megabytes are those of the text. Work done once per corpus (training Punkt) or process (imports)
is not counted: a warm-up run on the first MiB does it. But every run begins with a fresh tokenizer and
splitter, because both cache words.
"""

import argparse
import cProfile
import os
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

# Before anything starts threads.
os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import datasets

from nemo.collections.nlp.data.hdf5.writer import ShardRecipe, document_ranges, write_shard
from nemo.collections.nlp.data.inputs.options import AUTO
from nemo.collections.nlp.data.inputs.sections import SectionReader, sections_of
from nemo.collections.nlp.data.inputs.sources import sources_of
from nemo.collections.nlp.data.store.store_builder import assemble, excerpt_of, groups_of, write_part
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.text.sentences import Splitter, make_splitter
from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import find_or_train_tokenizer

BLOCK = 128
RECIPE = ShardRecipe(BLOCK, 20, dupe_factor=1)
SHARD_BYTES = 80e6  # of text
WARM_UP_BYTES = 1 << 20


def main() -> None:
    """Measure every text with every kind of tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path, help="UTF-8 text files")
    parser.add_argument("--tokenizer", nargs="+", default=["word-piece", "sentence-piece"])
    parser.add_argument("--vocab_size", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=30, help="megabytes to use of each text")
    parser.add_argument("--profile", action="store_true", help="also profile how the store is built")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, whole in enumerate(args.texts):
            text = _beginning(whole, int(args.megabytes * 1e6), Path(folder) / f"{number}.txt")
            for kind in args.tokenizer:
                place = Path(folder) / f"{number}-{kind}"
                tokenizer = find_or_train_tokenizer(kind, [text], place / "tokenizer", args.vocab_size)
                _compare(f"{whole.name}, {kind}", text, tokenizer, place, args.rounds)
                if args.profile:
                    _profile(text, place)


def _beginning(text: Path, num_bytes: int, copy: Path) -> Path:
    """The first lines of a text."""
    with open(text, "rb") as file:
        copy.write_bytes(file.read(num_bytes) + file.readline())
    return copy


def _compare(title: str, text: Path, tokenizer: TokenizerSpec, place: Path, rounds: int) -> None:
    for prepare in _ways(_beginning(text, WARM_UP_BYTES, place / "warm_up.txt"), tokenizer, place).values():
        prepare()()
    ways = _ways(text, tokenizer, place)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, prepare in ways.items():
            run = prepare()
            before = _processor_seconds()
            run()
            seconds[name].append(_processor_seconds() - before)
    _check_ids(text, tokenizer, place)
    megabytes = text.stat().st_size / 1e6
    store, hdf5, theirs = (median(seconds[name]) for name in ("store", "hdf5", "map"))
    print(f"\n{title}: {megabytes:.1f} MB, {tokenizer.vocab_size} tokens, {rounds} rounds")
    for name, values in seconds.items():
        each = " ".join(f"{megabytes / value:.2f}" for value in values)
        print(f"  {name:6} {megabytes / median(values):6.2f} MB/s per core   ({each})")
    print(f"  store / map {theirs / store:.2f}, HDF5's time / store's time {hdf5 / store:.2f}", flush=True)


def _processor_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    return sum(os.times()[:4])


def _ways(text: Path, tokenizer: TokenizerSpec, place: Path) -> dict[str, Callable[[], Callable[[], None]]]:
    """The ways to compare: functions that prepare a run and return it."""
    splitter = _splitter(text)
    lines = datasets.load_dataset(
        "text", data_files=str(text), cache_dir=str(place / "datasets"), split="train"
    )
    return {
        "store": lambda: partial(_write_store, text, _fresh(place), deepcopy(splitter), place),
        "hdf5": lambda: partial(_write_shards, tokenizer, place, text.stat().st_size),
        "map": lambda: partial(_map, lines, _fresh(place).to_huggingface(), place),
    }


def _fresh(place: Path) -> TokenizerSpec:
    return load_tokenizer(place / "tokenizer")


def _splitter(text: Path) -> Splitter:
    return make_splitter(excerpt_of(sections_of(sources_of(text)), AUTO))


def _write_store(text: Path, tokenizer: TokenizerSpec, splitter: Splitter, place: Path) -> None:
    groups = groups_of(sections_of(sources_of(text)))
    parts = [place / "parts" / str(number) for number in range(len(groups))]
    for part, sections in zip(parts, groups, strict=True):
        write_part(part, sections, tokenizer, splitter, AUTO)
    assemble(parts, {"train": (place / "store", None)}, {})


def _write_shards(tokenizer: TokenizerSpec, place: Path, num_bytes: int) -> None:
    store = TokenStore(place / "store")
    for number, documents in enumerate(document_ranges(store, round(num_bytes / SHARD_BYTES) or 1)):
        write_shard(store, tokenizer, RECIPE, documents, place / "shards" / f"{number}.hdf5")


def _map(lines: Any, tokenizer: Any, place: Path) -> None:
    """The two maps of run_mlm.py, without its cache."""

    def tokenize(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], add_special_tokens=False, return_special_tokens_mask=True)

    def group(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        joined = {name: list(chain(*rows)) for name, rows in batch.items()}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        return {
            name: [values[i : i + BLOCK] for i in range(0, total, BLOCK)] for name, values in joined.items()
        }

    cache = place / "map"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    tokenized = lines.map(
        tokenize, batched=True, remove_columns=["text"], cache_file_name=str(cache / "tokens.arrow")
    )
    tokenized.map(group, batched=True, cache_file_name=str(cache / "blocks.arrow"))


def _check_ids(text: Path, tokenizer: TokenizerSpec, place: Path) -> None:
    """Raise an AssertionError if the store's ids differ from those of Hugging Face's tokenizer.

    Sentences that contain a special token may differ: in a corpus it is a word in brackets.
    """
    splitter, huggingface, store = _splitter(text), tokenizer.to_huggingface(), TokenStore(place / "store")
    number = 0
    for section in sections_of(sources_of(text)):
        for document in SectionReader(section).documents():
            sentences = [sentence for paragraph in document for sentence in splitter(paragraph)]
            batch = huggingface(sentences, add_special_tokens=False)["input_ids"]
            for sentence, ids in zip(sentences, batch, strict=True):
                if ids:
                    found = store.tokens[slice(*store.sentence_offsets[number : number + 2])]
                    names_special = any(token in sentence for token in tokenizer.special_token_to_id)
                    assert names_special or found.tolist() == ids, (sentence, found, ids)
                    number += 1
    assert number == len(store.sentence_offsets) - 1


def _profile(text: Path, place: Path) -> None:
    tokenizer, splitter = _fresh(place), _splitter(text)
    with cProfile.Profile() as profile:
        _write_store(text, tokenizer, splitter, place)
    pstats.Stats(profile).sort_stats("tottime").print_stats(15)


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"\n{time.monotonic() - began:.0f} s in total")
