"""Sentences of paragraphs: the same as NLTK's."""

import pickle
import random
import subprocess
import sys

import pytest
from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

from nemo.collections.nlp.data.inputs import read_documents
from nemo.collections.nlp.data.text.punkt import train_punkt
from nemo.collections.nlp.data.text.sentences import load_splitter, make_splitter, save_splitter

EXCERPT = [
    "We met Dr. Smith and ca. ten men at 5 p.m. on the pier. It was late, e.g. for tea. He left.",
    "J. S. Bach was born in 1685. He died in 1750. Dr. Jones (the U.S. Army doctor) came ca. noon.",
    "The first was No. 5. The second was no. 6. It began at 7 p.m. and ended. It did! Did it? Yes.",
] * 30
WORDS = ["Dr", "ca", "e.g", "p.m", "No", "no", "U.S", "J", "S", "1", "23", "1750", "3.5", "a", "I", "_"]
WORDS += ["x_1", "the", "The", "It", "He", "foo-bar", "Σας", "ΟΔΟΣ", "中", "—", "…"]
MARKS = [". ", ".", "!", "?", "..", "...", ". . .", ".)", '."', ".” ", "’", ")", "(", '"', "'", ",", ";"]
MARKS += [
    "--",
    " ",
    "  ",
    "\n",
    "\t",
    "\u00a0",
    "\u3000",
    "\v",
    "\x1c",
    "»",
    "*",
    ":",
    "@",
    "-",
    "[",
    "]",
    "`",
]


def nltk_splitter(excerpt: list[str]):
    trainer = PunktTrainer()
    trainer.train("\n".join(excerpt), finalize=True)
    return PunktSentenceTokenizer(trainer.get_params()).tokenize


def odd_texts(number: int) -> list[str]:
    rng = random.Random(0)
    return [
        "".join(rng.choice(rng.choice([WORDS, MARKS, [" ", ". "]])) for _ in range(rng.randint(0, 14)))
        for _ in range(number)
    ]


def test_odd_text_has_the_sentences_that_nltk_finds():
    ours, theirs = train_punkt(EXCERPT), nltk_splitter(EXCERPT)
    texts = [*EXCERPT[:3], "It rained.\n\x1c I said. So.", *odd_texts(4000)]
    assert [ours(text) for text in texts] == [theirs(text) for text in texts]
    assert ours("He came at 5 p.m. with Dr. Jones. He left.") == [
        "He came at 5 p.m. with Dr. Jones.",
        "He left.",
    ]


@pytest.mark.parametrize("name", ["abc_news/rural.txt", "wikitext-2/valid.txt"])
def test_real_text_has_the_sentences_that_nltk_finds(shared_data, name):
    documents = list(read_documents(shared_data / name))
    paragraphs = [paragraph for document in documents for paragraph in document]
    ours, theirs = train_punkt(paragraphs[:500]), nltk_splitter(paragraphs[:500])
    paragraphs = paragraphs[:: len(paragraphs) // 700]
    assert [ours(paragraph) for paragraph in paragraphs] == [theirs(paragraph) for paragraph in paragraphs]


def test_verdicts_that_were_forgotten_are_found_again(monkeypatch):
    ours = train_punkt(EXCERPT)
    texts = [*EXCERPT[:3], *odd_texts(300)]
    expected = [ours(text) for text in texts]
    monkeypatch.setattr("nemo.collections.nlp.data.text.punkt._REMEMBERED", 1)
    assert [ours(text) for text in texts] == expected


@pytest.mark.parametrize(
    "excerpt",
    [
        EXCERPT,
        [*EXCERPT, "今天天气很好。我们去公园。"],
        ["今天天气很好。"],
        ["One sentence.", "Another one."],
    ],
    ids=["punkt", "both", "cjk", "line"],
)
def test_a_splitter_can_be_saved_and_sent(excerpt, tmp_path):
    split = make_splitter(excerpt)
    save_splitter(split, tmp_path / "splitter")
    texts = [*EXCERPT[:3], "明天呢？也好。", *odd_texts(300)]
    for again in (load_splitter(tmp_path / "splitter"), pickle.loads(pickle.dumps(split))):
        assert [again(text) for text in texts] == [split(text) for text in texts]
    save_splitter(load_splitter(tmp_path / "splitter"), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "splitter").read_bytes()


APART = """
import sys
from nemo.collections.nlp.data.text.punkt import train_punkt

text = "Dr. Who came at 5 p.m. on Monday. He left."
before = train_punkt([text] * 9)(text)
print({"nltk", "scipy", "sklearn"} & set(sys.modules))
import nltk
print(hasattr(nltk, "word_tokenize"), train_punkt([text] * 9)(text) == before)
"""


@pytest.mark.slow
def test_importing_punkt_does_not_import_the_rest_of_nltk():
    run = subprocess.run([sys.executable, "-c", APART], capture_output=True, text=True)
    assert run.stdout.splitlines() == ["set()", "True True"], run.stderr
