"""Chooses the tokenizer, by one table of rules for all commands."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.collections.nlp.data.tokenizers.opening import has_tokenizer, is_sentencepiece, load_tokenizer
from nemo.collections.nlp.options.choices import TRAINED
from nemo.utils.errors import UsageError
from nemo.utils.logging import LogMode, logging
from nemo.utils.lookup import closest


@dataclass(frozen=True)
class TokenizerChoice:
    """The chosen tokenizer, not opened yet.

    Attributes:
        source: path or name for `load_tokenizer`; or the folder for a new tokenizer.
        reason: why it was chosen, for the log.
        is_new: whether it must be trained, unless an earlier run has done so.
        warning: a reason for doubt, for the log; empty if there is none.
    """

    source: str
    reason: str
    is_new: bool = False
    warning: str = ""


class Model(Protocol):
    """A model to start from; see `InitialCheckpoint`."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> str | None: ...


@dataclass(frozen=True)
class HubModel:
    """A Hugging Face model, by folder or name; its tokenizer is in the same place."""

    name: str

    @property
    def tokenizer(self) -> str:
        """Its tokenizer, as `load_tokenizer` takes it."""
        return self.name


@dataclass(frozen=True)
class TokenizerRequest:
    """The inputs of the rules.

    Attributes:
        named: `--tokenizer`: a folder, file or name, a kind in `TRAINED`, or None.
        checkpoint: the checkpoint that is opened.
        initial: the initial checkpoint of a run, or another model to start from.
        data: text, or prepared data; an address has no tokenizer beside it.
        is_prepared: whether the data is not text, so that no tokenizer can be trained on it.
        train_in: folder for a new tokenizer.
    """

    named: str | None = None
    checkpoint: Path | None = None
    initial: Model | None = None
    data: Path | str | None = None
    is_prepared: bool = False
    train_in: Path | None = None


def choose_tokenizer(request: TokenizerRequest) -> TokenizerChoice | None:
    """Apply the rules in order, and return the first tokenizer found; None if there is none.

    An existing tokenizer is logged, a new one when it is trained.

    Raises:
        UsageError: an unknown kind, a tokenizer for a checkpoint with its own, or none where one is needed.
    """
    for rule in RULES:
        choice = rule(request)
        if choice is not None:
            if choice.warning:
                logging.warning("%s", choice.warning)
            if not choice.is_new:  # once, as a command may open it for several of its stages
                logging.info(f"using the tokenizer in {choice.source} ({choice.reason})", mode=LogMode.ONCE)
            return choice
    return None


def find_tokenizer(request: TokenizerRequest, do_lower_case: bool | None = None) -> TokenizerSpec | None:
    """Open the tokenizer that the rules choose; None if there is none yet.

    Raises:
        UsageError, MissingFileError: as `choose_tokenizer` and `load_tokenizer`.
    """
    choice = choose_tokenizer(request)
    return None if choice is None or choice.is_new else load_tokenizer(choice.source, do_lower_case)


def _named(request: TokenizerRequest) -> TokenizerChoice | None:
    named, checkpoint = request.named, request.checkpoint
    if named is None or (named in TRAINED and request.train_in is not None):
        return None
    if checkpoint is not None and has_tokenizer(checkpoint):
        raise UsageError(
            "the checkpoint has its own tokenizer", where=checkpoint, fix="leave out --tokenizer"
        )
    near = closest(named, TRAINED)
    if request.train_in is not None and near is not None and not Path(named).exists():
        fix = f"did you mean {near!r}?"
        raise UsageError("unknown tokenizer", where="--tokenizer", found=repr(named), fix=fix)
    return TokenizerChoice(named, "named by --tokenizer")


def _of_checkpoint(request: TokenizerRequest) -> TokenizerChoice | None:
    checkpoint = request.checkpoint
    if checkpoint is None or not has_tokenizer(checkpoint):
        return None
    return TokenizerChoice(str(checkpoint), "saved in the checkpoint")


def _of_initial_checkpoint(request: TokenizerRequest) -> TokenizerChoice | None:
    initial = request.initial
    if initial is None or initial.tokenizer is None:
        return None
    return TokenizerChoice(initial.tokenizer, f"from the model {initial.name}")


def _beside_data(request: TokenizerRequest) -> TokenizerChoice | None:
    for folder in _folders_to_try(request):
        # A vocab.txt beside a SentencePiece model only lists its pieces.
        is_other_kind = request.named == "word-piece" and is_sentencepiece(folder)
        if has_tokenizer(folder) and not is_other_kind:
            return TokenizerChoice(str(folder), "beside the data", warning=_doubt(request, folder))
    return None


def _doubt(request: TokenizerRequest, folder: Path) -> str:
    if request.initial is None:
        return ""
    return (
        f"{request.initial.name} has no tokenizer, so the one in {folder} is used; its weights only work "
        "with the tokenizer they were trained with"
    )


def _new(request: TokenizerRequest) -> TokenizerChoice | None:
    if request.train_in is None:
        return None
    beside = _folders_to_try(request)
    if request.is_prepared:
        raise UsageError(
            "the tokenizer that made the token store is missing",
            where=request.data,
            expected=f"a tokenizer in {beside[-1]}",
            fix="name it with --tokenizer",
        )
    if request.initial is not None:
        put = f", or copy it to {beside[0]}" if beside else ""
        raise UsageError(
            "this model comes without its tokenizer, which its weights need",
            where=request.initial.name,
            fix=f"name its folder with --tokenizer{put}",
        )
    return TokenizerChoice(str(request.train_in), "there is no other", is_new=True)


RULES: tuple[Callable[[TokenizerRequest], TokenizerChoice | None], ...] = (
    _named,
    _of_checkpoint,
    _of_initial_checkpoint,
    _beside_data,
    _new,
)
"""In order: the tokenizer named, that of the model, the one beside the data, a new one."""


def _folders_to_try(request: TokenizerRequest) -> list[Path]:
    """Where the data's tokenizer may be: beside text; beside prepared data, or beside its folder."""
    data = request.data
    if data is None or isinstance(data, str):
        return []
    folder = data if data.is_dir() else data.parent
    folders = [folder, Path(os.path.abspath(folder)).parent] if request.is_prepared else [folder]
    return [folder / TOKENIZER_FOLDER for folder in folders]
