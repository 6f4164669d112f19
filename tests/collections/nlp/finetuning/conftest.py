"""A tiny BERT, and tasks that it learns in seconds: which words are animals, and what that says of a text."""

import json
import random
from pathlib import Path

import pytest

from tests.huggingface_folders import write_huggingface

ANIMALS = ("cat", "dog")


def sentences(number: int, seed: int) -> list[list[str]]:
    """Words of the tiny vocabulary, and some of several pieces."""
    rng = random.Random(seed)
    words = ["the", "sees", "likes", ".", "xyz", "owl", *ANIMALS, *ANIMALS]
    return [rng.choices(words, k=rng.randint(2, 9)) for _ in range(number)]


def write_columns(path: Path, number: int, seed: int) -> Path:
    """Animals are entities."""
    lines = [
        "".join(f"{word}\t{'B-Animal' if word in ANIMALS else 'O'}\n" for word in words)
        for words in sentences(number, seed)
    ]
    path.write_text("\n".join(lines))
    return path


def write_texts(path: Path, number: int, seed: int) -> Path:
    """`cats`: there are more cats than dogs; in a pair of texts, in both of them."""
    records = []
    for words in sentences(number, seed):
        label = "cats" if words.count("cat") > words.count("dog") else "other"
        half = len(words) // 2
        records.append(
            {
                "text": " ".join(words),
                "text_a": " ".join(words[:half]),
                "text_b": " ".join(words[half:]),
                "label": label,
            }
        )
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


@pytest.fixture
def bert(tmp_path: Path) -> str:
    """A Hugging Face folder."""
    write_huggingface(tmp_path / "bert", "BertModel")
    return str(tmp_path / "bert")
