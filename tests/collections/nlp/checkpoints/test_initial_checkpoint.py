"""Where a run's weights may come from, and what follows from it for sizes and tokenizer."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.checkpoints.module_state import weights_by_module
from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    find_initial_checkpoint,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.data.inputs import AUTO
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.collections.nlp.nm.pretraining_model import build_model, with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.data_files import Corpus
from nemo.collections.nlp.pretraining.text_data import open_tokenizer
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from tests.huggingface_folders import IDS, MASK, SIZES, TYPES, WORDS, write_huggingface


def options(**given) -> PretrainingOptions:
    return PretrainingOptions(mode="data_text", train_data="text.txt", **given)


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path / "vocabulary"


@pytest.fixture
def tokenizer(vocabulary):
    return NemoBertTokenizer(vocab_file=vocabulary / "vocab.txt")


def start(tokenizer, **given):
    """The model that a run with these options starts with, and what it was given."""
    chosen = options(**given)
    origin = find_initial_checkpoint(chosen)
    chosen, config = with_sizes(chosen, origin)
    model = build_model(chosen, tokenizer, config)
    for module in model.neural_modules:
        module.eval()
    return model, origin.take(model)


def hidden_states(bert) -> torch.Tensor:
    return bert(IDS, TYPES, MASK)


def encoder_of(model):
    return getattr(model, "bert", model)


def assert_same_encoder(model, theirs):
    expected = encoder_of(theirs)(IDS, token_type_ids=TYPES, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(hidden_states(model.bert), expected, atol=1e-5, rtol=0)


HEADS = {
    "BertForPreTraining": ["BERT", "BertTokenClassifier", "SequenceClassifier"],
    "BertForMaskedLM": ["BERT", "BertTokenClassifier"],
    "BertModel": ["BERT"],
    "BertForSequenceClassification": ["BERT"],
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_hugging_face_folder_gives_its_encoder_and_heads(tmp_path, tokenizer, kind, pickled):
    theirs = write_huggingface(tmp_path / "model", kind)
    if pickled:
        (tmp_path / "model" / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    model, taken = start(tokenizer, bert_checkpoint=str(tmp_path / "model"))
    assert taken == HEADS[kind]
    assert_same_encoder(model, theirs)


def test_heads_answer_as_in_hugging_face(tmp_path, tokenizer):
    theirs = write_huggingface(tmp_path / "model", layer_norm_eps=1e-3)
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "model"))
    expected = theirs(IDS, token_type_ids=TYPES, attention_mask=MASK)
    hidden = hidden_states(model.bert)
    torch.testing.assert_close(model.mlm(hidden), expected.prediction_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.nsp(hidden), expected.seq_relationship_logits, atol=1e-5, rtol=0)
    embeddings = model.bert.bert.embeddings.word_embeddings
    assert model.mlm.mlp.last_linear_layer.weight is embeddings.weight


def test_an_untied_decoder_stays_untied(tmp_path, tokenizer):
    theirs = write_huggingface(tmp_path / "model", tie_word_embeddings=False)
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "model"))
    assert_same_encoder(model, theirs)
    expected = theirs(IDS, token_type_ids=TYPES, attention_mask=MASK).prediction_logits
    torch.testing.assert_close(model.mlm(hidden_states(model.bert)), expected, atol=1e-5, rtol=0)


def test_one_line_names_loaded_and_new_parts(tmp_path, tokenizer, caplog):
    write_huggingface(tmp_path / "model", "BertForMaskedLM")
    chosen = options(bert_checkpoint=str(tmp_path / "model"))
    origin = find_initial_checkpoint(chosen)
    chosen, config = with_sizes(chosen, origin)
    take_weights(build_model(chosen, tokenizer, config), origin)
    assert caplog.messages[-1] == f"weights from {tmp_path / 'model'}: encoder, MLM head; new: NSP head"


def write_nemo_0_10(path: Path, model: transformers.BertModel, half: bool = False) -> None:
    """What `BERT.save_to` of NeMo 0.10 wrote with transformers 2.8 and torch 1.4."""
    tensors = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(SIZES["max_position_embeddings"])[None]
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


@pytest.fixture
def theirs():
    torch.manual_seed(2)
    return transformers.BertModel(transformers.BertConfig(**SIZES)).eval()


FLAGS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_seq_length": 40,
}


def test_a_module_file_of_nemo_0_10_gives_the_encoder(tmp_path, tokenizer, theirs):
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs)
    model, taken = start(tokenizer, bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"), **FLAGS)
    assert taken == ["BERT"]
    assert_same_encoder(model, theirs)


def test_sizes_come_from_the_configuration_beside_the_weights(tmp_path, tokenizer, theirs):
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs)
    theirs.config.to_json_file(tmp_path / "bert-config.json")
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"))
    assert_same_encoder(model, theirs)
    assert model.bert.config.max_position_embeddings == 40


def test_sizes_may_come_from_config_file(tmp_path, tokenizer, theirs):
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs)
    (tmp_path / "elsewhere").mkdir()
    theirs.config.to_json_file(tmp_path / "elsewhere" / "config.json")
    model, _ = start(
        tokenizer,
        bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"),
        config_file=str(tmp_path / "elsewhere" / "config.json"),
    )
    assert_same_encoder(model, theirs)


def test_a_configuration_of_another_model_is_refused(tmp_path, tokenizer, theirs):
    """NeMo 0.10 left a bert-config.json that was there as it was."""
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs)
    transformers.BertConfig(**{**SIZES, "hidden_size": 32}).to_json_file(tmp_path / "bert-config.json")
    with pytest.raises(
        CheckpointError,
        match=r"BERT-STEP-5\.pt: the weights have a different hidden_size; found 16, expected 32",
    ):
        start(tokenizer, bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"))


def test_weights_in_half_precision_are_trained_in_single(tmp_path, tokenizer, theirs):
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs, half=True)
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"), **FLAGS)
    assert all(parameter.dtype is torch.float32 for parameter in model.bert.parameters())


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForMaskedLM", "BertModel"])
def test_one_file_of_a_hugging_face_folder_gives_the_encoder_alone(tmp_path, tokenizer, kind):
    model_of_theirs = write_huggingface(tmp_path / "model", kind)
    model, taken = start(tokenizer, bert_checkpoint=str(tmp_path / "model" / "model.safetensors"))
    assert taken == ["BERT"]
    assert_same_encoder(model, model_of_theirs)


def test_the_first_names_of_norms_are_known(tmp_path, tokenizer, theirs):
    renamed = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "pytorch_model.bin"), **FLAGS)
    assert_same_encoder(model, theirs)


@pytest.fixture
def work_dir(tmp_path, tokenizer):
    """A run of ours that has made 7 steps."""
    torch.manual_seed(4)
    model = with_heads(BERT(**SIZES))
    tokenizer.save(tmp_path / "saved")
    files = {path.name: path for path in (tmp_path / "saved").iterdir()}
    checkpoint.save(
        tmp_path / "run" / "checkpoints",
        7,
        {
            **weights_by_module({str(module): module for module in model.neural_modules}),
            "optimizer": {"x": torch.zeros(1)},
        },
        {"step": 7},
        {"bert-config.json": model.bert.config.to_json_string().encode(), **files},
    )
    return tmp_path / "run"


@pytest.mark.parametrize("named", [".", "checkpoints", "checkpoints/STEP-7"])
def test_a_folder_of_ours_gives_the_encoder_and_its_heads(work_dir, tokenizer, named):
    model, taken = start(tokenizer, bert_checkpoint=str(work_dir / named))
    assert taken == HEADS["BertForPreTraining"]
    for module in model.neural_modules:
        saved = load_file(work_dir / "checkpoints" / "STEP-7" / f"{module}.safetensors")
        assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in saved.items())
    tied = model.bert.bert.embeddings.word_embeddings.weight
    assert model.mlm.mlp.last_linear_layer.weight is tied


def test_a_module_file_of_ours_gives_the_encoder_alone(work_dir, tokenizer):
    file = work_dir / "checkpoints" / "STEP-7" / "BERT.safetensors"
    model, taken = start(tokenizer, bert_checkpoint=str(file))
    assert taken == ["BERT"]
    assert all(torch.equal(model.bert.state_dict()[name], t) for name, t in load_file(file).items())


@pytest.mark.parametrize("named", [".", "checkpoints/STEP-7", "checkpoints/STEP-7/BERT.safetensors"])
def test_a_damaged_checkpoint_is_refused(work_dir, named):
    file = work_dir / "checkpoints" / "STEP-7" / "BERT.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"BERT\.safetensors: damaged"):
        find_initial_checkpoint(options(bert_checkpoint=str(work_dir / named)))


def test_a_checkpoint_without_a_bert_is_refused(work_dir, tokenizer, tmp_path):
    config = (work_dir / "checkpoints" / "STEP-7" / "bert-config.json").read_bytes()
    checkpoint.save(
        tmp_path / "other", 1, {"TaylorNet": {"w": torch.zeros(1)}}, {}, {"bert-config.json": config}
    )
    with pytest.raises(CheckpointError, match="does not contain a BERT; found TaylorNet"):
        start(tokenizer, bert_checkpoint=str(tmp_path / "other"))


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors", "no/where/at/all.bin"])
def test_a_missing_file_is_an_error(name):
    with pytest.raises(MissingFileError, match="no such file"):
        find_initial_checkpoint(options(bert_checkpoint=name))


def test_without_an_initial_checkpoint_options_do_not_change():
    assert find_initial_checkpoint(options()) is None
    assert with_sizes(options(), None) == (options(), None)


def test_sizes_that_are_not_given_are_the_models(tmp_path):
    write_huggingface(tmp_path / "model", hidden_act="relu", hidden_dropout_prob=0.25)
    chosen = options(bert_checkpoint=str(tmp_path / "model"), attention_probs_dropout_prob=0.5)
    settled, _ = with_sizes(chosen, find_initial_checkpoint(chosen))
    assert (settled.vocab_size, settled.hidden_size, settled.num_attention_heads) == (len(WORDS), 16, 2)
    assert (settled.hidden_act, settled.hidden_dropout_prob) == ("relu", 0.25)
    assert settled.attention_probs_dropout_prob == 0.5  # no weight depends on it
    assert settled.max_seq_length == 40  # 128 by default, which this model has no positions for


def test_shorter_sequences_than_the_model_has_positions_for_are_fine(tmp_path, tokenizer):
    write_huggingface(tmp_path / "model")
    chosen = options(bert_checkpoint=str(tmp_path / "model"), max_seq_length=10)
    settled, config = with_sizes(chosen, find_initial_checkpoint(chosen))
    assert settled.max_seq_length == 10
    assert build_model(settled, tokenizer, config).bert.config.max_position_embeddings == 40


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 31),
        ("hidden_size", 32),
        ("num_hidden_layers", 3),
        ("num_attention_heads", 4),
        ("intermediate_size", 32),
        ("hidden_act", "relu"),
    ],
)
def test_sizes_that_contradict_the_model_are_refused_by_name(tmp_path, name, value):
    write_huggingface(tmp_path / "model")
    chosen = options(bert_checkpoint=str(tmp_path / "model"), **{name: value})
    with pytest.raises(UsageError, match=f"--{name}: contradicts .*model; found {value}.*leave out --{name}"):
        with_sizes(chosen, find_initial_checkpoint(chosen))


def test_a_configuration_file_that_contradicts_the_model_is_refused(tmp_path):
    """12 heads are what is not given, so only the two files can tell."""
    write_huggingface(tmp_path / "model", hidden_size=24)
    transformers.BertConfig(**{**SIZES, "hidden_size": 24, "num_attention_heads": 12}).to_json_file(
        tmp_path / "c.json"
    )
    chosen = options(bert_checkpoint=str(tmp_path / "model"), config_file=str(tmp_path / "c.json"))
    with pytest.raises(
        UsageError, match=r"c\.json num_attention_heads: contradicts .*; found 12, expected 2"
    ):
        with_sizes(chosen, find_initial_checkpoint(chosen))


def test_a_configuration_of_something_else_is_refused(tmp_path):
    write_huggingface(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
    with pytest.raises(UsageError, match="not a BERT: model_type; found roberta"):
        find_initial_checkpoint(options(bert_checkpoint=str(tmp_path / "model")))


def tokenizer_for(tmp_path, **given):
    text = tmp_path / "text" / "text.txt"
    text.parent.mkdir(exist_ok=True)
    text.write_text("a text\n")
    chosen = options(**given)
    initial = find_initial_checkpoint(chosen)
    return open_tokenizer(chosen, Corpus.at(text, AUTO), tmp_path / "trained", initial)


def test_the_tokenizer_beside_the_weights_is_used(tmp_path, work_dir):
    write_huggingface(tmp_path / "model")
    for place in (tmp_path / "model", tmp_path / "model" / "model.safetensors", work_dir):
        assert tokenizer_for(tmp_path, bert_checkpoint=str(place)).vocabulary() == WORDS


def test_a_tokenizer_that_is_named_is_used_with_a_warning(tmp_path, caplog):
    write_huggingface(tmp_path / "model")
    (tmp_path / "other").mkdir()
    words = [*WORDS[:-1], "another"]
    (tmp_path / "other" / "vocab.txt").write_text("\n".join(words) + "\n")
    given = {"bert_checkpoint": str(tmp_path / "model"), "tokenizer": str(tmp_path / "other")}
    assert tokenizer_for(tmp_path, **given).vocabulary() == words
    assert "only 62 of the 63 ids of --tokenizer stand for the same token in" in caplog.text


def test_weights_alone_need_their_tokenizer(tmp_path, vocabulary, theirs):
    """A new one would give their embeddings to other tokens."""
    (tmp_path / "weights").mkdir()
    write_nemo_0_10(tmp_path / "weights" / "BERT-STEP-5.pt", theirs)
    given = {"bert_checkpoint": str(tmp_path / "weights" / "BERT-STEP-5.pt")}
    with pytest.raises(UsageError, match=r"BERT-STEP-5\.pt: this model comes without its tokenizer"):
        tokenizer_for(tmp_path, **given)
    assert tokenizer_for(tmp_path, **given, tokenizer=str(vocabulary)).vocabulary() == WORDS
    vocabulary.rename(tmp_path / "text" / "bert")
    assert tokenizer_for(tmp_path, **given).vocabulary() == WORDS


@pytest.mark.parametrize(("lower", "tokens"), [(True, ["a", "##b", "##c"]), (False, ["[UNK]"])])
def test_a_lone_vocabulary_is_lower_cased_on_request(tmp_path, lower, tokens):
    (tmp_path / "text" / "bert").mkdir(parents=True)
    vocabulary = tmp_path / "text" / "bert" / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    assert tokenizer_for(tmp_path, do_lower_case=lower).text_to_tokens("ABC") == tokens


def test_a_tokenizer_that_keeps_capitals_contradicts_lower_casing(tmp_path):
    write_huggingface(tmp_path / "model")
    folder = tmp_path / "cased"
    vocab = {token: i for i, token in enumerate(WORDS)}
    transformers.BertTokenizerFast(vocab=vocab, do_lower_case=False).save_pretrained(folder)
    given = {"bert_checkpoint": str(tmp_path / "model"), "tokenizer": str(folder)}
    with pytest.raises(UsageError, match="--do_lower_case: the existing tokenizer is cased"):
        tokenizer_for(tmp_path, **given, do_lower_case=True)


@pytest.mark.parametrize("from_file", [False, True])
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, tokenizer, from_file):
    write_huggingface(tmp_path / "model", vocab_size=len(WORDS) - 1)
    name = "config_file" if from_file else "bert_checkpoint"
    chosen = options(**{name: str(tmp_path / "model" / ("config.json" if from_file else ""))})
    settled, config = with_sizes(chosen, find_initial_checkpoint(chosen))
    with pytest.raises(UsageError, match="the tokenizer has more entries than the model; found 63 entries"):
        build_model(settled, tokenizer, config)


def test_a_model_may_have_embeddings_to_spare(tmp_path, tokenizer):
    theirs = write_huggingface(tmp_path / "model", vocab_size=len(WORDS) + 2)
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "model"))
    assert_same_encoder(model, theirs)


def test_a_new_model_may_have_more_embeddings_than_tokens(tmp_path, tokenizer):
    """Rounding the vocabulary up to a multiple of 8 or 64 is usual."""
    transformers.BertConfig(**{**SIZES, "vocab_size": 64}).to_json_file(tmp_path / "c.json")
    chosen, config = with_sizes(options(config_file=str(tmp_path / "c.json")), None)
    assert build_model(chosen, tokenizer, config).bert.config.vocab_size == 64


def test_the_padding_id_is_the_tokenizers(tmp_path, vocabulary, theirs):
    """NeMo 0.10 put SentencePiece's special tokens last, and 0 into the configuration."""
    (vocabulary / "vocab.txt").write_text("\n".join([*WORDS[5:], *WORDS[:5]]) + "\n")
    tokenizer = NemoBertTokenizer(vocab_file=vocabulary / "vocab.txt")
    write_nemo_0_10(tmp_path / "BERT-STEP-5.pt", theirs)
    theirs.config.to_json_file(tmp_path / "bert-config.json")
    model, _ = start(tokenizer, bert_checkpoint=str(tmp_path / "BERT-STEP-5.pt"))
    assert model.bert.config.pad_token_id == model.bert.bert.embeddings.word_embeddings.padding_idx == 58
    assert_same_encoder(model, theirs)
