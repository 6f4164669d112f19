import shutil

import pytest

from nemo.collections.nlp.data import BERTPretrainingDataDesc, NemoBertTokenizer, SentencePieceTokenizer
from nemo.collections.nlp.data.tokenizers import get_bert_special_tokens
from nemo.utils.errors import DataError, MissingFileError, UsageError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def describe(train_data, **options) -> BERTPretrainingDataDesc:
    return BERTPretrainingDataDesc(
        "any name", **{"vocab_size": 50, "sample_size": 1000, "train_data": train_data, **options}
    )


def test_a_folder_with_train_valid_and_test_fills_all_three(english):
    shutil.copy(english / "valid.txt", english / "test.txt")
    desc = describe(english)
    assert desc.data_dir == str(english)
    assert desc.train_file == str(english / "train.txt")
    assert desc.eval_file == str(english / "valid.txt")
    assert desc.test_file == str(english / "test.txt")


def test_a_single_file_has_no_held_out_files(english):
    desc = describe(english / "train.txt")
    assert desc.data_dir == str(english)
    assert desc.train_file == str(english / "train.txt")
    assert (desc.eval_file, desc.test_file) == (None, None)


def test_given_held_out_text_comes_before_that_of_the_folder(english, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("Held out.")
    assert describe(english, eval_data=other).eval_file == str(other)
    assert describe(english, eval_data=english).eval_file == str(english / "valid.txt")


def test_a_folder_of_other_files_is_the_training_text(english):
    (english / "train.txt").rename(english / "part1.txt")
    desc = describe(english)
    assert desc.train_file == desc.data_dir == str(english)
    assert desc.eval_file == str(english / "valid.txt")
    assert desc.tokenizer.vocab_size == 50


def test_several_files_of_a_split_are_a_list(english):
    for name in ("train", "valid"):
        shutil.copy(english / f"{name}.txt", english / f"{name}_1.txt")
    desc = describe(english)
    assert desc.train_file == str(english)  # of which the two are read
    assert desc.eval_file == [str(english / "valid.txt"), str(english / "valid_1.txt")]


def test_a_path_without_a_folder_works(english, monkeypatch):
    monkeypatch.chdir(english)
    desc = describe("train.txt")
    assert SentencePieceTokenizer(desc.tokenizer_model).vocab_size == 50


def test_a_tokenizer_is_trained_into_bert_beside_the_text(english):
    desc = describe(english)
    assert desc.tokenizer_model == str(english / "bert" / "tokenizer.model")
    assert desc.vocab_file == str(english / "bert" / "vocab.txt")
    tokenizer = SentencePieceTokenizer(model_path=desc.tokenizer_model)
    tokenizer.add_special_tokens(get_bert_special_tokens("bert"))
    assert tokenizer.fingerprint == desc.tokenizer.fingerprint
    assert (english / "bert" / "vocab.txt").read_text(encoding="utf-8").split() == tokenizer.vocabulary()


@pytest.mark.parametrize("special_tokens", [get_bert_special_tokens("bert"), SPECIALS, None])
def test_special_tokens_are_a_dict_a_list_or_nothing(english, special_tokens):
    desc = describe(english, special_tokens=special_tokens)
    assert desc.tokenizer.vocabulary()[:5] == SPECIALS
    assert desc.tokenizer.mask_id == 4


def test_a_word_piece_vocabulary_is_trained_on_request(english):
    desc = describe(english, tokenizer="word-piece", vocab_size=80)
    assert desc.tokenizer_model is None
    assert desc.vocab_file == str(english / "bert" / "vocab.txt")
    assert isinstance(desc.tokenizer, NemoBertTokenizer)
    assert NemoBertTokenizer(vocab_file=desc.vocab_file).fingerprint == desc.tokenizer.fingerprint


def test_a_model_in_bert_is_used(english, tmp_path):
    trained = describe(english)
    other = tmp_path / "other"
    (other / "bert").mkdir(parents=True)
    (other / "train.txt").write_text("Something else.")
    shutil.copy(trained.tokenizer_model, other / "bert")
    desc = describe(other, vocab_size=7)
    assert desc.tokenizer_model == str(other / "bert" / "tokenizer.model")
    assert desc.vocab_file is None
    assert desc.tokenizer.fingerprint == trained.tokenizer.fingerprint


def test_a_vocabulary_in_bert_is_used_and_left_alone(english):
    mine = "\n".join([*SPECIALS, "the", "cat"])
    (english / "bert").mkdir()
    (english / "bert" / "vocab.txt").write_text(mine)
    desc = describe(english)
    assert desc.tokenizer_model is None
    assert desc.vocab_file == str(english / "bert" / "vocab.txt")
    assert desc.tokenizer.text_to_ids("the cat") == [5, 6]
    assert [path.name for path in (english / "bert").iterdir()] == ["vocab.txt"]
    assert (english / "bert" / "vocab.txt").read_text() == mine


def test_the_tokenizer_may_be_elsewhere(english, tmp_path):
    desc = describe(english, tokenizer_folder=tmp_path / "work" / "tokenizer")
    assert desc.tokenizer_model == str(tmp_path / "work" / "tokenizer" / "tokenizer.model")
    assert not (english / "bert").exists()


def test_missing_text_is_named(english):
    for options in ({"train_data": "nowhere"}, {"eval_data": "nowhere"}, {"test_data": "nowhere"}):
        with pytest.raises(MissingFileError, match="nowhere: no such file or folder"):
            describe(**{"train_data": english, **options})
    with pytest.raises(UsageError, match="train_data is not given"):
        describe(None)


def test_a_folder_without_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no text in this folder"):
        describe(tmp_path)
