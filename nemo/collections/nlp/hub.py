"""BERTs in Hugging Face folders and in the hub's cache: read by transformers, its errors in our words."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nemo.utils.errors import CheckpointError, MissingFileError, UsageError

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
"""The pretrained BERTs that NeMo 0.10 listed, and where the hub keeps them today."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from talking: its reports are ours to make."""
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


def read_config(path: Path) -> Any:
    """The transformers.BertConfig in a JSON file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no configuration of a BERT that we can build.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import BertConfig

    if not path.is_file():
        raise MissingFileError("no such file", where=path, expected="a bert-config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise TypeError("not a JSON object")
        config = BertConfig(**{k: v for k, v in settings.items() if k != "model_type"})
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise UsageError("not a configuration of a BERT", where=path, found=_gist(error)) from error
    _check_is_plain_bert(settings, path)
    return config


def load_bert(name: str, model_class: str = "BertModel") -> tuple[Any, dict[str, Any]]:
    """A pretrained model and what transformers says about its weights' names.

    Args:
        name: a folder, or a name of the hub, looked for in the cache before the network is asked.
        model_class: which of transformers' classes.

    Returns:
        The model in float32, and the `output_loading_info` of `from_pretrained`.

    Raises:
        CheckpointError: there is no such model, its files are damaged, or do not go with their configuration.
        UsageError: it is not a BERT that we can build.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    reason: Exception | None = None
    for source, local_only in _sources(name):
        try:
            with quiet():
                settings, _ = transformers.PretrainedConfig.get_config_dict(
                    source, local_files_only=local_only
                )
                _check_is_plain_bert(settings, name)
                return getattr(transformers, model_class).from_pretrained(
                    source, local_files_only=local_only, output_loading_info=True, dtype="float32"
                )
        except OSError as error:
            reason = error  # not in this place
        except (
            pickle.UnpicklingError,
            RuntimeError,
            SafetensorError,
            StrictDataclassError,
        ) as error:
            raise CheckpointError(
                "the model's files are damaged, or do not go together", where=name, found=_gist(error)
            ) from error
    raise CheckpointError(
        "no pretrained BERT of that name",
        where=name,
        found=_gist(reason),
        expected="a Hugging Face folder, or a name in the cache or on the hub",
        fix="BERT.list_pretrained_models() lists some",
    ) from reason


def _sources(name: str) -> list[tuple[str, bool]]:
    """Where to look, and whether the network is left alone."""
    if Path(name).is_dir():
        return [(name, True)]
    hub_id = HUB_IDS.get(name, name)
    return [(name, True), (hub_id, True), (hub_id, False)]


def _check_is_plain_bert(settings: dict[str, Any], source: Any) -> None:
    for key, expected in (
        ("model_type", "bert"),
        ("is_decoder", False),
        ("position_embedding_type", "absolute"),
    ):
        if settings.get(key, expected) != expected:
            raise UsageError(f"not a BERT: {key}", where=source, found=settings[key], expected=expected)


def _gist(error: Exception | None) -> str:
    """The first sentence of an error's text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
