"""wiki2019zh -> train.txt, valid.txt, vocab.txt, and back through the corpus reader."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nemo.collections.nlp.data.inputs import lines, read_documents, sources
from nemo.collections.nlp.data.text.sentences import make_splitter, split_cjk
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.collections.nlp.preparation.wiki_zh import (
    SPECIAL_TOKENS,
    character_vocabulary,
    corpus_files,
    process_wiki_zh,
    sentences_of,
)
from nemo.utils.errors import DataError, MissingFileError, StorageError, UsageError


def document(number: int) -> dict[str, str]:
    """A document of six sentences in two paragraphs that has its number in each of them."""
    text = f"第{number}篇\n\n第{number}句一，GDP增长。“好！”他说：走？\n\n数{number}𠮷完。没有句号{number}\n"
    return {"title": f"第{number}篇", "text": text}


def write(path: Path, documents: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path):
    """100 documents in two files."""
    write(tmp_path / "wiki_zh/AA/wiki_00", [document(i) for i in range(50)])
    write(tmp_path / "wiki_zh/AB/wiki_00", [document(i) for i in range(50, 100)])
    return tmp_path / "wiki_zh"


def documents_in(file: Path) -> list[list[str]]:
    """Documents as lists of sentences, as a training run reads them."""
    documents = list(read_documents(file))
    split = make_splitter([paragraph for document in documents for paragraph in document])
    return [[s for paragraph in document for s in split(paragraph)] for document in documents]


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("train.txt", "valid.txt", "vocab.txt")}


def test_a_worked_example(tmp_path):
    same = {"title": "甲", "text": "甲\n\n甲乙。丙！\n丁 a。"}
    write(tmp_path / "in/AA/wiki_00", [same, {"title": "子", "text": "子丑。寅？"}])
    process_wiki_zh(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/valid.txt").read_text(encoding="utf-8") == "甲乙。\n丙！\n丁 a。\n"
    assert (tmp_path / "out/train.txt").read_text(encoding="utf-8") == "子丑。\n寅？\n"
    tokens = (tmp_path / "out/vocab.txt").read_text(encoding="utf-8").splitlines()
    assert tokens[:5] == ["[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]"]
    assert [token for token in tokens[5:] if not token.isascii()] == ["。", "丑", "子", "寅", "？"]


def test_documents_and_sentences_are_read_back_unchanged(corpus, tmp_path):
    process_wiki_zh(corpus, tmp_path / "out")
    read = documents_in(tmp_path / "out/train.txt") + documents_in(tmp_path / "out/valid.txt")
    expected = [
        [f"第{i}句一，GDP增长。", "“好！”", "他说：走？", f"数{i}𠮷完。", f"没有句号{i}"] for i in range(100)
    ]
    assert sorted(read) == sorted(expected)


def test_a_document_that_comes_twice_is_not_on_both_sides(tmp_path):
    write(tmp_path / "in/AA/wiki_00", [document(i % 60) for i in range(240)])
    counts = process_wiki_zh(tmp_path / "in", tmp_path / "out")
    train, valid = ({tuple(d) for d in documents_in(tmp_path / f"out/{n}.txt")} for n in ("train", "valid"))
    assert len(train) + len(valid) == 60 and not train & valid
    assert counts.train.documents + counts.valid.documents == 240


def test_about_one_document_of_twenty_is_held_out(tmp_path):
    write(tmp_path / "in/AA/wiki_00", [document(i) for i in range(2000)])
    counts = process_wiki_zh(tmp_path / "in", tmp_path / "out")
    assert 70 < counts.valid.documents < 130


def test_more_files_only_extend_the_output(corpus, tmp_path):
    process_wiki_zh(corpus, tmp_path / "one", max_files=1)
    process_wiki_zh(corpus, tmp_path / "all")
    for name in ("train.txt", "valid.txt"):
        one, both = ((tmp_path / which / name).read_bytes() for which in ("one", "all"))
        assert one and len(both) > len(one) and both.startswith(one)


def test_files_are_read_in_the_order_of_their_names(tmp_path, corpus):
    write(tmp_path / "other/AB/wiki_00", [document(i) for i in range(50, 100)])
    write(tmp_path / "other/AA/wiki_00", [document(i) for i in range(50)])
    process_wiki_zh(corpus, tmp_path / "a")
    process_wiki_zh(tmp_path / "other", tmp_path / "b")
    assert bytes_in(tmp_path / "a") == bytes_in(tmp_path / "b")


def test_output_may_go_where_the_corpus_is_and_is_made_again_alike(corpus):
    process_wiki_zh(corpus, corpus)
    first = bytes_in(corpus)
    process_wiki_zh(corpus, corpus)
    assert bytes_in(corpus) == first
    assert (corpus / "bert/vocab.txt").read_bytes() == first["vocab.txt"]
    assert sorted(p.name for p in corpus.iterdir()) == [
        "AA",
        "AB",
        "bert",
        "train.txt",
        "valid.txt",
        "vocab.txt",
    ]


def test_the_same_bytes_in_every_process_and_locale(corpus, tmp_path):
    program = (
        "import sys; from pathlib import Path;"
        "from nemo.collections.nlp.preparation.wiki_zh import process_wiki_zh;"
        "process_wiki_zh(*map(Path, sys.argv[1:]))"
    )
    for name, environment in {
        "a": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "1"},
        "b": {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
    }.items():
        words = [sys.executable, "-c", program, str(corpus), str(tmp_path / name)]
        subprocess.run(words, env=os.environ | environment, check=True)
    assert bytes_in(tmp_path / "a") == bytes_in(tmp_path / "b")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "READ_BYTES", 1 << 14)  # so that a small corpus is large
    monkeypatch.setattr(sources, "HEAD_BYTES", 1 << 14)
    peaks = []
    character_vocabulary(Counter())  # imports what is imported once
    for name, repeats in (("small", 1), ("large", 12)):
        write(tmp_path / name / "AA/wiki_00", [document(i % 500) for i in range(500 * repeats)])
        tracemalloc.start()
        process_wiki_zh(tmp_path / name, tmp_path / f"{name}-out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "large-out/train.txt").stat().st_size > 400_000
    assert peaks[1] < peaks[0] + 40_000


@pytest.mark.parametrize(
    ("paragraphs", "sentences"),
    [
        (["一。二？", "三"], ["一。", "二？", "三"]),
        (["It is 5! So. Yes?"], ["It is 5! So. Yes?"]),  # for Punkt
    ],
)
def test_paragraphs_are_split_into_sentences(paragraphs, sentences):
    assert sentences_of(paragraphs) == sentences


def test_characters_that_are_too_rare_have_no_entry():
    counts = Counter({"多": 3, "少": 2, "𠮷": 4, "é": 3})
    tokens = character_vocabulary(counts, min_frequency=3)
    assert [t for t in tokens if not t.isascii()] == ["é", "多", "𠮷", "##é"]
    assert "少" in character_vocabulary(counts)


def test_spaces_and_control_characters_are_no_tokens():
    counts = Counter(
        {"\u3000": 9, " ": 9, "\u200b": 9, "\0": 9, "\ufeff": 9, "\ufffd": 9, "\ue000": 9, "好": 9}
    )
    assert [t for t in character_vocabulary(counts) if not t.isascii()] == ["好"]


def test_the_order_of_the_vocabulary_does_not_depend_on_that_of_the_text():
    text = "中文，BERT１９é𠮷한글"
    tokens = character_vocabulary(Counter(text))
    assert tokens == character_vocabulary(Counter(text[::-1]))
    assert tuple(tokens[:5]) == SPECIAL_TOKENS and len(tokens) == len(set(tokens))
    continued = [token.startswith("##") for token in tokens[5:]]
    assert continued == sorted(continued)


def test_every_word_of_known_characters_is_spelled(corpus, tmp_path):
    process_wiki_zh(corpus, tmp_path)
    tokenizer = NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt")
    assert tokenizer.text_to_tokens("GDP增长12，Quiz好！") == [
        *("G", "##D", "##P", "增", "长", "1", "##2", "，", "Q", "##u", "##i", "##z", "好", "！")
    ]


def test_few_tokens_of_real_text_are_unknown(shared_data, tmp_path):
    counts = process_wiki_zh(shared_data / "wiki_zh", tmp_path, min_frequency=3)
    tokenizer = NemoBertTokenizer(vocab_file=tmp_path / "bert/vocab.txt")
    assert tokenizer.vocab_size == counts.vocabulary
    for name, most in (("train.txt", 0.005), ("valid.txt", 0.01)):
        lines = [line for line in (tmp_path / name).read_text(encoding="utf-8").split("\n") if line]
        ids = np.concatenate(tokenizer.encode_batch(lines))
        assert np.mean(ids == tokenizer.unk_id) < most


def test_real_text_comes_back_from_the_reader(shared_data, tmp_path):
    process_wiki_zh(shared_data / "wiki_zh", tmp_path)
    source = []
    for file in sorted((shared_data / "wiki_zh/AA").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines():
            paragraphs = json.loads(line)["text"].split("\n\n")[1:]
            source.append([s for paragraph in paragraphs for s in split_cjk(paragraph)])
    assert len(source) == 870
    train, valid = (documents_in(tmp_path / name) for name in ("train.txt", "valid.txt"))
    assert [d for d in source if d in train] == train
    assert [d for d in source if d in valid] == valid
    assert len(train) + len(valid) == len(source)


def test_files_of_a_sister_corpus_lie_in_the_folder_itself(tmp_path):
    for name in (
        "news2016zh_train.json",
        "b.jsonl",
        "wiki_00",
        "train.txt",
        "readme.md",
        "AA/wiki_01",
        "AA/x",
    ):
        write(tmp_path / name, [document(0)])
    names = [path.relative_to(tmp_path).as_posix() for path in corpus_files(tmp_path)]
    assert names == ["AA/wiki_01", "b.jsonl", "news2016zh_train.json", "wiki_00"]


def test_the_number_of_files_can_be_limited(corpus):
    assert [len(corpus_files(corpus, number)) for number in (-1, 1, 2, 9)] == [2, 1, 2, 2]


def test_a_folder_without_a_corpus(corpus, tmp_path):
    with pytest.raises(MissingFileError, match=f"did you mean {corpus}"):
        corpus_files(tmp_path)  # wiki_zh is in it
    with pytest.raises(MissingFileError, match="no corpus in this folder"):
        corpus_files(Path(__file__).parent)
    with pytest.raises(MissingFileError, match="no such folder"):
        corpus_files(tmp_path / "gone")


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "wiki_00")
    with pytest.raises(DataError, match="wiki_00: not a regular file"):
        corpus_files(tmp_path)


def test_a_failure_keeps_the_earlier_files(corpus, tmp_path):
    process_wiki_zh(corpus, tmp_path / "out")
    before = bytes_in(tmp_path / "out")
    with open(corpus / "AB/wiki_00", "a") as file:
        file.write("{\n")
    with pytest.raises(DataError, match="AB/wiki_00:51: not JSON"):
        process_wiki_zh(corpus, tmp_path / "out")
    assert bytes_in(tmp_path / "out") == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "bert",
        "train.txt",
        "valid.txt",
        "vocab.txt",
    ]


@pytest.mark.parametrize("documents", [[], [document(1)], [document(1), document(1)], [{"text": " \n"}] * 3])
def test_a_corpus_that_cannot_be_split_is_refused(documents, tmp_path):
    write(tmp_path / "in/AA/wiki_00", documents)
    with pytest.raises(DataError, match=r"too few documents.*expected two different ones"):
        process_wiki_zh(tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_two_documents_are_enough(tmp_path):
    write(tmp_path / "in/AA/wiki_00", [{"text": ""}, document(1), document(2)])
    counts = process_wiki_zh(tmp_path / "in", tmp_path / "out")
    assert (counts.train.documents, counts.valid.documents) == (1, 1)


def test_the_vocabulary_of_a_sentencepiece_model_is_not_replaced(corpus, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/tokenizer.model").touch()
    with pytest.raises(UsageError, match="already exists, with a different vocabulary"):
        process_wiki_zh(corpus, tmp_path)


def test_a_file_in_place_of_the_output_folder_is_an_error(corpus, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        process_wiki_zh(corpus, tmp_path / "file")
