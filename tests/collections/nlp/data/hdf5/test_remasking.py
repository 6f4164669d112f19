"""Masks of shards are undone exactly, and new ones keep to the words that the text has."""

from pathlib import Path

import numpy as np
import pytest
import rjieba

from nemo.collections.nlp.data.hdf5.remasking import Remasking
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, TokenizerSpec
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.utils.errors import UsageError
from tests.conftest import write_english
from tests.datasets import shards_dataset
from tests.shards import make_rows, write_shard, write_variable_shard

LENGTH, PREDICTIONS = 96, 14


def shard_of(path: Path, tokenizer: TokenizerSpec, lines: list[str], number: int = 300):
    """A shard of pairs of these sentences, and its rows."""
    sentences = [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    specials = tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    assert max(map(len, sentences)) <= (LENGTH - 3) // 2  # so that none is cut
    rows = make_rows(number, LENGTH, PREDICTIONS, tokenizer.vocab_size, 0, sentences, specials)
    return write_shard(path, rows, LENGTH, PREDICTIONS), rows


@pytest.fixture(scope="module", params=["word-piece", "sentence-piece"])
def english(request, tmp_path_factory):
    """A shard of made-up English, its tokenizer, its rows and the sentences."""
    folder = tmp_path_factory.mktemp("english")
    text = write_english(folder / "text") / "train.txt"
    tokenizer = train_tokenizer(request.param, [text], folder / "tokenizer", 80)
    lines = [line for line in text.read_text().splitlines() if line]
    path, rows = shard_of(folder / "a.hdf5", tokenizer, lines)
    return path, tokenizer, rows, lines


def epoch_of(dataset, epoch: int = 0) -> dict[str, np.ndarray]:
    """All rows, in the order they have in the shard."""
    parts = list(dataset.batches(64, epoch))
    order = np.argsort(dataset.order(epoch))
    return {port: np.concatenate([part[port] for part in parts])[order] for port in parts[0]}


@pytest.mark.parametrize("masking", ["stored", "token", "whole_word", "span"])
def test_stored_masks_are_undone(english, masking):
    path, tokenizer, rows, lines = english
    batch = epoch_of(shards_dataset(path, tokenizer=tokenizer, masking=masking))
    encoded = {tuple(ids.tolist()) for ids in tokenizer.encode_batch(lines)}
    for ids, segments, mask, row in zip(
        batch["output_ids"], batch["input_type_ids"], batch["input_mask"], rows, strict=True
    ):
        tokens = ids[mask == 1].tolist()
        assert tokens == row.tokens
        a, b = (ids[(segments == side) & (mask == 1)].tolist() for side in (0, 1))
        for sentence in (a[1:-1], b[:-1]):
            assert tuple(sentence) in encoded
    chosen = batch["output_mask"] == 1
    np.testing.assert_array_equal(batch["input_ids"][~chosen], batch["output_ids"][~chosen])


@pytest.mark.parametrize("masking", ["token", "whole_word", "span"])
def test_the_given_share_of_tokens_is_masked_and_none_is_special(english, masking):
    path, tokenizer, _, _ = english
    batch = epoch_of(shards_dataset(path, tokenizer=tokenizer, masking=masking))
    chosen = batch["output_mask"] == 1
    expected = np.rint(batch["input_mask"].sum(axis=1) * 0.15).sum()
    # Words of five pieces, as this small vocabulary makes them, do not fill it up in every row.
    assert chosen.sum() == pytest.approx(expected, rel=0.01 if masking == "token" else 0.06)
    assert not np.isin(batch["output_ids"][chosen], tokenizer.special_ids).any()
    assert np.mean(batch["input_ids"][chosen] == tokenizer.mask_id) == pytest.approx(0.8, abs=0.05)
    may_choose = (batch["input_mask"] == 1) & ~np.isin(batch["output_ids"], tokenizer.special_ids)
    goes_on = ~tokenizer.starts_word[batch["output_ids"]][:, 1:] & may_choose[:, 1:] & may_choose[:, :-1]
    is_split = chosen[:, 1:][goes_on] != chosen[:, :-1][goes_on]
    assert is_split.any() == (masking == "token")


def test_chinese_words_are_masked_whole(tmp_path):
    sentences = [
        "我爱北京天安门。",
        "他们学习人工智能；我们学习数学。",
        "上海的天气怎么样？",
        "明天会下雨吗？",
    ]
    characters = sorted(set("".join(sentences)))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    tokenizer = NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt")
    path, _ = shard_of(tmp_path / "zh.hdf5", tokenizer, sentences)
    batch = epoch_of(shards_dataset(path, tokenizer=tokenizer, masking="whole_word"))
    hidden = set()
    for ids, segments, mask, chosen in zip(
        *(batch[port] for port in ("output_ids", "input_type_ids", "input_mask", "output_mask")), strict=True
    ):
        for side in (0, 1):
            places = np.flatnonzero((segments == side) & (mask == 1) & (ids != tokenizer.cls_id))[:-1]
            text = "".join(tokens[i] for i in ids[places])
            place = 0
            for word in rjieba.cut(text):
                flags = chosen[places[place : place + len(word)]]
                assert flags.all() or not flags.any(), (text, word)
                if flags.all():
                    hidden.add(word)
                place += len(word)
    assert {"北京", "天安门", "人工智能", "我们", "天气", "怎么样", "下雨", "我"} <= hidden


def test_training_gets_new_masks_each_epoch_and_evaluation_never(english):
    path, tokenizer, _, _ = english

    def masks(mode: str, epoch: int, **options) -> np.ndarray:
        options = {"tokenizer": tokenizer, "masking": "whole_word", "mode": mode, **options}
        return epoch_of(shards_dataset(path, **options), epoch)["output_mask"]

    first = masks("train", 0)
    assert np.array_equal(masks("train", 0), first)
    for other in (masks("train", 1), masks("train", 0, seed=1), masks("train", 0, masking="span")):
        assert np.mean((other != first).any(axis=1)) > 0.8
    assert np.array_equal(masks("eval", 0), masks("eval", 3))
    assert np.array_equal(masks("train", 0, masking="stored"), masks("train", 1, masking="stored"))


def test_a_resumed_epoch_has_the_masks_of_a_whole_one(english):
    path, tokenizer, _, _ = english
    dataset = shards_dataset(path, tokenizer=tokenizer, masking="span")
    whole, rest = list(dataset.batches(16, 2)), list(dataset.batches(16, 2, first=7))
    assert len(rest) == len(whole) - 7
    for found, expected in zip(rest, whole[7:], strict=True):
        assert all(np.array_equal(found[port], expected[port]) for port in found)
    in_two = np.concatenate([batch["output_mask"] for batch in dataset.batches(150, 2)])
    assert np.array_equal(np.concatenate([batch["output_mask"] for batch in whole]), in_two)


def test_predictions_are_capped_and_their_share_may_be_another(english):
    path, tokenizer, _, _ = english

    def most(**options) -> int:
        options = {"tokenizer": tokenizer, "masking": "token", **options}
        return epoch_of(shards_dataset(path, **options))["output_mask"].sum(axis=1).max()

    assert most(mask_probability=0.5) > 14  # the arrays have space for 14, which only stored masks need
    assert most(mask_probability=0.5, max_pred_length=7) == 7


def test_without_a_tokenizer_single_tokens_can_be_masked(english):
    path, tokenizer, _, _ = english
    dataset = shards_dataset(path, masking="token", vocab_size=tokenizer.vocab_size)
    batch = epoch_of(dataset)
    chosen = batch["output_mask"] == 1
    assert chosen.any(axis=1).all()
    frame = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert not np.isin(batch["output_ids"][chosen], frame).any()
    assert not chosen[batch["input_mask"] == 0].any()
    assert np.mean(batch["input_ids"][chosen] == tokenizer.mask_id) == pytest.approx(0.8, abs=0.05)
    replacements = Remasking(Sampling(masking="token"), dataset.survey, vocab_size=80).masking.replacements
    assert set(range(80)) - set(replacements) == {0, *frame}
    with pytest.raises(
        UsageError, match=r"word boundaries are unknown without .*--tokenizer\), or give --masking tok"
    ):
        shards_dataset(path, masking="span", vocab_size=80)
    with pytest.raises(UsageError, match="unknown without a tokenizer: the size of the vocabulary"):
        shards_dataset(path, masking="token")


def test_rows_without_padding_are_masked_as_those_with_it(english, tmp_path):
    path, tokenizer, rows, _ = english
    write_variable_shard(tmp_path / "varlength.hdf5", rows)
    options = {"tokenizer": tokenizer, "masking": "whole_word", "max_seq_length": LENGTH}
    padded = epoch_of(shards_dataset(path, **options))
    as_long_as_needed = epoch_of(shards_dataset(tmp_path / "varlength.hdf5", **options))
    assert all(np.array_equal(padded[port], as_long_as_needed[port]) for port in padded)


def test_other_masks_are_other_data(english):
    path, tokenizer, _, _ = english
    many = [
        {},
        {"masking": "token"},
        {"masking": "whole_word"},
        {"masking": "whole_word", "mask_probability": 0.2},
        {"masking": "whole_word", "max_pred_length": 3},
    ]
    found = {shards_dataset(path, tokenizer=tokenizer, **options).fingerprint for options in many}
    assert len(found) == len(many)


def test_masks_that_are_not_drawn_take_no_share(english):
    with pytest.raises(
        UsageError, match=r"mask_probability: the masks are already in the shards; found 0\.2"
    ):
        shards_dataset(english[0], mask_probability=0.2)
    with pytest.raises(
        UsageError, match=r"unknown masking; found 'whole', .*stored, token, whole_word, span"
    ):
        shards_dataset(english[0], masking="whole")
