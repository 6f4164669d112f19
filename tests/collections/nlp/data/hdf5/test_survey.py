"""What a shard that is read in full tells: special tokens, shares, and which tokenizer did not make it."""

import random

import numpy as np
import pytest

from nemo.collections.nlp.data.hdf5 import Frame, Limits, check_shard_tokenizer, open_shard, survey_of
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.utils.errors import DataError
from tests.shards import MASK, Row, make_rows, write_shard

LIMITS = Limits(seq_length=16, max_predictions=3)


def surveyed(path, limits=LIMITS):
    return survey_of(open_shard(path), limits)


def test_the_special_tokens_give_themselves_away(tmp_path):
    rows = make_rows(200, specials=(11, 7, 9), vocab_size=200)
    found = surveyed(write_shard(tmp_path / "a.hdf5", rows))
    assert (found.frame, found.mask_id) == (Frame(cls_id=11, sep_id=7), 9)


def test_shares_are_those_of_the_rows(tmp_path):
    rows = make_rows(200)
    found = surveyed(write_shard(tmp_path / "a.hdf5", rows))
    assert found.random_share == pytest.approx(np.mean([row.is_random for row in rows]))
    assert found.padding_share == pytest.approx(1 - np.mean([len(row.tokens) for row in rows]) / 16)
    assert found.first_rows[3, : len(rows[3].tokens)].tolist() == rows[3].tokens


def test_the_survey_does_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "a.hdf5", make_rows(200))
    whole = surveyed(path)
    monkeypatch.setattr("nemo.collections.nlp.data.hdf5.survey.BLOCK_BYTES", 1000)
    parts = surveyed(path)
    assert str(parts) == str(whole)
    assert np.array_equal(parts.first_rows, whole.first_rows)


def test_another_value_gives_another_hash(tmp_path):
    rows = make_rows(30)
    first = surveyed(write_shard(tmp_path / "a.hdf5", rows)).sha256
    assert surveyed(write_shard(tmp_path / "b.hdf5", rows, compression=None)).sha256 == first
    rows[17].is_random = not rows[17].is_random
    assert surveyed(write_shard(tmp_path / "c.hdf5", rows)).sha256 != first


def test_shards_without_masks_are_refused(tmp_path):
    rows = make_rows(200)
    for row in rows:
        row.hidden = {position: row.tokens[position] for position in row.hidden}
    with pytest.raises(
        DataError, match=r"tokens to predict are not masked; found .*expected \[MASK\] in about 80%"
    ):
        surveyed(write_shard(tmp_path / "a.hdf5", rows))
    for row in rows:
        row.hidden = {}
    with pytest.raises(DataError, match="masked_lm_positions: nothing to predict"):
        surveyed(write_shard(tmp_path / "b.hdf5", rows))


def test_unusual_shares_are_warned_of(tmp_path, capsys):
    rows = make_rows(500)
    for row in rows:
        row.is_random, row.hidden = False, dict.fromkeys(row.hidden, MASK)
    surveyed(write_shard(tmp_path / "a.hdf5", rows))
    warnings = capsys.readouterr().err
    assert "100% of the tokens to predict are replaced by one id (4); 80% is usual" in warnings
    assert "0% of the pairs are random; 50% is usual" in warnings


def test_a_text_may_hold_the_separator_but_not_in_every_row(tmp_path):
    rows = make_rows(200)
    odd = Row([2, 5, 3, 6, 3, 7, 3], length_of_a=5, hidden={1: 4})
    assert surveyed(write_shard(tmp_path / "a.hdf5", [*rows, odd])).frame.sep_id == 3
    with pytest.raises(DataError, match="inside sentences; found 9 rows"):
        surveyed(write_shard(tmp_path / "b.hdf5", [*rows, *[odd] * 9]))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """WordPiece vocabularies of the same size, learned from words of other syllables."""
    folder = tmp_path_factory.mktemp("tokenizers")
    rng = random.Random(0)
    made = {}
    for name, syllables in (
        ("right", ["ka", "ke", "ki", "ko", "ku", "ta", "te", "ti", "to", "tu"]),
        ("wrong", ["akt", "ekt", "okt", "ut", "ti"]),
    ):
        words = ["".join(rng.choices(syllables, k=rng.randint(2, 5))) for _ in range(400)]
        lines = [" ".join(rng.choices(words, k=12)) for _ in range(500)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
        tokenizer = train_tokenizer("word-piece", [folder / f"{name}.txt"], folder / name, 60)
        made[name] = tokenizer, [ids.tolist() for ids in tokenizer.encode_batch(lines)]
    return made


def test_the_shards_own_tokenizer_is_accepted_and_another_refused(tmp_path, tokenizers):
    right, sentences = tokenizers["right"]
    wrong, _ = tokenizers["wrong"]
    specials = right.cls_id, right.sep_id, right.mask_id
    rows = make_rows(100, 64, 9, right.vocab_size, sentences=sentences, specials=specials)
    shard = open_shard(write_shard(tmp_path / "a.hdf5", rows, 64, 9))
    found = survey_of(shard, Limits(64, 9, right.vocab_size))
    check_shard_tokenizer(right, found, shard)
    assert (wrong.vocab_size, wrong.cls_id, wrong.mask_id) == (right.vocab_size, right.cls_id, right.mask_id)
    with pytest.raises(
        DataError, match="made with a different tokenizer: it splits words differently; found"
    ):
        check_shard_tokenizer(wrong, found, shard)


@pytest.mark.parametrize(("place", "token"), [(0, "CLS"), (1, "SEP"), (2, "MASK")])
def test_other_special_tokens_are_another_tokenizer(tmp_path, tokenizers, place, token):
    tokenizer, _ = tokenizers["right"]
    specials = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    specials[place] = 30
    shard = open_shard(write_shard(tmp_path / "a.hdf5", make_rows(100, specials=tuple(specials))))
    message = rf"\[{token}\] has a different id; found 30, .*fix: give the vocabulary"
    with pytest.raises(DataError, match=message):
        check_shard_tokenizer(tokenizer, survey_of(shard, LIMITS), shard)
