"""Reads BERTs from Hugging Face folders and the hub with transformers, and translates its errors."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nemo.collections.nlp.models.bert_settings import SIZES, BertSettings
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError, reason
from nemo.utils.files import missing
from nemo.utils.strict import parse_json

if TYPE_CHECKING:  # tokenizers are also found here, by processes that do not need torch
    from torch import Tensor

T = TypeVar("T")

ANSWER_SECONDS = 5.0  # timeout for the hub
CONFIG_FILES = ("config.json", "bert_config.json")
"""Names of a configuration file: Hugging Face's, and that of Google's release and of folders from 2018."""
# In the order in which transformers looks for them; an index lists the files that share the weights.
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
HUB_IDS = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-large-cased": "google-bert/bert-large-cased",
    "bert-base-multilingual-uncased": "google-bert/bert-base-multilingual-uncased",
    "bert-base-multilingual-cased": "google-bert/bert-base-multilingual-cased",
    "bert-base-chinese": "google-bert/bert-base-chinese",
    "bert-base-german-cased": "google-bert/bert-base-german-cased",
    "bert-large-uncased-whole-word-masking": "google-bert/bert-large-uncased-whole-word-masking",
    "bert-large-cased-whole-word-masking": "google-bert/bert-large-cased-whole-word-masking",
    "bert-large-uncased-whole-word-masking-finetuned-squad": (
        "google-bert/bert-large-uncased-whole-word-masking-finetuned-squad"
    ),
    "bert-large-cased-whole-word-masking-finetuned-squad": (
        "google-bert/bert-large-cased-whole-word-masking-finetuned-squad"
    ),
    "bert-base-cased-finetuned-mrpc": "google-bert/bert-base-cased-finetuned-mrpc",
    "bert-base-german-dbmdz-cased": "dbmdz/bert-base-german-cased",
    "bert-base-german-dbmdz-uncased": "dbmdz/bert-base-german-uncased",
    "bert-base-japanese": "tohoku-nlp/bert-base-japanese",
    "bert-base-japanese-whole-word-masking": "tohoku-nlp/bert-base-japanese-whole-word-masking",
    "bert-base-japanese-char": "tohoku-nlp/bert-base-japanese-char",
    "bert-base-japanese-char-whole-word-masking": "tohoku-nlp/bert-base-japanese-char-whole-word-masking",
    "bert-base-finnish-cased-v1": "TurkuNLP/bert-base-finnish-cased-v1",
    "bert-base-finnish-uncased-v1": "TurkuNLP/bert-base-finnish-uncased-v1",
    "bert-base-dutch-cased": "GroNLP/bert-base-dutch-cased",
}
"""The pretrained BERTs that NeMo 0.10 listed, and their current names on the hub."""


def is_other_folder(path: Path) -> bool:
    """Whether it is a folder without a model configuration, which can only be a nemo-bert run."""
    return path.is_dir() and not any((path / file).is_file() for file in CONFIG_FILES)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers; its problems are reported by us."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    shows_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shows_progress:
            transformers_logging.enable_progress_bar()


def read_bert_config(path: Path) -> BertSettings:
    """The settings in a JSON file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is not a configuration of a supported BERT.
    """
    if not path.is_file():
        raise MissingFileError("no such file", where=path, expected="a bert-config.json")
    try:
        settings = parse_json(path.read_bytes())
        if not isinstance(settings, dict):
            raise TypeError("not a JSON object")
    except (ValueError, TypeError) as error:
        raise UsageError("not a BERT configuration", where=path, found=reason(error)) from error
    for key in settings:
        # Only likely typos: files of other programs have additional names (pooler_num_attention_heads).
        (near, *_) = get_close_matches(key, SIZES, 1, cutoff=0.88) or [key]
        if near != key:
            raise UsageError("unknown name", where=path, found=repr(key), fix=f"did you mean {near!r}?")
    _check_is_plain_bert(settings, path)
    return BertSettings.parse(settings, path)


def find(name: str, load: Callable[[str, bool], T]) -> T:
    """The result of `load(source, local_files_only)` for the first source that has the model.

    A folder is its own only source. Any other name is looked up in the cache, as given and under its current
    name on the hub, and then on the hub, which must answer quickly: transformers alone would retry six times.

    Raises:
        OSError: no source has it. Also whatever `load` raises.
    """
    if Path(name).is_dir():
        return load(name, True)
    hub_id = HUB_IDS.get(name, name)
    for cached in dict.fromkeys((name, hub_id)):
        try:
            return load(cached, True)
        except OSError:
            continue
    _ask_hub(hub_id)
    return load(hub_id, False)


def _ask_hub(hub_id: str) -> None:
    """Raise an OSError unless the hub has a model of that name."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        raise OSError("not in the cache, and HF_HUB_OFFLINE is set")
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, "config.json"), timeout=ANSWER_SECONDS)
    except HFValidationError as error:
        raise OSError("not a folder, and not a valid hub name") from error
    except EntryNotFoundError:
        return  # the repository exists; the reader reports what it lacks
    except HfHubHTTPError as error:
        raise OSError(f"not in the cache, and the hub answered: {reason(error)}") from error
    except Exception as error:  # of the HTTP library, whose name changes with the hub's version
        raise OSError(
            f"not in the cache, and {constants.ENDPOINT} cannot be reached: {reason(error)}"
        ) from error


