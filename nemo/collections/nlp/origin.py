"""What a run starts from: another run, weights in a file, or a BERT of Hugging Face's.

A file gives the encoder, a folder or a name the encoder and what heads it has. Configuration and tokenizer
are used where they are beside the weights.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nemo.backends.pytorch import checkpoint
from nemo.backends.pytorch.part_weights import load_weights_by_part
from nemo.collections.nlp.data.tokenizers import has_tokenizer
from nemo.collections.nlp.export import huggingface_weights
from nemo.collections.nlp.hub import SIZES, load_config, read_config
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining_model import PretrainingModel
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from nemo.utils.logging import logging

CONFIG_FILE = "bert-config.json"

# Options that a model's weights decide, and those that its configuration only suggests.
_DECIDED = tuple(name for name in SIZES if hasattr(PretrainingOptions, name))
_SUGGESTED = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_IN_WORDS = {"BERT": "encoder", "BertTokenClassifier": "MLM head", "SequenceClassifier": "NSP head"}


@dataclass(frozen=True)
class Origin:
    """A model to start from, whose weights are not read yet.

    Attributes:
        name: as it was given.
        config: its `transformers.BertConfig`; None where there are weights only.
        tokenizer: its tokenizer, as `load_tokenizer` takes it; None where there is none.
        take: gives a model the weights; returns the names of the parts that got some.
        run: the checkpoint, where a run goes on with everything that is in it.
        step: updates that are in it; 0 where only weights are taken.
    """

    name: str
    config: Any | None
    tokenizer: str | None
    take: Callable[[PretrainingModel], list[str]]
    run: Path | None = None
    step: int = 0


def find_origin(options: PretrainingOptions) -> Origin | None:
    """What `--load_dir` or `--bert_checkpoint` names; None without them.

    Raises:
        MissingFileError, CheckpointError: it is not there, or damaged.
        UsageError: it is not a BERT.
    """
    if options.load_dir is not None:
        origin = _of_run(Path(options.load_dir))
        run = Path(origin.name)
        return dataclasses.replace(origin, run=run, step=checkpoint.verify(run, contents=False).step)
    if options.bert_checkpoint is None:
        return None
    name = options.bert_checkpoint
    path = Path(name)
    if path.is_file():
        return _of_file(path)
    if path.is_dir() and not (path / "config.json").is_file():
        return _of_run(path)
    if not path.is_dir() and path.suffix in _WEIGHT_SUFFIXES:
        raise MissingFileError("no such file", where=name, expected="weights such as BERT.safetensors")
    return _of_huggingface(name)


def _of_run(path: Path) -> Origin:
    """A run of ours: its work folder, its checkpoints, or one of them."""
    folder = checkpoint.find(path)
    if folder is None:
        weights = sorted([*path.glob("BERT-*.pt"), *path.glob("checkpoints/BERT-*.pt")])
        if (path / "config.json").is_file():
            weights.append(path)
        raise CheckpointError(
            "no checkpoint to continue from",
            where=path,
            expected="the work folder of a run, its checkpoints, or one STEP-<n> of them",
            fix=f"--bert_checkpoint {weights[-1]} starts from the weights alone" if weights else "",
        )

    def take(model: PretrainingModel) -> list[str]:
        return _take(model, checkpoint.load(folder)[0], folder)

    return Origin(str(folder), _config_beside(folder), _tokenizer_in(folder), take)


def _of_file(path: Path) -> Origin:
    """The encoder in a module's file."""
    if (path.parent / checkpoint.MANIFEST).is_file():
        checkpoint.verify(path.parent)

    config = _config_beside(path.parent)

    def take(model: PretrainingModel) -> list[str]:
        try:
            model.bert.restore_from(path)
        except CheckpointError as error:
            if config is not None:
                raise
            raise CheckpointError(
                str(error),
                fix="there is no bert-config.json beside it, so say the sizes it was trained with: "
                "--config_file, or --hidden_size, --num_hidden_layers, ...",
            ) from error
        return [str(model.bert)]

    return Origin(str(path), config, _tokenizer_in(path.parent), take)


