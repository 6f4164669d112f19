"""A Hugging Face folder is the same model, or it is not written."""

import os
import stat

import pytest
import torch
import transformers

from nemo.collections.nlp.checkpoints.export import export_huggingface
from nemo.collections.nlp.checkpoints.model_card import Facts, model_card
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, SequenceClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core.neural_modules import WeightShareTransform
from nemo.utils.errors import CheckpointError, UsageError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "."]
IDS = torch.tensor([[2, 5, 6, 4, 9, 3], [2, 6, 7, 8, 3, 0]])
TYPES = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return NemoBertTokenizer(vocab_file=str(tmp_path / "vocab.txt"))


def encoder(**changes) -> BERT:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 12,
        "initializer_range": 0.3,
    }
    return BERT(**{**sizes, **changes})


def mlm_head(bert: BERT, tied: bool = True, **changes) -> BertTokenClassifier:
    head = BertTokenClassifier(
        16, **{"num_classes": len(WORDS), "activation": "gelu", "log_softmax": False, **changes}
    )
    torch.nn.init.normal_(head.mlp.last_linear_layer.bias)
    if tied:
        weight, embeddings = "mlp.last_linear_layer.weight", "bert.embeddings.word_embeddings.weight"
        head.tie_weights_with(bert, [weight], {weight: (embeddings, WeightShareTransform.SAME)})
    return head


def nsp_head(**changes) -> SequenceClassifier:
    return SequenceClassifier(16, **{"num_classes": 2, "activation": "tanh", **changes})


def read(model_class, folder):
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    return model(IDS, token_type_ids=TYPES, attention_mask=MASK), {k: v for k, v in info.items() if v}


def hidden_states(bert: BERT) -> torch.Tensor:
    return bert.eval()(IDS, TYPES, MASK)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("log_softmax", [True, False])
def test_pretraining_heads_reload_as_bert_for_pretraining(tmp_path, tokenizer, tied, log_softmax):
    bert = encoder()
    mlm, nsp = mlm_head(bert, tied, log_softmax=log_softmax), nsp_head(log_softmax=log_softmax)
    export_huggingface(tmp_path / "out", bert, mlm, nsp, tokenizer)

    output, strays = read(transformers.BertForPreTraining, tmp_path / "out")
    assert not strays
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").tie_word_embeddings is tied
    hidden = hidden_states(bert)
    for ours, theirs in (
        (mlm(hidden), output.prediction_logits),
        (nsp(hidden), output.seq_relationship_logits),
    ):
        if log_softmax:
            theirs = theirs.log_softmax(-1)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_masked_language_model_passes_over_the_other_head_only(tmp_path, tokenizer):
    bert = encoder()
    mlm = mlm_head(bert)
    export_huggingface(tmp_path / "out", bert, mlm, nsp_head(), tokenizer)
    output, strays = read(transformers.AutoModelForMaskedLM, tmp_path / "out")
    assert strays == {
        "unexpected_keys": {
            f"{layer}.{leaf}"
            for layer in ("bert.pooler.dense", "cls.seq_relationship")
            for leaf in ("weight", "bias")
        }
    }
    torch.testing.assert_close(mlm(hidden_states(bert)), output.logits, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_mlm_alone_reloads_with_nothing_missing_or_unexpected(tmp_path, tokenizer):
    bert = encoder()
    mlm = mlm_head(bert)
    export_huggingface(tmp_path / "out", bert, mlm, None, tokenizer)
    output, strays = read(transformers.AutoModelForMaskedLM, tmp_path / "out")
    assert not strays
    torch.testing.assert_close(mlm(hidden_states(bert)), output.logits, atol=1e-4, rtol=0)


def test_nsp_alone_reloads_with_nothing_missing_or_unexpected(tmp_path, tokenizer):
    bert, nsp = encoder(), nsp_head(log_softmax=False)
    export_huggingface(tmp_path / "out", bert, None, nsp, tokenizer)
    output, strays = read(transformers.BertForNextSentencePrediction, tmp_path / "out")
    assert not strays
    torch.testing.assert_close(nsp(hidden_states(bert)), output.logits, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_encoder_alone_reloads_with_nothing_missing_or_unexpected(tmp_path, tokenizer):
    bert = encoder()
    export_huggingface(tmp_path / "out", bert, None, None, tokenizer)
    output, strays = read(transformers.AutoModel, tmp_path / "out")
    assert not strays
    torch.testing.assert_close(hidden_states(bert), output.last_hidden_state, atol=1e-4, rtol=0)


def test_an_export_is_weights_tokenizer_and_card_and_nothing_else(tmp_path, tokenizer):
    export_huggingface(tmp_path / "new" / "out", encoder(), None, None, tokenizer, "# A card\n")
    files = {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_exported_tokenizer_gives_our_ids(tmp_path, tokenizer):
    export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("the cats sat .", "the cat")["input_ids"] == [2, 5, 6, 8, 7, 9, 3, 5, 6, 3]
    assert theirs.mask_token_id == tokenizer.mask_id


def test_padding_token_is_the_tokenizers(tmp_path, tokenizer):
    export_huggingface(tmp_path / "out", encoder(pad_token_id=9), None, None, tokenizer)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").pad_token_id == 0


def test_export_does_not_change_the_model(tmp_path, tokenizer):
    bert = encoder().bfloat16().train()
    mlm = mlm_head(bert)
    export_huggingface(tmp_path / "out", bert, mlm, None, tokenizer)
    assert bert.training
    assert mlm.mlp.last_linear_layer.weight is bert.bert.embeddings.word_embeddings.weight
    assert mlm.mlp.last_linear_layer.weight.dtype is torch.bfloat16


def test_existing_folder_is_refused_without_force(tmp_path, tokenizer):
    export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer)
    with pytest.raises(UsageError, match="already exists"):
        export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer)


@pytest.mark.slow
def test_force_replaces_an_export(tmp_path, tokenizer):
    cards = [model_card(Facts(recipe={"steps": number})) for number in (1, 2)]
    for card in cards:
        export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer, card, force=True)
    assert (tmp_path / "out" / "README.md").read_text() == cards[1]


