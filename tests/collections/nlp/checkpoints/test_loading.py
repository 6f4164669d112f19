"""A trained model back from its checkpoint."""

import dataclasses
import json

import pytest
import torch

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.module_state import weights_by_module
from nemo.collections.nlp.checkpoints.loading import export, load_pretrained
from nemo.collections.nlp.evaluation import fill_mask
from nemo.collections.nlp.nm.pretraining_model import with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(20))]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def write_run(folder, words=WORDS, vocab_size=25):
    """A work folder with one checkpoint; returns its model."""
    torch.manual_seed(0)
    model = with_heads(BERT(vocab_size=vocab_size, max_position_embeddings=12, **SIZES))
    checkpoint.save(
        folder / "checkpoints",
        3,
        {
            **weights_by_module({str(module): module for module in model.neural_modules}),
            "optimizer": {"x": torch.zeros(1)},
        },
        {"step": 3, "items_seen": 100},
        {
            "bert-config.json": model.bert.config.to_json_string().encode(),
            "vocab.txt": "\n".join(words).encode(),
        },
    )
    return model


@pytest.mark.parametrize("named", [".", "checkpoints", "checkpoints/STEP-3"])
def test_a_run_is_loaded_by_any_of_its_folders(tmp_path, named):
    model = write_run(tmp_path)
    loaded = load_pretrained(tmp_path / named)
    assert loaded.tokenizer.vocabulary() == WORDS
    assert loaded.state["step"] == 3
    for ours, theirs in zip(loaded.model.neural_modules, model.neural_modules, strict=True):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor)


def test_a_tokenizer_with_more_tokens_than_its_model_is_refused(tmp_path):
    write_run(tmp_path, words=[*WORDS, "more"])
    with pytest.raises(UsageError, match="STEP-3: the tokenizer has more entries than the model; found 26"):
        load_pretrained(tmp_path)


def test_ids_without_a_token_are_never_predicted(tmp_path):
    write_run(tmp_path, vocab_size=len(WORDS) + 40)
    (guesses,) = fill_mask(load_pretrained(tmp_path), "w1 [MASK] w2", top=100)
    assert {guess.token for guess in guesses} <= set(WORDS)
    assert sum(guess.probability for guess in guesses) <= 1 + 1e-6


def test_an_export_tells_what_the_run_continued(tmp_path):
    write_run(tmp_path / "run")
    from nemo.collections.nlp.options import PretrainingOptions

    settings = {field.name: field.default for field in dataclasses.fields(PretrainingOptions)}
    settings |= {"mode": "data_text", "train_data": "t.txt", "bert_checkpoint": "my-bert"}
    (tmp_path / "run" / "config.yaml").write_text(json.dumps(settings))
    export(load_pretrained(tmp_path / "run"), tmp_path / "out")
    assert "| continues | my-bert |" in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match="no such model"):
        load_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_pretrained(tmp_path)
