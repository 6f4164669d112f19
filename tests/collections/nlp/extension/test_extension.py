"""A BERT whose vocabulary is extended: ids, weights, tokenizer, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.extension.report import summary
from nemo.collections.nlp.extension.run import extend_vocabulary
from nemo.collections.nlp.extension.vocabulary import prove
from nemo.collections.nlp.options import ExtensionOptions
from nemo.utils.errors import CheckpointError
from tests.cli.outcome import error_of
from tests.huggingface_folders import SIZES, WORDS

VOCABULARY = [*WORDS, "[unused1]", "[unused2]", "我", "你"]
TEXT = [f"the cat sees {word} {n}" for n in range(40) for word in ("aspirin", "asp", "heparin")]


def write_bert(folder: Path, kind: str = "BertForPreTraining") -> str:
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": len(VOCABULARY)}
    model = getattr(transformers, kind)(transformers.BertConfig(**sizes))
    with torch.no_grad():
        if kind != "BertModel":
            model.cls.predictions.bias.normal_()
    model.save_pretrained(folder)
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    transformers.BertTokenizerFast(vocab=ids).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return str(folder)


def extended(folder, lines=TEXT, kind="BertForPreTraining", **changes):
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    model = write_bert(folder / "bert", kind)
    options = {"text_layout": "lines", "out": str(folder / "out"), "least_saving": 0.01, **changes}
    return extend_vocabulary(ExtensionOptions(model=model, text=(str(folder / "text.txt"),), **options))


def test_words_of_the_text_become_entries_in_unused_slots_first(tmp_path):
    result = extended(tmp_path)
    lines = (tmp_path / "out" / "vocab.txt").read_text().splitlines()
    unused = [VOCABULARY.index("[unused1]"), VOCABULARY.index("[unused2]")]
    assert {lines[i] for i in unused} == set(list(result.extension.ids)[:2])
    assert [line for i, line in enumerate(lines[: len(VOCABULARY)]) if i not in unused] == [
        token for token in VOCABULARY if not token.startswith("[unused")
    ]
    assert {"aspirin", "heparin"} <= set(lines)
    assert result.after.pieces_per_word < result.before.pieces_per_word


def test_transformers_gives_the_same_ids_without_added_tokens(tmp_path):
    result = extended(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(result.folder)
    for line in (*TEXT[:3], "Heparin aspirins unknown ü the dog"):
        assert theirs(line, add_special_tokens=False)["input_ids"] == result.extension.tokenizer.text_to_ids(
            line
        )
    assert set(theirs.get_added_vocab()) <= {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}


def test_a_new_entry_starts_from_the_mean_of_what_it_replaces(tmp_path):
    result = extended(tmp_path)
    old = load_file(tmp_path / "bert" / "model.safetensors")
    new = load_file(result.folder / "model.safetensors")
    replaced = [VOCABULARY.index(piece) for piece in ("a", *(f"##{letter}" for letter in "spirin"))]
    number = result.extension.ids["aspirin"]
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        torch.testing.assert_close(new[name][number], old[name][replaced].mean(0))
    model = transformers.AutoModelForPreTraining.from_pretrained(result.folder)
    assert model.config.vocab_size == result.extension.tokenizer.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertModel"])
def test_a_model_with_fewer_heads_keeps_its_architecture(tmp_path, kind):
    result = extended(tmp_path, kind=kind)
    assert json.loads((result.folder / "config.json").read_text())["architectures"] == [kind]


@pytest.mark.slow
def test_the_given_number_of_pieces_is_added(tmp_path):
    assert len(extended(tmp_path, pieces=1).extension.ids) == 1


def test_of_chinese_only_missing_characters_are_added(tmp_path):
    lines = [f"我和你看{'我' * n}只鸟" for n in range(60)]
    result = extended(tmp_path, lines)
    assert set("和看只鸟") <= set(result.extension.ids)
    assert all(len(piece.removeprefix("##")) == 1 for piece in result.extension.ids if not piece.isascii())
    assert result.before.unknown_share > 0.1 and result.after.unknown_share == 0


def test_in_chinese_no_words_of_other_scripts_are_added(tmp_path):
    lines = [
        f"我和你看 {n % 9}0℃ 3∶2 的 aspirin 和 heparin 我你我你我你我你我你我你我你我你我你"
        for n in range(90)
    ]
    added = set(extended(tmp_path, lines).extension.ids)
    assert {"和", "看", "##℃", "##∶"} <= added
    assert all(len(piece.removeprefix("##")) == 1 for piece in added)


def test_in_other_texts_a_few_chinese_characters_change_nothing(tmp_path):
    added = set(extended(tmp_path, [f"{line} 和" for line in TEXT]).extension.ids)
    assert {"和", "aspirin", "heparin"} <= added


def test_words_come_in_the_order_of_the_pieces_that_they_save(tmp_path):
    lines = [f"the cat sees aspirinate aspirinate xylo {'和' * (n % 2)} dog {n}" for n in range(80)]
    result = extended(tmp_path, lines, pieces=3)
    saved = [change.saved for change in result.changed if not change.was_unknown]
    assert saved == sorted(saved, reverse=True) and len(saved) > 1
    for change in result.changed:
        assert change.saved == change.count * (len(change.before) - len(change.after))


@pytest.mark.slow
def test_words_that_were_unknown_are_listed_apart(tmp_path):
    lines = [f"the cat sees aspirin {'和' * (n % 2)} dog" for n in range(80)]
    result = extended(tmp_path, [f"{line} {n}" for n, line in enumerate(lines)])
    saving, unknown = summary(result).split("words that were unknown")
    assert "aspirin" in saving and "-> 和" not in saving
    assert "-> 和" in unknown and "aspirin" not in unknown


def test_an_entry_that_no_word_reaches_is_refused(tmp_path):
    result = extended(tmp_path)
    after = result.extension.tokenizer
    before = load_tokenizer(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="never used"):
        prove(before, after, {"the": 1}, {"heparin": after.vocab_size + 1})
    with pytest.raises(CheckpointError, match="split differently"):
        prove(before, after, {"heparin": 1}, {})


def test_the_command_reports_before_and_after(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    bert, out = write_bert(tmp_path / "bert"), str(tmp_path / "out")
    words = ["extend-vocab", bert, str(tmp_path / "text.txt"), "--out", out, "--text_layout", "lines"]
    assert main([*words, "--least_saving", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "pieces per word" in printed and "a ##s ##p ##i ##r ##i ##n -> aspirin" in printed
    capsys.readouterr()
    assert main(words) == 2  # the folder is there
    assert "already exists" in error_of(capsys)


def test_models_that_cannot_be_extended_are_refused(tmp_path, capsys):
    bert = write_bert(tmp_path / "bert")
    (tmp_path / "text.txt").write_text("the cat sees the dog\n" * 30 + "the dog likes the cat\n" * 30)
    text = str(tmp_path / "text.txt")
    out = ["--out", str(tmp_path / "out")]
    capsys.readouterr()
    for words, code, told in (
        ([bert], 2, "a model and a text are needed"),
        ([bert, str(tmp_path / "absent"), *out], 3, "no such"),
    ):
        assert main(["extend-vocab", *words]) == code
        assert told in error_of(capsys)
    (tmp_path / "text.txt").write_text("".join(f"the cat sees the dog {'.' * n}\n" for n in range(60)))
    assert main(["extend-vocab", bert, text, *out, "--text_layout", "lines"]) == 3
    assert "no new entry saves enough" in error_of(capsys)
