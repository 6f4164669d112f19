"""What an adaptation was made from, by content: a rerun must not report on other text."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from nemo.backends.pytorch.checkpoints.checkpoint import list_checkpoints
from nemo.collections.nlp.data.store.store_arrays import sha256_of
from nemo.collections.nlp.options.adaptation import AdaptationOptions


def contents_of(options: AdaptationOptions) -> dict[str, str]:
    """Hashes of the model, the text and `--replay`; "" for an address, or a place that is gone."""
    replay = [options.replay] if options.replay else []
    return {
        "model": _hash_of([str(_weights_of(Path(options.model)))]),
        "text": _hash_of(options.text),
        "replay": _hash_of(replay),
    }


def _weights_of(model: Path) -> Path:
    """The part of a model that decides: a run's newest checkpoint; its other files change when it is read."""
    checkpoints = list_checkpoints(model / "checkpoints")
    return checkpoints[-1] if checkpoints else model


def _hash_of(places: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in map(Path, places):
        if not path.exists():
            return ""
        for file in _files(path):
            digest.update(str(file.relative_to(path)).encode())
            digest.update(sha256_of(file).encode())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for file in sorted(path.rglob("*")):
        # A run on this text keeps its tokenizer and tokens beside it.
        if file.is_file() and "bert" not in file.relative_to(path).parts:
            yield file
