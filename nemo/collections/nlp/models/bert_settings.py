"""The settings of a BERT: what its configuration file says."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.utils.errors import UsageError, reason

SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
)
"""What two BERTs must share to exchange weights: their sizes, and the activation."""


@dataclass
class BertSettings:
    """Sizes and settings of a BERT, by the names and defaults of `transformers.BertConfig`.

    A class of our own, because transformers takes a second to import, as long as torch.

    Attributes:
        keep_pooler: the encoder's pooler comes from the initial checkpoint, so it is exported.
        others: settings that only other programs read.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    keep_pooler: bool = False
    others: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, settings: Mapping[str, Any], source: Any) -> "BertSettings":
        """The settings in a configuration file.

        Args:
            source: the file, or whatever they come from, for the error.

        Raises:
            UsageError: one has the wrong type.
        """
        own = {setting.name: setting.type for setting in dataclasses.fields(cls)[:-1]}
        values: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in own:
                others[name] = value
            elif _has_type(value, own[name]):
                values[name] = float(value) if own[name] is float else value
            else:
                raise UsageError(
                    "not a BERT configuration",
                    where=source,
                    found=f"{name} {value!r:.40}",
                    expected=getattr(own[name], "__name__", "int or null"),
                )
        others.pop("model_type", None)
        return cls(**values, others=others)

    def to_dict(self) -> dict[str, Any]:
        """All settings, as a configuration file has them."""
        own = dataclasses.asdict(self)
        others = own.pop("others")
        if not self.keep_pooler:  # a setting of ours alone
            del own["keep_pooler"]
        return {**others, **own, "model_type": "bert"}

    def to_json(self) -> str:
        """The content of a `bert-config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def as_transformers(self, source: Any = "") -> Any:
        """The same as a `transformers.BertConfig`.

        Args:
            source: where the settings come from, for the error.

        Raises:
            UsageError: transformers rejects one of the settings.
        """
        from transformers import BertConfig

        settings = self.to_dict()
        settings.pop("keep_pooler", None)
        del settings["model_type"]
        try:
            return BertConfig(**settings)
        except Exception as error:  # of many kinds, as `others` may hold anything
            raise UsageError("not a BERT configuration", where=source, found=reason(error)) from error


def _has_type(value: Any, kind: Any) -> bool:
    """Whether a value from JSON has the type of a setting; a whole number may be a float. None is huge."""
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int) and abs(value) >= 2**53:
        return False
    return isinstance(value, int | float if kind is float else kind)
