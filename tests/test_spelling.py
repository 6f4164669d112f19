"""The project is spelled in American English, as the field's terms are: tokenize, behavior, color."""

import re
from pathlib import Path

import pytest

from tests.documents import ROOT

BRITISH = re.compile(
    r"(?:token|normal|initial|optim|recogn|minim|vector|serial|memor|organ|summar|general|special|regular"
    r"|standard|synchron|random|quant|visual)is(?:e|ing|able|ation)"
    r"|(?:behavi|col|fav|neighb|hon)our|(?:label|model|cancel|travel|signal)l(?:ed|ing|er\b)"
    r"|centred|licence|grey|misspelt|learnt|per cent\b|whilst|artefact|catalogue|judgement|analyse",
    re.IGNORECASE,
)
SUFFIXES = {".py", ".md", ".jinja", ".ipynb", ".cpp", ".h", ".sh"}
FILES = sorted(
    path
    for folder in (".", "nemo", "tests", "docs", "examples", "benchmarks")
    for path in (ROOT / folder).glob("*" if folder == "." else "**/*")
    if path.suffix in SUFFIXES and "records" not in path.parts and path != Path(__file__)
)
EXCEPTIONS = {("nemo/collections/nlp/data/inputs/folders.py", "licence")}  # as other people's files are named


def found_in(path: Path) -> set[tuple[str, str]]:
    """The British words of a file, each with the file's name."""
    words = BRITISH.findall(path.read_text(encoding="utf-8"))
    return {(path.relative_to(ROOT).as_posix(), word.lower()) for word in words}


@pytest.mark.slow
def test_every_word_is_spelled_the_american_way():
    assert len(FILES) > 500
    assert {found for path in FILES for found in found_in(path)} == EXCEPTIONS


@pytest.mark.parametrize("word", ["Tokenised", "NEIGHBOURS", "labelled", "initialisation", "five per cent."])
def test_british_words_are_found(word):
    assert BRITISH.search(word)
