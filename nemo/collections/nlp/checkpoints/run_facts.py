"""Collects the facts for a model card from the folder of a run."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nemo.collections.nlp.callbacks.run_record import evaluations_in
from nemo.collections.nlp.checkpoints.model_card import Facts
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import read_options

LEAST_SHARE = 0.05
"""Share of a text in a language; less may well be a wrong guess."""
RECIPE = (
    "optimizer",
    "lr",
    "lr_policy",
    "weight_decay",
    "batch_size",
    "tokens_per_batch",
    "batches_per_step",
    "max_seq_length",
    "masking",
    "mask_probability",
    "hidden_dropout_prob",
    "initialization",
    "amp_opt_level",
    "seed",
)


def facts_of_run(
    model: PretrainingModel, state: dict[str, Any], checkpoint: Path, license: str | None = None
) -> Facts:
    """The facts in a checkpoint and, if it is still in its work folder, in that folder.

    Args:
        state: state of the checkpoint.
    """
    settings = model.bert.settings
    sizes = {
        "layers": settings.num_hidden_layers,
        "width": settings.hidden_size,
        "heads": settings.num_attention_heads,
        "positions": settings.max_position_embeddings,
        "vocabulary": settings.vocab_size,
        "weights": model.num_weights,
    }
    recipe = {"steps": state["step"], "tokens seen": state["items_seen"]}
    work_dir = checkpoint.parent.parent
    if not (work_dir / "config.yaml").is_file():
        return Facts(sizes, recipe, license=license)
    options = read_options(PretrainingOptions, work_dir / "config.yaml")
    unused = "batch_size" if options.get("tokens_per_batch") is not None else "tokens_per_batch"
    recipe |= {name: options.get(name) for name in RECIPE if name != unused}
    continued = _name(options.get("load_dir") or options.get("bert_checkpoint"))
    text = _text(work_dir)
    # A card is public: give names, not paths on this machine.
    files = ", ".join(text.get("files") or [])
    data = {
        "training text": files or _name(options["train_data"]),
        "held-out text": _name(options.get("eval_data")),
    }
    for name in ("documents", "sentences", "tokens"):
        data[name] = text.get(name)
    languages = text.get("languages")
    shares = languages if isinstance(languages, dict) else {}
    return Facts(
        sizes,
        recipe | {"continues": continued},
        data,
        evaluations_in(work_dir / "metrics.jsonl").get(state["step"], {}),
        tuple(code for code, share in shares.items() if share >= LEAST_SHARE),
        license,
        continued if continued is not None and continued.count("/") == 1 else None,
        "nemo-bert pretrain --config config.yaml",
    )


def _text(work_dir: Path) -> dict[str, Any]:
    """Figures on the training text; empty if about.json is missing or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((work_dir / "about.json").read_bytes())["data"]["training"])
    return {}


def _name(path: str | None) -> str | None:
    """The name of a file or folder; any other text unchanged."""
    return Path(path).name if path is not None and Path(path).is_absolute() else path
