"""A trained model back from its checkpoint, and on to Hugging Face."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.module_state import load_weights_by_part
from nemo.collections.nlp.callbacks.run_record import evaluations_in
from nemo.collections.nlp.checkpoints.best import choose_checkpoint
from nemo.collections.nlp.checkpoints.export import export_huggingface
from nemo.collections.nlp.checkpoints.initial_checkpoint import config_file_beside
from nemo.collections.nlp.checkpoints.model_card import model_card
from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.choice import Situation, choose_tokenizer
from nemo.collections.nlp.models.bert_weights import check_encoder
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel, with_heads
from nemo.collections.nlp.nm.tokenizer_check import check_tokenizer
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import read_config
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from nemo.utils.logging import logging


@dataclass(frozen=True)
class Pretrained:
    """A trained model, its tokenizer and what its checkpoint says of the run."""

    model: PretrainingModel
    tokenizer: TokenizerSpec
    state: dict[str, Any]
    folder: Path


def load_pretrained(
    path: str | Path, tokenizer: str | None = None, do_lower_case: bool = False
) -> Pretrained:
    """Read a checkpoint; its hashes are checked first.

    Args:
        path: a run's work folder or its `checkpoints`, of which the best is taken (see `choose_checkpoint`),
            or one `STEP-<n>` in it.
        tokenizer, do_lower_case: for a checkpoint without one, as `load_tokenizer` takes them.

    Raises:
        MissingFileError: there is nothing at `path`.
        CheckpointError: there is no checkpoint, or none that is whole.
        UsageError: there is no tokenizer, there are two, or it cannot be the model's.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError("no such model", where=path, expected="the work folder of a run")
    found = choose_checkpoint(path)
    if found is None:
        raise CheckpointError("no checkpoint", where=path, expected="a folder with STEP-<n> folders")
    if found.reason:
        logging.info("%s of %s is taken: %s", found.path.name, path, found.reason)
    chosen = found.path
    tensors, state = checkpoint.load(chosen)
    tensors.pop("optimizer", None)
    config_file = config_file_beside(chosen)
    if config_file is None:
        raise CheckpointError(
            "nothing says the sizes of the model",
            where=chosen,
            expected="bert-config.json in it, or beside it",
            fix=f"copy the one of the run to {chosen.parent}",
        )
    model = with_heads(BERT(config_filename=str(config_file)), only_mlm="SequenceClassifier" not in tensors)
    check_encoder(model.bert.config, model.bert.state_dict(), tensors.get("BERT", {}), chosen)
    load_weights_by_part({str(part): part for part in model.parts}, tensors, chosen)
    for part in model.parts:
        part.eval()
    choice = choose_tokenizer(Situation(asked=tokenizer, checkpoint=chosen))
    if choice is None:
        raise UsageError(
            "the run was given no tokenizer",
            where=chosen,
            fix="name the one that made its shards with --tokenizer",
        )
    opened = load_tokenizer(choice.source, do_lower_case)
    check_tokenizer(opened, model.bert.config, chosen)
    return Pretrained(model, opened, state, chosen)


def run_facts(pretrained: Pretrained) -> dict[str, Any]:
    """What is known of the run behind a checkpoint, for the model card."""
    config = pretrained.model.bert.config
    facts: dict[str, Any] = {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "positions": config.max_position_embeddings,
        "vocabulary": config.vocab_size,
        "weights": pretrained.model.num_weights,
        "updates": pretrained.state["step"],
        "training tokens": pretrained.state["items_seen"],
    }
    # The work folder, when the checkpoint is still in it, knows more.
    work_dir = pretrained.folder.parent.parent
    config_file = work_dir / "config.yaml"
    if config_file.is_file():
        options = read_config(PretrainingOptions, config_file)
        # A card is for others: names, not folders of this machine.
        facts |= {"training text": _name(options["train_data"]), "held-out text": _name(options["eval_data"])}
        facts |= {"continues": _name(options["load_dir"] or options["bert_checkpoint"])}
        batch = "batch_size" if options.get("tokens_per_batch") is None else "tokens_per_batch"
        facts |= {name: options[name] for name in ("optimizer", "lr", batch, "seed")}
        facts["command"] = f"nemo-bert pretrain --config {config_file.name}"
    return facts | evaluations_in(work_dir / "metrics.jsonl").get(pretrained.state["step"], {})


def _name(path: str | None) -> str | None:
    """What a file or folder is called; of any other text all of it."""
    return Path(path).name if path is not None and Path(path).is_absolute() else path


def export(pretrained: Pretrained, folder: str | Path, force: bool = False) -> None:
    """Write a Hugging Face folder with a model card filled in from the run.

    Raises:
        UsageError: the folder is there already and `force` is False.
        CheckpointError: what was written does not reload as the same model.
    """
    model = pretrained.model
    export_huggingface(
        Path(folder),
        model.bert,
        model.mlm,
        model.nsp,
        pretrained.tokenizer,
        model_card(run_facts(pretrained)),
        force=force,
    )