def load_config(name: str) -> BertSettings:
    """The settings of a pretrained model.

    Args:
        name: a folder, or a name on the hub, looked up in the cache before the network.

    Raises:
        CheckpointError: there is no such model, or its files are damaged.
        UsageError: it is not a supported BERT.
    """

    def parse(settings: dict[str, Any], source: str, local_only: bool) -> BertSettings:
        _check_is_plain_bert(settings, name)
        parsed = BertSettings.parse(settings, name)
        parsed.as_transformers(name)  # what an export would reject is an error before any training
        return parsed

    return _load(name, parse)


def weight_files(name: str) -> list[Path]:
    """The weight files of a pretrained model; downloaded if it is on the hub.

    Raises:
        CheckpointError: there are no weights that PyTorch can read. Also as `load_config`.
    """
    from nemo.backends.pytorch.checkpoints.weight_files import WEIGHT_SUFFIXES
    from nemo.collections.nlp.models.weight_formats import refuse_other_framework

    def find_files(settings: dict[str, Any], source: str, local_only: bool) -> list[Path]:
        for file_name in _WEIGHT_FILES:
            path = _file(source, file_name, local_only)
            if path is None:
                continue
            if path.suffix != ".json":
                return [path]
            return [_listed_file(source, listed, path, local_only) for listed in _listed_files(path)]
        if Path(name).is_dir():
            refuse_other_framework(Path(name))
        others = sorted(path.name for path in Path(source).glob("*") if path.suffix in WEIGHT_SUFFIXES)
        raise CheckpointError(
            "no weights of a pretrained BERT",
            where=name,
            found=", ".join(others) or "only a configuration",
            expected=" or ".join(_WEIGHT_FILES[::2]),
            fix=f"name the file: {Path(name, others[0])}" if others else "",
        )

    return _load(name, find_files)


def load_tensors(name: str) -> "dict[str, Tensor]":
    """The weights of a pretrained model, encoder and pretraining heads, see `bert_weights.canonical`.

    Raises:
        CheckpointError: they are damaged, not finite, or not those of a BERT. Also as `weight_files`.
    """
    from nemo.backends.pytorch.checkpoints.weight_files import read_weights
    from nemo.collections.nlp.models.bert_weights import canonical

    tensors: dict[str, Tensor] = {}
    for file in weight_files(name):
        tensors |= read_weights(file)
    return canonical(tensors, name)


def _file(source: str, name: str, local_only: bool) -> Path | None:
    from transformers.utils.hub import cached_file

    found = cached_file(
        source, name, local_files_only=local_only, _raise_exceptions_for_missing_entries=False
    )
    return None if found is None else Path(found)


def _listed_files(index: Path) -> list[str]:
    """The files listed in an index, all in its folder."""
    try:
        names = set(parse_json(index.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError):
        names = set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError("damaged: not a list of weights by file", where=index)
    return sorted(names)


def _listed_file(source: str, name: str, index: Path, local_only: bool) -> Path:
    path = _file(source, name, local_only)
    if path is None:
        raise CheckpointError("some of its files are missing", where=index, found=f"no {name}")
    return path


def load_bert(name: str, model_class: str) -> tuple[Any, dict[str, Any]]:
    """Load a model with transformers, and report which weights were missing or unexpected.

    Args:
        name: a folder.
        model_class: name of a class in transformers.

    Returns:
        The model in float32, and the `output_loading_info` of `from_pretrained`.

    Raises:
        CheckpointError: its files are damaged or do not match their configuration.
    """
    import transformers

    def load(settings: dict[str, Any], source: str, local_only: bool) -> tuple[Any, dict[str, Any]]:
        return getattr(transformers, model_class).from_pretrained(
            source, local_files_only=local_only, output_loading_info=True, dtype="float32"
        )

    return _load(name, load)


def _load(name: str, load: Callable[[dict[str, Any], str, bool], T]) -> T:
    """Call `load(settings, source, local_files_only)` with the model's configuration; translate errors."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import PretrainedConfig

    def load_from(source: str, local_only: bool) -> T:
        with quiet():
            settings, _ = PretrainedConfig.get_config_dict(
                source, local_files_only=local_only, _configuration_file=_configuration_file(source)
            )
            return load(settings, source, local_only)

    from nemo.backends.pytorch.checkpoints.weight_files import refuse_stand_in  # imports torch

    for ending in ("*.safetensors", "*.bin"):  # none if it is a name on the hub
        for file in sorted(Path(name).glob(ending)):
            refuse_stand_in(file)
    try:
        return find(name, load_from)
    except OSError as error:
        path = Path(name)
        if "/" in name and path.parent.is_dir() and not path.exists():  # more likely mistyped than on the hub
            raise missing(name, "a Hugging Face folder or name", problem="no such folder") from error
        raise CheckpointError(
            "no pretrained BERT of this name",
            where=name,
            found=reason(error),
            expected="a Hugging Face folder, or a name in the cache or on the hub",
            fix="BERT.list_pretrained_models() lists some",
        ) from error
    except (pickle.UnpicklingError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(
            "the model's files are damaged or do not match", where=name, found=reason(error)
        ) from error


def _configuration_file(source: str) -> str:
    return next((name for name in CONFIG_FILES if Path(source, name).is_file()), CONFIG_FILES[0])


def _check_is_plain_bert(settings: Mapping[str, Any], source: Any) -> None:
    for key, expected in (
        ("model_type", "bert"),
        ("is_decoder", False),
        ("position_embedding_type", "absolute"),
    ):
        if settings.get(key, expected) != expected:
            raise UsageError(f"not a BERT: {key}", where=source, found=settings[key], expected=expected)
    if settings.get("quantization_config"):
        raise UsageError(
            "the weights are quantized",
            where=source,
            found="quantization_config",
            expected="float weights",
            fix="use the model that was quantized",
        )
