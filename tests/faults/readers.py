"""The kinds of files that a stranger may hand to the program, a good one of each, and how it is read."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.backends.pytorch.checkpoints.manifest import verify
from nemo.collections.nlp.data.datasets import BertPretrainingPreprocessedDataset
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import read_options
from tests.faults.mutants import Reader
from tests.shards import make_rows, write_shard

TEXT = "The cat sees the dog near the old bridge, and follows it."


def readers(data: Path, run: Path, folder: Path) -> list[Reader]:
    """One for each kind.

    Args:
        data: a folder of text, as `write_english` makes it.
        run: the work folder of a training on it.
        folder: where files are made.
    """
    checkpoint = shutil.copytree(list_checkpoints(run / "checkpoints")[-1], folder / "STEP-60")
    vocabulary = folder / "word-piece" / "vocab.txt"
    vocabulary.parent.mkdir()
    shutil.copy(checkpoint / "vocab.txt", vocabulary)
    train_tokenizer("sentence-piece", [data / "train.txt"], folder / "sentence-piece", vocab_size=120)
    config = Path(shutil.copy(run / "config.yaml", folder / "config.yaml"))
    shard = write_shard(folder / "shards/training.hdf5", make_rows(40), fletcher32=True)
    return [
        Reader("vocab.txt", vocabulary, _tokenizer, _by_fingerprint),
        Reader("config.yaml", config, _options, lambda mine, other: True),
        Reader("manifest.json", checkpoint / "manifest.json", _manifest),
        Reader("HDF5 shard", shard, _rows),
        Reader("tokenizer.model", folder / "sentence-piece/tokenizer.model", _tokenizer, _by_fingerprint),
    ]


def _tokenizer(path: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(path.parent)
    tokens = tokenizer.text_to_tokens(TEXT)
    assert tokenizer.tokens_to_ids(tokens) == tokenizer.text_to_ids(TEXT)
    return {"fingerprint": tokenizer.fingerprint, "tokens": tokens, "vocabulary": tokenizer.vocabulary()}


def _by_fingerprint(mine: Any, other: Any) -> bool:
    return mine["fingerprint"] != other["fingerprint"]


def _options(path: Path) -> dict[str, Any]:
    """What a run would be made of; its values are the user's to choose, so any that is allowed will do."""
    values = read_options(PretrainingOptions, path)
    options = PretrainingOptions(**values)
    assert all(getattr(options, name) == value for name, value in values.items())
    return {name: repr(value) for name, value in values.items()}


def _manifest(path: Path) -> Any:
    manifest = verify(path.parent)
    return [manifest.step, sorted((name, r.size, r.sha256) for name, r in manifest.files.items())]


def _rows(path: Path) -> list[str]:
    dataset = BertPretrainingPreprocessedDataset(path, mode="test", vocab_size=60)
    digests = []
    for batch in dataset.batches(8):
        digest = hashlib.sha256()
        for name in sorted(batch):
            digest.update(np.ascontiguousarray(batch[name]).tobytes())
        digests.append(digest.hexdigest())
    return digests