def test_force_does_not_delete_a_folder_that_is_not_an_export(tmp_path, tokenizer):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="does not contain an exported model"):
        export_huggingface(tmp_path, encoder(), None, None, tokenizer, force=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_model_that_answers_otherwise_is_not_written(tmp_path, tokenizer):
    """Another epsilon in the head's norm has no place in BERT's configuration."""
    bert = encoder()
    mlm = mlm_head(bert, layer_norm_eps=0.5)
    with pytest.raises(CheckpointError, match="gives different outputs as BertForMaskedLM"):
        export_huggingface(tmp_path / "out", bert, mlm, None, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        (lambda bert: (mlm_head(bert, activation="relu"), None), "hidden_act = 'gelu'"),
        (lambda bert: (None, nsp_head(activation="relu")), "two layers with tanh"),
        (lambda bert: (None, nsp_head(num_layers=1)), "found num_layers = 1"),
        (lambda bert: (mlm_head(bert, False, num_classes=11), None), "num_classes 11, expected .* 10"),
        (lambda bert: (None, nsp_head(num_classes=3)), "num_classes 3, expected .* num_classes 2"),
    ],
)
def test_heads_that_bert_does_not_have_are_refused(tmp_path, tokenizer, heads, words):
    bert = encoder()
    with pytest.raises(UsageError, match=words):
        export_huggingface(tmp_path / "out", bert, *heads(bert), tokenizer)


def test_tokenizer_larger_than_the_model_is_refused(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="found 10 entries, expected at most vocab_size = 9"):
        export_huggingface(tmp_path / "out", encoder(vocab_size=9), None, None, tokenizer)


@pytest.mark.slow
def test_every_file_has_the_permissions_that_the_umask_gives(tmp_path, tokenizer):
    """safetensors lets nobody but the owner read what it writes."""
    before = os.umask(0o022)
    try:
        export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer, "# A card")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes == dict.fromkeys(modes, 0o644)
    assert "model.safetensors" in modes


def files_in(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


OTHER_FILES = {
    ".git/config": "[core]",
    ".gitattributes": "*.safetensors filter=lfs",
    "NOTES.md": "notes",
    "onnx/config.json": "{}",
    "README.md": "---\nlicense: mit\n---\nMy own words about nemo-bert.\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("has_model", [True, False])
def test_force_keeps_and_names_files_that_are_not_of_an_export(tmp_path, tokenizer, caplog, has_model):
    """A cloned repository of the hub; one without a model, too, as a new one is."""
    bert, clone = encoder(), tmp_path / "clone"
    if has_model:
        export_huggingface(clone, encoder(num_hidden_layers=1), None, None, tokenizer)
        (clone / "added_tokens.json").write_text('{"old": 9}')
    for name, text in OTHER_FILES.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
    export_huggingface(clone, bert, None, None, tokenizer, model_card(Facts()), force=True)
    export_huggingface(tmp_path / "new", bert, None, None, tokenizer)
    expected = files_in(tmp_path / "new") | {name: text.encode() for name, text in OTHER_FILES.items()}
    assert files_in(clone) == expected
    assert f"left unchanged in {clone}: .git, .gitattributes, NOTES.md, README.md, onnx" in caplog.text
    output, strays = read(transformers.AutoModel, clone)
    assert not strays
    torch.testing.assert_close(hidden_states(bert), output.last_hidden_state, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_force_warns_of_weights_of_another_model_that_stay(tmp_path, tokenizer, caplog):
    export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer)
    for name in ("pytorch_model.bin", "tf_model.h5", "merges.txt"):
        (tmp_path / "out" / name).touch()
    export_huggingface(tmp_path / "out", encoder(), None, None, tokenizer, force=True)
    warning = next(record for record in caplog.records if record.levelname == "WARNING")
    assert (
        "still contains the weights of another model: pytorch_model.bin, tf_model.h5" in warning.getMessage()
    )


def test_a_pooler_to_keep_is_exported_beside_the_head(tmp_path, tokenizer):
    bert = encoder()
    bert.settings.keep_pooler = True
    torch.nn.init.normal_(bert.bert.pooler.dense.bias)
    export_huggingface(tmp_path / "out", bert, mlm_head(bert), None, tokenizer)
    theirs, strays = read(transformers.AutoModel, tmp_path / "out")
    assert "missing_keys" not in strays
    pooled = bert.bert.pooler(hidden_states(bert))
    torch.testing.assert_close(pooled, theirs.pooler_output, atol=1e-5, rtol=0)
    _, strays = read(transformers.AutoModelForMaskedLM, tmp_path / "out")
    assert strays == {"unexpected_keys": {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}}
    assert "keep_pooler" not in (tmp_path / "out" / "config.json").read_text()
