"""The special tokens of a model family, and their order in a vocabulary."""

from collections.abc import Iterable, Mapping

from nemo.utils.lookup import choose

SpecialTokens = Mapping[str, str] | Iterable[str]
"""Kind -> token as `get_bert_special_tokens` gives them, or just tokens."""

MODEL_SPECIAL_TOKENS = {
    "bert": {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "bos_token": "[CLS]",
        "mask_token": "[MASK]",
        "eos_token": "[SEP]",
        "cls_token": "[CLS]",
    },
    "roberta": {
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "mask_token": "<mask>",
        "eos_token": "</s>",
        "cls_token": "<s>",
    },
    "albert": {
        "unk_token": "<unk>",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "bos_token": "[CLS]",
        "mask_token": "[MASK]",
        "eos_token": "[SEP]",
        "cls_token": "[CLS]",
    },
}
KINDS = tuple(MODEL_SPECIAL_TOKENS["bert"])
NEEDED_KINDS = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
"""The kinds that pretraining needs, in the order of a new vocabulary."""


def get_bert_special_tokens(bert_derivative: str = "bert") -> dict[str, str]:
    """Kind -> special token of a model family: "bert", "roberta" or "albert".

    Raises:
        UsageError: the family is unknown.
    """
    return dict(choose(MODEL_SPECIAL_TOKENS, bert_derivative, what="BERT derivative"))


def vocabulary_order(special_tokens: SpecialTokens | None = None) -> list[str]:
    """The first entries of a new vocabulary, each once: padding, unknown, [CLS], [SEP], [MASK], then others.

    Args:
        special_tokens: by kind, to replace BERT's; or a list of additional tokens.
    """
    kinds, tokens = get_bert_special_tokens(), special_tokens or ()
    if isinstance(tokens, Mapping):
        kinds.update(tokens)
        tokens = tokens.values()
    return list(dict.fromkeys([*(kinds[kind] for kind in NEEDED_KINDS), *tokens]))
