"""BERT as a neural module.

Shapes: B batch, T tokens, D hidden size; R requested rows of B*T.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nemo.backends.pytorch.checkpoints.module_state import load_weights
from nemo.backends.pytorch.checkpoints.weight_files import read_weights
from nemo.backends.pytorch.nm import TrainableNM
from nemo.backends.pytorch.ops.packing import Packing
from nemo.collections.nlp.models.bert import BertModel
from nemo.collections.nlp.models.bert_settings import BertSettings
from nemo.collections.nlp.models.bert_weights import canonical, check_encoder, encoder_of
from nemo.collections.nlp.models.hub import HUB_IDS, load_config, load_tensors, read_bert_config
from nemo.core.errors import NeuralPortNmTensorMismatchError
from nemo.core.graph import NmTensor
from nemo.core.neural_types import ChannelType, NeuralType
from nemo.utils.errors import UsageError

PretrainedModelInfo = namedtuple(
    "PretrainedModelInfo", ["pretrained_model_name", "description", "parameters", "location"]
)

# Sizes that may differ from the file without making it another model.
_FREE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


class BERT(TrainableNM):
    """Devlin et al.'s encoder (arXiv 1810.04805), new or pretrained.

    Exactly one of the first three arguments is given. With `vocab_size` the others are the model's sizes.
    With a model or a file they can be omitted: dropouts and `initializer_range` that are not the defaults
    replace the file's; other sizes must agree with it.

    Args:
        pretrained_model_name: a Hugging Face folder, or a name in its cache or on the hub.
        config_filename: a `bert-config.json`, for a new model of these sizes.
        vocab_size: for a new model; `tokenizer.vocab_size`.
        pad_token_id: the token whose embedding stays 0.

    Attributes:
        settings: sizes and settings of the encoder.
        bert: the encoder in plain PyTorch.

    Raises:
        UsageError: none or several of the first three are given, or sizes contradict each other or the file.
        CheckpointError, MissingFileError: the model or the file cannot be read.
    """

    input_ports = {
        "input_ids": NeuralType(["B", "T"], ChannelType()),
        "token_type_ids": NeuralType(["B", "T"], ChannelType(), optional=True),
        "attention_mask": NeuralType(["B", "T"], ChannelType()),
    }
    output_ports = {"hidden_states": NeuralType(["B", "T", "D"], ChannelType())}
    selects_rows = True

    def __init__(
        self,
        pretrained_model_name: str | None = None,
        config_filename: str | None = None,
        vocab_size: int | None = None,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        max_position_embeddings: int = 512,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int = 0,
    ):
        super().__init__(pretrained_model_name)
        sources: dict[str, Any] = {
            "pretrained_model_name": pretrained_model_name,
            "config_filename": config_filename,
            "vocab_size": vocab_size,
        }
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise UsageError(
                "the model needs exactly one source",
                where=self,
                found=" and ".join(given) or "nothing",
                expected=f"exactly one of {', '.join(sources)}",
            )
        sizes: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_hidden_layers": num_hidden_layers,
            "num_attention_heads": num_attention_heads,
            "intermediate_size": intermediate_size,
            "hidden_act": hidden_act,
            "max_position_embeddings": max_position_embeddings,
            "hidden_dropout_prob": hidden_dropout_prob,
            "attention_probs_dropout_prob": attention_probs_dropout_prob,
            "type_vocab_size": type_vocab_size,
            "initializer_range": initializer_range,
            "layer_norm_eps": layer_norm_eps,
            "pad_token_id": pad_token_id,
        }
        if pretrained_model_name is not None:
            self.settings = _adjusted(load_config(pretrained_model_name), sizes, pretrained_model_name)
        elif config_filename is not None:
            self.settings = _adjusted(read_bert_config(Path(config_filename)), sizes, config_filename)
        else:
            self.settings = BertSettings.parse({**sizes, "vocab_size": vocab_size}, self)
        self.bert = BertModel(self.settings)
        if pretrained_model_name is not None:
            tensors = load_tensors(pretrained_model_name)
            self.take_encoder(encoder_of(tensors), pretrained_model_name)
        # Kept so that files have it by name; no port reads it, so nothing would train it.
        self.bert.pooler.requires_grad_(False)

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states."""
        return self.settings.hidden_size

    @property
    def config(self) -> Any:
        """A copy of the settings as a `transformers.BertConfig`; to change them, change `settings`."""
        return self.settings.as_transformers()

    @staticmethod
    def list_pretrained_models() -> list[PretrainedModelInfo]:
        """Some names for `pretrained_model_name`; the hub has many more."""
        return [
            PretrainedModelInfo(name, "weights by HuggingFace", "", f"https://huggingface.co/{hub_id}")
            for name, hub_id in HUB_IDS.items()
        ]

    def restore_from(self, path: str | Path, local_rank: int = 0) -> None:
        """Read the encoder's weights from a file of nemo-bert, NeMo 0.10 or transformers; heads are ignored.

        A pooler that the file lacks, as that of a BertForMaskedLM does, stays unchanged: nothing reads it.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: it cannot be read, or belongs to another model or to other sizes.
        """
        self.take_encoder(encoder_of(canonical(read_weights(path), path)), path)

    def take_encoder(self, encoder: Mapping[str, Tensor], source: Any) -> None:
        """Copy an encoder's weights, named as `bert_weights.canonical` does; the pooler may be missing.

        Raises:
            CheckpointError: they belong to another model or to other sizes; names `source`.
        """
        own = self.state_dict()
        check_encoder(self.settings, own, encoder, source)
        load_weights(self, {**own, **encoder}, source)

    def connect(self, **inputs: NmTensor | None) -> Any:
        """Record a call; every id of a data layer with a `vocab_size` must have an embedding.

        Raises:
            NeuralPortNmTensorMismatchError: they do not. Also as `NeuralModule.connect`.
        """
        outputs = super().connect(**inputs)
        for port, counted, size, ids, fix in (
            (
                "input_ids",
                "vocab_size",
                self.settings.vocab_size,
                "a vocabulary of {}",
                "make the model with vocab_size=tokenizer.vocab_size, or use its own tokenizer",
            ),
            (
                "token_type_ids",
                "num_segments",
                self.settings.type_vocab_size,
                "{} segments",
                "leave token_type_ids out, which makes it one, or make the model with type_vocab_size=2",
            ),
        ):
            producer = (tensor := inputs.get(port)) and tensor.producer
            known = getattr(producer, counted, None)
            if known is not None and known > size:
                raise NeuralPortNmTensorMismatchError(
                    f"{self}.{port}: {producer} has ids that the model has no embedding for",
                    found=ids.format(known),
                    expected=f"{size} or less",
                    fix=fix,
                )
        return outputs

    def packing(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rows: Tensor | None = None,
        buckets: int = 0,
    ) -> Packing:
        """How `forward` lays out the tokens of these inputs; created before they move to a GPU."""
        return Packing.of((input_ids.shape[0], input_ids.shape[1]), attention_mask, rows, buckets)

    @property
    def regions(self) -> Sequence[nn.Module]:
        """The encoder's layers."""
        return list(self.bert.encoder.layer)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rows: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """(B, T) thrice -> (B, T, D), or (R, D) for `rows`, see `BertModel`."""
        return self.bert(input_ids, token_type_ids, attention_mask, rows, packing)


def _adjusted(settings: BertSettings, arguments: dict[str, Any], source: str | None) -> BertSettings:
    """`settings` with the arguments that are not defaults.

    Raises:
        UsageError: an argument would make it another model.
    """
    defaults = BertSettings()
    for name, value in arguments.items():
        if value in (getattr(defaults, name), getattr(settings, name)):
            continue
        if name not in _FREE:
            raise UsageError(
                f"contradicts {source}",
                where=name,
                found=value,
                expected=getattr(settings, name),
                fix=f"leave {name} out",
            )
        setattr(settings, name, value)
    return settings
