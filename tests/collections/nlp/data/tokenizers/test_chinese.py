"""Chinese through the whole pipeline: from JSON lines to batches in which whole words are hidden."""

import json
from pathlib import Path

import numpy as np
import pytest
import rjieba

from nemo.collections.nlp.data.datasets import BertPretrainingDataset
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.text.sentences import CJK
from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.preparation.wiki_zh import process_wiki_zh

# Sentences with their words parted. The same ones make every document, turned round.
WORDS = [
    "我 爱 北京 天安门 。",
    "“ 明天 会 下雨 吗 ？ ”",
    "GDP 增长 14 ％ ， 形势 很 好 ！",
    "他们 学习 人工智能 ； 我们 学习 数学 。",
    "上海 的 天气 怎么样 ？",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """What process_wiki_zh makes of documents that are rotations of the same sentences."""
    folder = tmp_path_factory.mktemp("chinese")
    sentences = [line.replace(" ", "") for line in WORDS]
    with open(folder / "wiki_00", "w", encoding="utf-8") as file:
        for number in range(40):
            turn = number % len(sentences)
            text = "".join(sentences[turn:]) + "\n\n" + "".join(sentences[:turn]) + f"{number}。"
            file.write(json.dumps({"title": f"{number}", "text": f"{number}\n\n{text}"}) + "\n")
    process_wiki_zh(folder, folder)
    return folder


def test_the_words_of_the_example_are_those_of_the_segmentation():
    for line in WORDS:
        if line.startswith("GDP"):
            continue  # words in Latin script are the tokenizer's
        words = line.split(" ")
        assert rjieba.cut("".join(words)) == words


def test_whole_words_are_masked(corpus):
    tokenizer = NemoBertTokenizer(vocab_file=corpus / "vocab.txt")
    dataset = BertPretrainingDataset(
        tokenizer, open_or_build(corpus / "train.txt", tokenizer), Sampling(128, short_seq_prob=0.0)
    )
    words = {word for line in WORDS for word in line.split(" ")} | {str(number) for number in range(40)}
    hidden = set()
    for epoch in range(3):
        batch = dataset.batch(epoch, np.arange(len(dataset)))
        for ids, chosen in zip(batch["output_ids"], batch["output_mask"], strict=True):
            tokens = [tokenizer.ids_to_tokens([i])[0].removeprefix("##") for i in ids]
            place = 0
            while place < len(tokens):
                # The words of the example, and no others, make up the text.
                length = _length_of_word(tokens[place:], words)
                flags = chosen[place : place + length]
                assert flags.all() or not flags.any(), tokens[place : place + length]
                if flags.all():
                    hidden.add("".join(tokens[place : place + length]))
                place += length
    assert {"北京", "天安门", "人工智能", "下雨", "增长", "GDP", "怎么样", "我"} <= hidden


def _length_of_word(tokens: list[str], words: set[str]) -> int:
    """Tokens in the longest word that begins here; a special token is one."""
    if tokens[0].startswith("["):
        return 1
    return max(n for n in range(1, 5) if "".join(tokens[:n]) in words)


def test_nothing_is_unknown_and_documents_and_sentences_are_kept(corpus):
    tokenizer = NemoBertTokenizer(vocab_file=corpus / "vocab.txt")
    store = open_or_build(corpus / "train.txt", tokenizer)
    counts = store.manifest["counts"]
    assert counts["sentences"] == counts["documents"] * (len(WORDS) + 1)
    assert counts["unknown_tokens"] == 0


@pytest.mark.parametrize("kind", ["vocab.txt", "word-piece"])
def test_words_of_real_text_are_those_of_the_segmentation(kind, shared_data, tmp_path):
    process_wiki_zh(shared_data / "wiki_zh", tmp_path)
    if kind == "vocab.txt":
        tokenizer = NemoBertTokenizer(vocab_file=tmp_path / "vocab.txt")
    else:
        files = [tmp_path / "train.txt"]
        tokenizer = train_tokenizer(kind, files, tmp_path / "trained", vocab_size=4000)
    store = open_or_build(tmp_path / "train.txt", tokenizer)
    lines = [line for line in (tmp_path / "train.txt").read_text(encoding="utf-8").split("\n") if line]
    assert len(lines) == len(store.sentence_offsets) - 1
    checked = 0
    for number in range(0, len(lines), 20):
        start, end = store.sentence_offsets[number : number + 2]
        tokens = [tokenizer.vocabulary()[i].removeprefix("##") for i in store.tokens[start:end]]
        # What the tokens spell: normalization may have changed the text.
        text = "".join(tokens)
        if tokenizer.unk_token in tokens or not all(
            CJK.match(token[0]) or len(token) == 1 for token in tokens
        ):
            continue
        begins = np.cumsum([0] + [len(word) for word in rjieba.cut(text)])
        places = np.cumsum([0] + [len(token) for token in tokens[:-1]])
        for token, place, starts in zip(tokens, places, store.starts_word[start:end], strict=True):
            if CJK.match(token):
                assert starts == (place in begins), (text, token)
                checked += 1
    assert checked > 1000
