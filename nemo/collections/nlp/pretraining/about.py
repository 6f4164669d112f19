"""about.json: facts about a run, for its report and its model card."""

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nemo
from nemo.backends.pytorch.environment import fingerprint
from nemo.collections.nlp.data.inspection.language import languages_of
from nemo.collections.nlp.data.inspection.stored import figures_of_store
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer, BertPretrainingPreprocessedDataLayer
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.text_data import PretrainingData
from nemo.utils.errors import StorageError
from nemo.utils.logging import logging

NAMED_FILES = 5
READ_SENTENCES = 400  # to detect the language, evenly spaced over the text
SHOWN_SENTENCES, SHOWN_CHARS, SHOWN_TOKENS = 3, 300, 40


def about(
    options: PretrainingOptions,
    data: PretrainingData,
    model: PretrainingModel,
    num_processes: int,
    languages: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Command, environment, model, tokenizer, and figures on the text as `nemo-bert inspect` has them.

    Args:
        languages: shares of the text, where they are known; None: they are predicted from its tokens, which
            tell less than the text did.
    """
    of_held_out = languages if options.eval_data is None else None  # then it is a part of the same text
    return {
        "command": shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
        "environment": environment(next(model.bert.parameters()).device, num_processes),
        "model": _about_model(model),
        "tokenizer": None if data.tokenizer is None else _about_tokenizer(data.tokenizer, data.train),
        "data": {
            name: _about_data(layer, data.tokenizer, options.max_seq_length, known)
            for name, layer, known in (
                ("training", data.train, languages),
                ("held_out", data.eval, of_held_out),
            )
            if layer is not None
        },
    }


def _about_model(model: PretrainingModel) -> dict[str, Any]:
    settings = model.bert.settings
    return {
        "weights": model.num_weights,
        "layers": settings.num_hidden_layers,
        "width": settings.hidden_size,
        "heads": settings.num_attention_heads,
        "feed-forward width": settings.intermediate_size,
        "positions": settings.max_position_embeddings,
        "vocabulary": settings.vocab_size,
        "tasks": "masked words" if model.nsp is None else "masked words, next sentence",
    }


def environment(device: torch.device, num_processes: int) -> dict[str, Any]:
    """Versions and hardware, without the names of machine and user."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "nemo-bert": nemo.__version__,
        "python": platform.python_version(),
        "transformers": version("transformers"),
        **fingerprint(device),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{pages / 2**30:.0f} GiB",
        "processes": num_processes,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str | None:
    """The processor's name in Linux; None if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _about_tokenizer(tokenizer: TokenizerSpec, layer: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "class": type(tokenizer).__name__,
        "entries": tokenizer.vocab_size,
        "special tokens": " ".join(dict.fromkeys(tokenizer.special_tokens.values())),
    }
    if isinstance(layer, BertPretrainingDataLayer):
        sentence = next(_sentences(layer.dataset.store, READ_SENTENCES))
        facts["example"] = tokenizer.ids_to_tokens(sentence[:SHOWN_TOKENS].tolist())
    return facts


def _about_data(
    layer: BertPretrainingDataLayer | BertPretrainingPreprocessedDataLayer,
    tokenizer: TokenizerSpec | None,
    max_seq_length: int,
    languages: Mapping[str, float] | None,
) -> dict[str, Any]:
    dataset = layer.dataset
    if not isinstance(layer, BertPretrainingDataLayer):
        return {
            "kind": "shards",
            "shards": len(dataset.shards),
            "rows": len(dataset),
            "bytes": sum(shard.num_bytes for shard in dataset.shards),
            "seq_length": dataset.max_seq_length,
            "padding_share": dataset.survey.padding_share,
        }
    assert tokenizer is not None  # text always has one
    texts = [tokenizer.ids_to_text(ids.tolist()) for ids in _sentences(dataset.store, READ_SENTENCES)]
    return {
        "kind": "text",
        "files": [source["name"] for source in dataset.store.manifest["sources"]][:NAMED_FILES],
        **asdict(figures_of_store(dataset.store, (max_seq_length,))),
        "languages": _languages_of(texts) if languages is None else dict(languages),
        "examples": [text[:SHOWN_CHARS] for text in texts[:: max(1, len(texts) // SHOWN_SENTENCES)]][
            :SHOWN_SENTENCES
        ],
    }


def _languages_of(texts: list[str]) -> dict[str, float]:
    """The languages; on an error none, with a warning, because a run must not fail over its report."""
    try:
        return languages_of(texts)
    except StorageError as problem:
        logging.warning("about.json does not list the languages of the text: %s", problem)
        return {}


def _sentences(store: TokenStore, number: int) -> Iterator[np.ndarray]:
    """The token ids of at most `number` sentences, evenly spaced over the text."""
    offsets = store.sentence_offsets
    for i in np.unique(np.linspace(0, len(offsets) - 2, number).astype(int)):
        yield store.tokens[offsets[i] : offsets[i + 1]]
