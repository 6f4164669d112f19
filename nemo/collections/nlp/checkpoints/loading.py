"""Loads a trained model from its checkpoint, and exports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.module_state import load_weights_by_module
from nemo.collections.nlp.checkpoints.best import choose_checkpoint
from nemo.collections.nlp.checkpoints.export import export_huggingface
from nemo.collections.nlp.checkpoints.initial_checkpoint import config_file_beside
from nemo.collections.nlp.checkpoints.model_card import model_card
from nemo.collections.nlp.checkpoints.run_facts import facts_of_run
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.collections.nlp.models.bert_weights import check_encoder
from nemo.collections.nlp.models.hub import is_other_folder
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel, with_heads
from nemo.collections.nlp.nm.tokenizer_check import check_model_tokenizer
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.files import missing
from nemo.utils.logging import logging


@dataclass(frozen=True)
class Pretrained:
    """A trained model, its tokenizer and the state of its run."""

    model: PretrainingModel
    tokenizer: TokenizerSpec
    state: dict[str, Any]
    folder: Path


def load_pretrained(
    path: str | Path, tokenizer: str | None = None, do_lower_case: bool | None = None
) -> Pretrained:
    """Load a checkpoint after verifying its hashes.

    Args:
        path: a run's work folder or its `checkpoints`, for the best checkpoint (see `choose_checkpoint`), or
            one `STEP-<n>`.
        tokenizer, do_lower_case: for a checkpoint without one, as `load_tokenizer` takes them.

    Raises:
        MissingFileError: there is nothing at `path`.
        CheckpointError: there is no checkpoint, or no undamaged one.
        UsageError: there is no tokenizer, or two, or it does not match the model.
    """
    path = Path(path)
    if not path.exists():
        raise missing(path, "the work folder of a run", problem="no such model")
    found = choose_checkpoint(path)
    if found is None:
        raise _no_checkpoint(path)
    if found.reason:
        # Using an older checkpoint than the newest deserves a warning even in quiet commands.
        log = logging.info if found.is_newest else logging.warning
        log("using %s of %s: %s", found.path.name, path, found.reason)
    chosen = found.path
    tensors, state = checkpoint.load(chosen)
    tensors.pop("optimizer", None)
    config_file = config_file_beside(chosen)
    if config_file is None:
        raise CheckpointError(
            "the model has no configuration",
            where=chosen,
            expected="bert-config.json in it, or beside it",
            fix=f"copy the run's to {chosen.parent}",
        )
    model = with_heads(BERT(config_filename=str(config_file)), only_mlm="SequenceClassifier" not in tensors)
    check_encoder(model.bert.settings, model.bert.state_dict(), tensors.get("BERT", {}), chosen)
    load_weights_by_module({str(module): module for module in model.neural_modules}, tensors, chosen)
    for module in model.neural_modules:
        module.eval()
    opened = find_tokenizer(TokenizerRequest(named=tokenizer, checkpoint=chosen), do_lower_case)
    if opened is None:
        raise UsageError(
            "the run had no tokenizer",
            where=chosen,
            fix="give the tokenizer that made its shards: --tokenizer",
        )
    check_model_tokenizer(opened, model.bert.settings, chosen)
    return Pretrained(model, opened, state, chosen)


def _no_checkpoint(path: Path) -> CheckpointError:
    if path.is_file():
        return CheckpointError(
            "a file, not a run", where=path, expected="the work folder of a run, or a checkpoint in it"
        )
    if not is_other_folder(path):
        return CheckpointError(
            "a Hugging Face folder",
            where=path,
            expected="the work folder of a run",
            fix="give the run that it was exported from",
        )
    inner = path / "model"  # of a fine-tuning, or of an adaptation
    return CheckpointError(
        "no checkpoint",
        where=path,
        expected="a folder with STEP-<n> folders",
        fix=f"give {inner}" if (inner / "config.json").is_file() else "",
    )


def export(
    pretrained: Pretrained, folder: str | Path, force: bool = False, license: str | None = None
) -> None:
    """Write a Hugging Face folder with a model card filled in from the run.

    Args:
        license: license for the model card, a hub identifier such as "cc-by-4.0".

    Raises:
        UsageError: the folder already exists and `force` is False.
        CheckpointError: the written model does not reload as the same model.
    """
    model = pretrained.model
    facts = facts_of_run(model, pretrained.state, pretrained.folder, license)
    export_huggingface(
        Path(folder),
        model.bert,
        model.mlm,
        model.nsp,
        pretrained.tokenizer,
        model_card(facts, Path(folder).absolute().name),
        force=force,
    )
