"""Text, a token store, shards or a prepared folder -> figures and advice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.data.hdf5 import holds_shards_instead_of_text
from nemo.collections.nlp.data.inputs.options import AUTO, TextOptions
from nemo.collections.nlp.data.inputs.places import is_url, shown
from nemo.collections.nlp.data.inspection.advice import Advice, advice_on_store, advice_on_text
from nemo.collections.nlp.data.inspection.stored import (
    ShardFigures,
    StoreFigures,
    inspect_shards,
    inspect_store,
)
from nemo.collections.nlp.data.inspection.text import TextFigures, inspect_text
from nemo.collections.nlp.data.store.token_store import is_store, store_in
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class Inspected:
    """A text, a token store or a folder of shards that was inspected.

    Attributes:
        path: the path as given, or within the given folder.
        kind: "text", "store" or "shards".
    """

    path: str
    kind: str
    figures: TextFigures | StoreFigures | ShardFigures
    advice: list[Advice]


def inspect_all(
    inputs: Sequence[str],
    options: TextOptions = AUTO,
    tokenizer: TokenizerSpec | None = None,
    workers: int = 1,
) -> list[Inspected]:
    """Inspect text, or what was prepared from it: a token store, shards, or the folder with all of them.

    Args:
        inputs: several texts are one corpus.
        options: how text is read.
        tokenizer: for token statistics; default for prepared data: the one saved with it.
        workers: number of processes that read text.

    Raises:
        UsageError: several inputs, not all of them text. Also as `inspect_text`, `inspect_store` and
            `inspect_shards`.
    """
    prepared = [path for path in inputs if kind_of(path) != "text"]
    if not prepared:
        figures = inspect_text(inputs, options, tokenizer, workers)
        return [Inspected(", ".join(map(shown, inputs)), "text", figures, advice_on_text(figures))]
    if len(inputs) > 1:
        raise UsageError(
            "only text can be inspected together with other inputs",
            where=prepared[0],
            fix="inspect it by itself",
        )
    return [_inspect_prepared(each, tokenizer) for each in prepared_in(Path(prepared[0]))]


def _inspect_prepared(path: Path, tokenizer: TokenizerSpec | None) -> Inspected:
    tokenizer = tokenizer or tokenizer_beside(path)
    if kind_of(path) == "shards":
        return Inspected(str(path), "shards", inspect_shards(path, tokenizer), [])
    figures = inspect_store(path, tokenizer)
    return Inspected(str(path), "store", figures, advice_on_store(figures))


def kind_of(path: str | Path) -> str:
    """The kind of input: "text", "store", "shards" or "prepared" (the output folder of `prepare`)."""
    if is_url(path):
        return "text"
    path = Path(path)
    if is_store(path):
        return "store"
    if store_in(path, "train"):
        return "prepared"
    return "shards" if holds_shards_instead_of_text(path) else "text"


def prepared_in(path: Path) -> list[Path]:
    """The token stores and the folders of shards in a prepared folder; any other path unchanged."""
    if kind_of(path) != "prepared":
        return [path]
    stores = [store for name in ("train", "test") if (store := store_in(path, name))]
    return stores + sorted(folder for folder in path.glob("hdf5_*") if folder.is_dir())


def named_tokenizer(name: str | None, do_lower_case: bool | None = None) -> TokenizerSpec | None:
    """The tokenizer that `--tokenizer` names; None if it names none."""
    return find_tokenizer(TokenizerRequest(named=name), do_lower_case)


def tokenizer_beside(path: Path) -> TokenizerSpec | None:
    """The tokenizer that `nemo-bert prepare` saved with the data."""
    return find_tokenizer(TokenizerRequest(data=path, is_prepared=True))
