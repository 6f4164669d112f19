"""Hugging Face folders of tiny BERTs, for tests of what other people's models look like."""

from pathlib import Path
from string import ascii_lowercase

import torch
import transformers

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase),
    "the", "cat", "dog", "sees", "likes",
]  # fmt: skip
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
IDS = torch.tensor([[2, 58, 59, 4, 9, 3], [2, 6, 7, 8, 3, 0]])
TYPES = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])


def write_huggingface(folder: Path, kind: str = "BertForPreTraining", **changes):
    """Weights, configuration and tokenizer; returns the model, with biases that are not 0."""
    torch.manual_seed(1)
    model = getattr(transformers, kind)(transformers.BertConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    transformers.BertTokenizerFast(vocab={token: i for i, token in enumerate(WORDS)}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return model


def answers(model) -> tuple[torch.Tensor, torch.Tensor]:
    """What a `BertForPreTraining` says: MLM logits, NSP logits."""
    with torch.no_grad():
        output = model(IDS, token_type_ids=TYPES, attention_mask=MASK)
    return output.prediction_logits, output.seq_relationship_logits


def our_answers(model) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of a `PretrainingModel`."""
    for module in model.neural_modules:
        module.eval()
    with torch.no_grad():
        hidden = model.bert(IDS, TYPES, MASK)
        return model.mlm(hidden), model.nsp(hidden)