def _of_huggingface(name: str) -> Origin:
    config = load_config(name)

    def take(model: PretrainingModel) -> list[str]:
        parts = huggingface_weights(name)
        if config.tie_word_embeddings and "BertTokenClassifier" in parts:
            del parts["BertTokenClassifier"]["mlp.layer0.weight"]
        return _take(model, parts, name)

    return Origin(name, config, _tokenizer_in(Path(name)) if Path(name).is_dir() else name, take)


def _take(model: PretrainingModel, weights: Mapping[str, Mapping[str, Tensor]], source: Any) -> list[str]:
    parts = {str(part): part for part in model.parts if str(part) in weights}
    if str(model.bert) not in parts:
        raise CheckpointError("holds no BERT", where=source, found=", ".join(weights))
    load_weights_by_part(parts, {part: weights[part] for part in parts}, source)
    return list(parts)


def _config_beside(folder: Path) -> Any | None:
    """The configuration of a model in this folder; a checkpoint's may be beside it, as in the tutorial."""
    for file in (folder / CONFIG_FILE, folder / "config.json", folder.parent / CONFIG_FILE):
        if file.is_file():
            return read_config(file)
    return None


def _tokenizer_in(folder: Path) -> str | None:
    return str(folder) if has_tokenizer(folder) else None


def with_sizes(options: PretrainingOptions, origin: Origin | None) -> tuple[PretrainingOptions, Any | None]:
    """The options with a model's sizes in place of those that were not given, and its configuration.

    `--config_file` wins over what was given, and its positions are the length of the sequences. Without it
    and without an origin the options are what they are, and there is no configuration yet.

    Raises:
        UsageError: an option that was given contradicts the model. Also as `hub.read_config`.
    """
    if options.config_file is not None:
        config, source = read_config(Path(options.config_file)), options.config_file
        length = config.max_position_embeddings
        if origin is not None and origin.config is not None:
            for name in SIZES:
                _refuse_contradiction(config, origin.config, name, f"{source} {name}", origin.name)
    elif origin is not None and origin.config is not None:
        config, source = origin.config, origin.name
        for name in _DECIDED:
            if is_given(options, name):
                _refuse_contradiction(options, config, name, f"--{name}", source, f"leave --{name} out")
        length = _length_within(config.max_position_embeddings, options, source)
    else:
        return options, None
    sizes = {name: getattr(config, name) for name in _DECIDED}
    suggested = {name: getattr(config, name) for name in _SUGGESTED if not is_given(options, name)}
    told = ", ".join(f"{name} {size}" for name, size in sizes.items())
    logging.info("sizes from %s: %s, %d positions", source, told, config.max_position_embeddings)
    return dataclasses.replace(options, **sizes, **suggested, max_seq_length=length), config


def _length_within(positions: int, options: PretrainingOptions, source: str) -> int:
    if options.max_seq_length > positions and is_given(options, "max_seq_length"):
        raise UsageError(
            "longer than the model's positions",
            where="--max_seq_length",
            found=options.max_seq_length,
            expected=f"{positions} or less, the max_position_embeddings of {source}",
        )
    return min(options.max_seq_length, positions)


def is_given(options: PretrainingOptions, name: str) -> bool:
    """Was the option on the command line, or is it not what it is by default?"""
    return name in options.given or getattr(options, name) != getattr(PretrainingOptions, name)


def _refuse_contradiction(ours: Any, theirs: Any, name: str, where: str, source: str, fix: str = "") -> None:
    found, expected = getattr(ours, name), getattr(theirs, name)
    if found != expected:
        raise UsageError(f"contradicts {source}", where=where, found=found, expected=expected, fix=fix)


def take_weights(model: PretrainingModel, origin: Origin) -> None:
    """Give a new model the weights of its origin, and say which ones.

    Raises:
        CheckpointError: they are damaged, or of a model of other sizes.
    """
    taken = origin.take(model)
    new = [_IN_WORDS[str(part)] for part in model.parts if str(part) not in taken]
    logging.info(
        "weights from %s: %s; new: %s",
        origin.name,
        ", ".join(_IN_WORDS[part] for part in taken),
        ", ".join(new) or "nothing",
    )
