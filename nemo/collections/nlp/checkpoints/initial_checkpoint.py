"""The initial checkpoint of a run: another run, a weight file, or a Hugging Face BERT.

A file gives the encoder; a folder or name gives the encoder and any heads. A configuration and tokenizer
beside the weights are used.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.manifest import MANIFEST, verify
from nemo.backends.pytorch.checkpoints.module_state import load_weights_by_module
from nemo.backends.pytorch.checkpoints.weight_files import WEIGHT_SUFFIXES, read_weights
from nemo.collections.nlp.data.tokenizers import has_tokenizer
from nemo.collections.nlp.models.bert_settings import SIZES, BertSettings
from nemo.collections.nlp.models.bert_weights import (
    POOLER,
    by_module,
    canonical,
    check_encoder,
    encoder_of,
)
from nemo.collections.nlp.models.hub import (
    CONFIG_FILES,
    is_other_folder,
    load_config,
    load_tensors,
    read_bert_config,
    weight_files,
)
from nemo.collections.nlp.models.weight_formats import refuse_other_framework
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from nemo.utils.logging import logging

CONFIG_FILE = "bert-config.json"

# Options fixed by a model's weights, and those that its configuration only suggests.
_DECIDED = tuple(name for name in SIZES if hasattr(PretrainingOptions, name))
_SUGGESTED = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_IN_WORDS = {"BERT": "encoder", "BertTokenClassifier": "MLM head", "SequenceClassifier": "NSP head"}


@dataclass(frozen=True)
class InitialCheckpoint:
    """A model to start from; its weights are not read yet.

    Attributes:
        name: the name or path as given.
        settings: its sizes and settings; None if there are only weights.
        tokenizer: its tokenizer, as `load_tokenizer` takes it; None if there is none.
        take: loads the weights into a model; returns the names of the modules that received some.
        run: the checkpoint, if a run continues it with its full state.
        step: steps made before the checkpoint; 0 if only weights are loaded.
    """

    name: str
    settings: BertSettings | None
    tokenizer: str | None
    take: Callable[[PretrainingModel], list[str]]
    run: Path | None = None
    step: int = 0


def find_initial_checkpoint(options: PretrainingOptions) -> InitialCheckpoint | None:
    """The checkpoint in `--load_dir` or `--bert_checkpoint`; None without them.

    Raises:
        MissingFileError, CheckpointError: it is missing or damaged.
        UsageError: it is not a BERT.
    """
    if options.load_dir is not None:
        initial = _of_run(Path(options.load_dir))
        run = Path(initial.name)
        return dataclasses.replace(initial, run=run, step=verify(run, contents=False).step)
    if options.bert_checkpoint is None:
        return None
    name = options.bert_checkpoint
    path = Path(name)
    if not path.is_dir():
        refuse_other_framework(path)
    if path.is_file():
        return _of_file(path)
    if is_other_folder(path):
        return _of_run(path)
    if not path.is_dir() and path.suffix in WEIGHT_SUFFIXES:
        raise MissingFileError("no such file", where=name, expected="weights such as BERT.safetensors")
    return _of_huggingface(name)


def _of_run(path: Path) -> InitialCheckpoint:
    """From a nemo-bert run: its work folder, its checkpoints, or one of them."""
    folder = checkpoint.find(path)
    if folder is None:
        refuse_other_framework(path)
        weights = sorted([*path.glob("BERT-*.pt"), *path.glob("checkpoints/BERT-*.pt")])
        if (path / "config.json").is_file():
            weights.append(path)
        raise CheckpointError(
            "no checkpoint to resume from",
            where=path,
            found=None if path.exists() else "nothing at this path",
            expected="the work folder of a run, its checkpoints, or one STEP-<n> of them",
            fix=f"to start from the weights alone, give --bert_checkpoint {weights[-1]}" if weights else "",
        )
    settings = settings_beside(folder)

    def take(model: PretrainingModel) -> list[str]:
        return _take(model, checkpoint.load(folder)[0], folder, _has_new_pooler(settings))

    return InitialCheckpoint(str(folder), settings, _tokenizer_in(folder), take)


def _of_file(path: Path) -> InitialCheckpoint:
    """From a weight file with an encoder."""
    is_ours = (path.parent / MANIFEST).is_file()
    if is_ours:
        verify(path.parent)
    settings = settings_beside(path.parent)

    def take(model: PretrainingModel) -> list[str]:
        encoder = encoder_of(canonical(read_weights(path), path))
        return _take(model, {"BERT": encoder}, path, is_ours and _has_new_pooler(settings))

    return InitialCheckpoint(str(path), settings, _tokenizer_in(path.parent), take)


def _of_huggingface(name: str) -> InitialCheckpoint:
    settings = load_config(name)
    weight_files(name)  # the weights are read later, but missing ones are an error now

    def take(model: PretrainingModel) -> list[str]:
        return _take(model, by_module(load_tensors(name)), name)

    return InitialCheckpoint(name, settings, _tokenizer_in(Path(name)) if Path(name).is_dir() else name, take)


def _has_new_pooler(settings: BertSettings | None) -> bool:
    """Whether the encoder of a nemo-bert run has a pooler that was never trained."""
    return settings is None or not settings.keep_pooler


def _take(
    model: PretrainingModel,
    weights: Mapping[str, Mapping[str, Tensor]],
    source: Any,
    has_new_pooler: bool = False,
) -> list[str]:
    """Copy the weights that a model has; returns the names of the modules that received some.

    A decoder that is not tied to the word embeddings stays untied, whatever the configuration says. In a
    model without a next-sentence head, the encoder keeps its pooler.

    Args:
        has_new_pooler: whether the encoder's pooler was never trained.
    """
    if "BERT" not in weights:
        raise CheckpointError("does not contain a BERT", where=source, found=", ".join(weights))
    modules = {str(module): module for module in model.neural_modules if str(module) in weights}
    taken = {name: dict(weights[name]) for name in modules}
    encoder = taken["BERT"]
    if model.nsp is None and "SequenceClassifier" in weights:
        head = weights["SequenceClassifier"]
        encoder |= {f"{POOLER}{kind}": head[f"mlp.layer0.{kind}"] for kind in ("weight", "bias")}
        has_new_pooler = False
        logging.info("dropping the NSP head of %s; its pooler is kept and exported", source)
    check_encoder(model.bert.settings, model.bert.state_dict(), encoder, source)
    if not has_new_pooler and any(name.startswith(POOLER) for name in encoder):
        model.bert.settings.keep_pooler = True
    taken["BERT"] = {**model.bert.state_dict(), **encoder}
    if "BertTokenClassifier" in taken:
        head = taken["BertTokenClassifier"]
        decoder = head.get("mlp.layer0.weight")
        if decoder is None and not model.is_tied:
            del modules["BertTokenClassifier"], taken["BertTokenClassifier"]
        elif decoder is not None and model.is_tied:
            if torch.equal(decoder, encoder["bert.embeddings.word_embeddings.weight"]):
                del head["mlp.layer0.weight"]
            else:
                logging.warning(
                    "%s: the decoder is not tied to the word embeddings; it is trained separately", source
                )
                model.untie()
    load_weights_by_module(modules, taken, source)
    return list(modules)


def settings_beside(folder: Path) -> BertSettings | None:
    """The settings of the model in this folder; None if there is none."""
    file = config_file_beside(folder)
    return None if file is None else read_bert_config(file)


def config_file_beside(folder: Path) -> Path | None:
    """The configuration file; that of a checkpoint may be beside the folder, as in the tutorial."""
    names = (CONFIG_FILE, *CONFIG_FILES)
    places = (*(folder / name for name in names), folder.parent / CONFIG_FILE)
    return next((file for file in places if file.is_file()), None)


def _tokenizer_in(folder: Path) -> str | None:
    return str(folder) if has_tokenizer(folder) else None


def with_sizes(
    options: PretrainingOptions, initial: InitialCheckpoint | None
) -> tuple[PretrainingOptions, BertSettings | None]:
    """The options, with a model's sizes for those that were not given, and its settings.

    `--config_file` overrides given sizes, except a sequence length below its positions. Without a
    configuration, the options do not change.

    Raises:
        UsageError: a given option contradicts the model, or the model lacks segments for next-sentence
            prediction. Also as `hub.read_bert_config`.
    """
    if options.config_file is not None:
        settings, source = read_bert_config(Path(options.config_file)), options.config_file
        if initial is not None and initial.settings is not None:
            for name in SIZES:
                _refuse_contradiction(settings, initial.settings, name, f"{source} {name}", initial.name)
        for name in _DECIDED:
            if is_given(options, name) and getattr(options, name) != getattr(settings, name):
                logging.warning(
                    "--%s %s has no effect: %s says %s",
                    name,
                    getattr(options, name),
                    source,
                    getattr(settings, name),
                )
    elif initial is not None and initial.settings is not None:
        settings, source = initial.settings, initial.name
        for name in _DECIDED:
            if is_given(options, name):
                _refuse_contradiction(options, settings, name, f"--{name}", source, f"leave out --{name}")
    else:
        return options, None
    if settings.type_vocab_size < 2 and not options.only_mlm_loss:
        raise UsageError(
            "next-sentence prediction needs two segments",
            where=f"{source} type_vocab_size",
            found=settings.type_vocab_size,
            expected="2 or more",
            fix="train without it: --only_mlm_loss",
        )
    sizes = {name: getattr(settings, name) for name in _DECIDED}
    suggested = {name: getattr(settings, name) for name in _SUGGESTED if not is_given(options, name)}
    text = ", ".join(f"{name} {size}" for name, size in sizes.items())
    logging.info("sizes from %s: %s", source, text)
    length = _length_within(settings.max_position_embeddings, options, source)
    return dataclasses.replace(options, **sizes, **suggested, max_seq_length=length), settings


def _length_within(positions: int, options: PretrainingOptions, source: str) -> int:
    """The sequence length: as given, or the default, but at most the number of positions.

    If none was given, `--config_file` sets it to its number of positions.
    """
    is_length_given = is_given(options, "max_seq_length") or "max_seq_length" in options.given_in_file
    if options.config_file is not None and not is_length_given:
        return positions
    if is_length_given and options.max_seq_length > positions:
        if options.config_file is None:
            raise UsageError(
                "longer than the model allows",
                where="--max_seq_length",
                found=options.max_seq_length,
                expected=f"{positions} or less, the max_position_embeddings of {source}",
            )
        logging.warning(
            "max_seq_length reduced to %d from %d, the number of positions in %s",
            positions,
            options.max_seq_length,
            source,
        )
    return min(options.max_seq_length, positions)


def settled_sizes(options: PretrainingOptions, settings: BertSettings | None) -> dict[str, Any]:
    """The sizes of a model that are known before its data is opened."""
    open_yet = () if settings is not None else ("vocab_size", "max_position_embeddings")
    return {name: getattr(options, name) for name in _DECIDED if name not in open_yet}


def is_given(options: PretrainingOptions, name: str) -> bool:
    """Whether the option was given on the command line, or differs from its default."""
    return name in options.given or getattr(options, name) != getattr(PretrainingOptions, name)


def _refuse_contradiction(ours: Any, theirs: Any, name: str, where: str, source: str, fix: str = "") -> None:
    found, expected = getattr(ours, name), getattr(theirs, name)
    if found != expected:
        raise UsageError(f"contradicts {source}", where=where, found=found, expected=expected, fix=fix)


def take_weights(model: PretrainingModel, initial: InitialCheckpoint) -> list[str]:
    """Load the initial checkpoint's weights into a new model and log which; returns the modules' names.

    Raises:
        CheckpointError: they are damaged, or belong to a model of other sizes.
    """
    taken = initial.take(model)
    new = [_IN_WORDS[str(module)] for module in model.neural_modules if str(module) not in taken]
    logging.info(
        "weights from %s: %s; new: %s",
        initial.name,
        ", ".join(_IN_WORDS[module] for module in taken),
        ", ".join(new) or "nothing",
    )
    return taken
