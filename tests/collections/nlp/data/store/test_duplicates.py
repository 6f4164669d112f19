"""Documents that repeat earlier ones: which are found, and that nothing but the text decides it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nemo.collections.nlp.data.store import duplicates
from nemo.collections.nlp.data.store.duplicates import (
    BANDS,
    NearDuplicateKeys,
    document_hash,
    exact_duplicates,
    near_duplicates,
)
from nemo.utils.errors import UsageError

WORDS = [f"word{i}" for i in range(1000)]


def hashes(*values):
    return np.array(values, dtype=np.uint64)


def documents(num, length, seed=0):
    rng = np.random.default_rng(seed)
    return [[" ".join(rng.choice(WORDS, length))] for _ in range(num)]


def with_changes(document, num):
    words = document[0].split()
    for i in range(num):
        words[(i + 1) * len(words) // (num + 1)] = "changed"
    return [" ".join(words)]


def are_alike(*some):
    keys = NearDuplicateKeys()(some)
    return near_duplicates(keys.T).tolist() == [False] + [True] * (len(some) - 1)


def test_a_hash_is_of_the_text_not_of_its_white_space():
    same = [["a b", "c"], ["a  b c"], ["a", "b\tc"], ["a\u3000b\u00a0c"], ["\u2028a b c "]]
    assert len({document_hash(document) for document in same}) == 1
    others = [["ab c"], ["a b"], ["A b c"], ["a b c."], ["a\u200bb c"]]
    assert len({document_hash(document) for document in [*same, *others]}) == 6


def test_of_equal_documents_the_first_stays():
    found = exact_duplicates(hashes(1, 2, 1, 3, 2, 1, 2**64 - 1))
    assert found.tolist() == [False, False, True, False, True, True, False]
    assert exact_duplicates(hashes()).tolist() == []


def test_many_hashes_are_sorted_part_by_part(monkeypatch):
    some = np.random.default_rng(0).integers(0, 300, 1000).astype(np.uint64)
    expected = np.ones(1000, dtype=bool)
    expected[np.unique(some, return_index=True)[1]] = False
    for at_once in (1 << 22, 1000, 999, 64):
        monkeypatch.setattr(duplicates, "SORTED_AT_ONCE", at_once)
        np.testing.assert_array_equal(exact_duplicates(some), expected)


def test_of_a_cluster_over_several_bands_the_first_document_stays():
    #   0 and 3 by the first band, 3 and 1 by the second, 2 and 4 by the third
    bands = [hashes(7, 1, 2, 7, 3), hashes(1, 5, 2, 5, 3), hashes(1, 2, 9, 3, 9)]
    assert near_duplicates(bands).tolist() == [False, True, False, True, True]


def test_clusters_are_those_of_a_search_from_document_to_document(monkeypatch):
    monkeypatch.setattr(duplicates, "SORTED_AT_ONCE", 50)
    bands = np.random.default_rng(1).integers(0, 400, (3, 200)).astype(np.uint64)
    expected = np.ones(200, dtype=bool)
    cluster = np.full(200, -1)
    for first in range(200):
        if cluster[first] < 0:
            expected[first] = False
            reached = [first]
            while reached:
                document = reached.pop()
                if cluster[document] < 0:
                    cluster[document] = first
                    reached += np.flatnonzero((bands == bands[:, [document]]).any(axis=0)).tolist()
    assert 20 < expected.sum() < 180
    np.testing.assert_array_equal(near_duplicates(bands), expected)


def test_documents_with_few_changes_are_near_duplicates():
    found = [are_alike(document, with_changes(document, 2)) for document in documents(50, 200)]
    assert sum(found) == 50  # they share 190 of 202 runs of five words


def test_documents_that_share_some_text_are_not():
    pairs = zip(documents(100, 150), documents(100, 150, seed=1), strict=True)
    found = [are_alike([*a, *common], [*b, *common]) for a, b in pairs for common in documents(1, 50, seed=2)]
    assert sum(found) == 0  # they share one run in seven


def test_case_and_punctuation_do_not_count():
    text = "The farmers of the north said on Monday that rain had come too late for this year's wheat."
    assert are_alike([text], [text.upper()], ["“" + text.replace(",", "") + "”"])


def test_chinese_is_compared_by_its_characters():
    text = "数学是研究数量、结构以及空间等概念及其变化的一门学科，" * 3 + "从某种角度看属于形式科学的一种。"
    assert are_alike([text], [text.replace("。", "！") + "数"])
    assert not are_alike([text], ["物理学是研究物质和能量的学科，它的研究对象大至宇宙，小至基本粒子。"])


def test_short_documents_are_duplicates_only_if_all_words_match():
    keys = NearDuplicateKeys()([["yes"], ["Yes!"], ["no"], ["yes", "no"], ["..."], ["!"], ["..."]])
    assert near_duplicates(keys.T).tolist() == [False, True, False, False, False, False, True]


def test_keys_of_a_document_do_not_depend_on_its_neighbors(monkeypatch):
    some = [*documents(5, 300), [""], ["one two"], *documents(3, 5)]
    together = NearDuplicateKeys()(some)
    assert together.shape == (len(some), BANDS)
    monkeypatch.setattr(duplicates, "RUNS_AT_ONCE", 7)
    monkeypatch.setattr(duplicates, "REMEMBERED_WORDS", 3)
    one_by_one = np.concatenate([NearDuplicateKeys()([document]) for document in some])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.slow
def test_keys_and_hashes_are_the_same_in_every_process():
    script = (
        "from nemo.collections.nlp.data.store.duplicates import *\n"
        "document = ['The cat sees the dog', 'behind the old bridge.', '数学']\n"
        "print(document_hash(document), NearDuplicateKeys()([document]).tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and outputs.pop()


def test_without_datasketch_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"pip install 'nemo-bert\[clean\]'"):
        NearDuplicateKeys()
