"""Options for the model and its initial weights."""

from dataclasses import dataclass

from nemo.collections.nlp.options.limits import DEEPEST, LONGEST_SEQUENCE, WIDEST
from nemo.utils.arguments import option


@dataclass(frozen=True)
class ModelOptions:
    """Model and its sizes."""

    config_file: str | None = option(
        None,
        "bert-config.json with the model's sizes; it overrides the options below",
        metavar="FILE",
        is_path=True,
    )
    hidden_size: int = option(768, "width of the model", at_least=1, at_most=WIDEST, metavar="WIDTH")
    num_hidden_layers: int = option(12, "number of layers", at_least=1, at_most=DEEPEST, metavar="LAYERS")
    num_attention_heads: int = option(
        12, "attention heads; must divide hidden_size", at_least=1, metavar="HEADS"
    )
    intermediate_size: int = option(3072, "width of the feed-forward layers", at_least=1, metavar="WIDTH")
    max_position_embeddings: int | None = option(
        None,
        "number of positions; with more than max_seq_length, a later run can train on longer sequences",
        default_text="--max_seq_length",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
        metavar="TOKENS",
    )
    hidden_act: str = option(
        "gelu", "activation of the feed-forward layers and of the MLM head", metavar="NAME"
    )
    hidden_dropout_prob: float = option(
        0.1, "dropout of embeddings and residuals", at_least=0, below=1, metavar="RATE"
    )
    attention_probs_dropout_prob: float = option(
        0.1, "dropout of attention", at_least=0, below=1, metavar="RATE"
    )
    only_mlm_loss: bool = option(False, "train without next-sentence prediction", decides="model")
    nsp_weight: float = option(
        1.0,
        "weight of the next-sentence loss in training; below 1 favors masked words",
        above=0,
        metavar="WEIGHT",
    )


@dataclass(frozen=True)
class WeightOptions:
    """Initial weights."""

    bert_checkpoint: str | None = option(
        None,
        "start from these weights: an encoder (a .safetensors or .pt file) or a BERT with its heads (a run's "
        "folder, a Hugging Face folder or name); its sizes are the defaults of the options above",
        metavar="NAME_OR_PATH",
        is_path=True,
    )
    load_dir: str | None = option(
        None,
        "continue another run, with its optimizer state and step: its work folder, or one checkpoint of it "
        "(STEP-<n>)",
        metavar="FOLDER",
        is_path=True,
    )
    initialization: str = option(
        "normal",
        "normal: random as in BERT; counts: from word co-occurrence counts; converges faster in short runs",
        choices=("normal", "counts"),
    )
    initializer_range: float = option(
        0.02, "standard deviation of random initial weights", above=0, metavar="DEVIATION"
    )
