"""Figures on data: counts that add up, excerpts that stay small, and what tokens make of it."""

import numpy as np
import pytest

from nemo.collections.nlp.data.inspection import counts as counting
from nemo.collections.nlp.data.inspection.characters import characters_of, is_odd, scripts_of
from nemo.collections.nlp.data.inspection.counts import Counts, Excerpts, ParagraphWindow, Repeats, hashes_of
from nemo.collections.nlp.data.inspection.language import languages_of
from nemo.collections.nlp.data.inspection.memory_store import store_in_memory
from nemo.collections.nlp.data.inspection.tokens import pair_figures, unigram_entropy, unknown_characters

DOCUMENTS = [["the cat", "the dog sees"], ["a bird"], ["a bird"], ["the cat", "我爱北京"]]


def counts_of(documents, seed=0):
    counts = Counts()
    counts.add(documents, np.random.default_rng(seed))
    return counts


def test_everything_is_counted():
    counts = counts_of(DOCUMENTS)
    assert (counts.documents, counts.paragraphs) == (4, 6)
    characters = characters_of(counts.code_points)
    assert sum(characters.values()) == len("".join(p for document in DOCUMENTS for p in document))
    assert characters["北"] == 1
    assert counts.documents_by_length.tolist() == [2, 2, *[0] * (len(counting.LENGTHS) - 2)]
    assert counts.chars_by_length[:2].tolist() == [12, 30]
    assert counts.repeated_documents.share == 1 / 4
    assert counts.repeated_paragraphs.share == pytest.approx(2 / 6)
    assert [window.paragraphs for window in counts.excerpts.windows] == DOCUMENTS


def test_counts_of_parts_add_up_to_those_of_the_whole():
    whole, parts, later = counts_of(DOCUMENTS), counts_of(DOCUMENTS[:1]), counts_of(DOCUMENTS[1:2])
    later.add(DOCUMENTS[2:], np.random.default_rng(0))
    parts.merge(later)
    assert (parts.documents, parts.paragraphs) == (whole.documents, whole.paragraphs)
    for name in ("code_points", "documents_by_length", "chars_by_length"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.repeated_documents.share == whole.repeated_documents.share
    assert parts.repeated_paragraphs.share == whole.repeated_paragraphs.share
    assert parts.excerpts.windows == whole.excerpts.windows


def test_repeats_are_estimated_from_few_hashes(monkeypatch):
    monkeypatch.setattr(counting, "MOST_HASHES", 4000)
    texts = [str(i) for i in range(20_000)] + [str(i) for i in range(5_000)]
    one, two = Repeats(), Repeats()
    for start in range(0, 15_000, 1000):
        one.add(hashes_of(texts[start : start + 1000]))
    two.add(hashes_of(texts[15_000:]))
    one.merge(two)
    assert one.bits >= 3
    assert sum(map(len, one._kept_hashes)) <= 4000
    assert one.share == pytest.approx(5 / 25, abs=0.03)


def test_repeats_are_counted():
    repeats = Repeats()
    repeats.add(hashes_of(["a", "b", "a", "a"]))
    assert repeats.times(hashes_of(["a", "b", "c"])).tolist() == [3, 1, 0]


def test_excerpts_stay_small_and_are_drawn_from_everywhere(monkeypatch):
    monkeypatch.setattr(counting, "EXCERPT_CHARS", 1000)
    excerpts, later = Excerpts(), Excerpts()
    rng = np.random.default_rng(0)
    for i in range(10_000):
        (excerpts if i < 1000 else later).add(rng.random(), ParagraphWindow([f"{i:05}"], is_document=True))
    excerpts.merge(later)
    numbers = [int(window.paragraphs[0]) for window in excerpts.windows]
    assert numbers == sorted(numbers)
    assert 1000 <= 5 * len(numbers) <= 2000
    assert excerpts.share == pytest.approx(len(numbers) / 10_000, rel=0.2)
    assert np.mean(numbers) == pytest.approx(5000, rel=0.2)


def test_of_a_long_document_only_windows_may_be_drawn():
    long = [["x" * 1000] * 100]
    windows = counts_of(long).excerpts.windows
    assert len(windows) == 6
    assert not any(window.is_document for window in windows)
    assert sum(len(window.paragraphs) for window in windows) == 100


def test_scripts_and_odd_characters():
    characters = {c: 1 for c in "abcd我爱жγ。 1\x00\ufffd"}
    assert scripts_of(characters) == {"Latin": 0.5, "Han": 0.25, "Cyrillic": 0.125, "Greek": 0.125}
    assert [c for c in characters if is_odd(c)] == ["\x00", "\ufffd"]
    assert scripts_of({"1": 3}) == {}


def test_languages_are_detected():
    english = "The river runs through the old town, and people walk along its banks in the evening."
    german = "Der Fluss fließt durch die alte Stadt, und abends gehen die Leute an seinen Ufern spazieren."
    shares = languages_of([*[english] * 30, *[german] * 10])
    assert list(shares) == ["en", "de"]
    assert shares["en"] == pytest.approx(0.75, abs=0.1)
    assert list(languages_of(["长江是中国第一大河，发源于青藏高原，注入东海。"])) == ["zh"]
    assert languages_of(["1 2 3 ..."]) == {}


def test_a_store_in_memory_has_documents_sentences_and_words(letters):
    store = store_in_memory([["ab c", ""], [], [" "], ["d", "ef"]], letters)
    assert store.tokens.tolist() == [5, 32, 7, 8, 9, 36]
    assert store.starts_word.tolist() == [True, False, True, True, True, False]
    assert store.sentence_offsets.tolist() == [0, 3, 4, 6]
    assert store.document_offsets.tolist() == [0, 1, 3]


def test_an_empty_store_in_memory_has_no_pairs(letters):
    store = store_in_memory([[""]], letters)
    assert store.document_offsets.tolist() == [0]
    assert pair_figures(store, 16) is None


def test_padding_is_what_the_documents_leave(letters):
    store = store_in_memory([["abc", "de"]] * 50, letters)
    figures = pair_figures(store, 16)
    # [CLS] A [SEP] B [SEP] of at most 5 + 3 letters, of which some pairs are cut shorter.
    assert 1 - (3 + 5 + 3) / 16 <= figures.padding_share < 0.6
    assert 0.3 < figures.random_share < 0.8


@pytest.mark.slow
def test_a_few_documents_do_not_mislead(letters):
    document = ["abc", "defg", "hi"] * 20
    few, many = (pair_figures(store_in_memory([document] * n, letters), 32) for n in (10, 2000))
    assert few.padding_share == pytest.approx(many.padding_share, abs=0.03)
    assert few.random_share == pytest.approx(many.random_share, abs=0.03)


def test_the_entropy_leaves_out_special_tokens(letters):
    tokens = np.array([5, 5, 6, 6, 1, 1, 1, 2])
    assert unigram_entropy(tokens, letters) == pytest.approx(np.log(2))


def test_characters_without_a_token(letters):
    assert unknown_characters({"a": 9, "☃": 2, " ": 5, "1": 1}, letters) == {"☃": 2, "1": 1}
