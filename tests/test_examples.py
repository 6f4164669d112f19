"""The example of a new task runs from the command line and learns."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from nemo.collections.nlp.data import NemoBertTokenizer
from nemo.collections.nlp.data.tokenizers.special_tokens import vocabulary_order
from nemo.collections.nlp.data.tokenizers.vocabulary import learn_wordpiece

EXAMPLE = Path(__file__).parents[1] / "examples" / "nlp" / "text_classification" / "text_classification.py"


def make_bert(folder, texts):
    """A Hugging Face folder with a new BERT, small and with a vocabulary of these texts."""
    folder.mkdir()
    tokens = learn_wordpiece(texts, vocabulary_order(), vocab_size=1000)
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    NemoBertTokenizer(vocab_file=folder / "vocab.txt").save(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


def classify(folder, train, test, **options):
    """The accuracy that the example prints."""
    for name, examples in (("train", train), ("test", test)):
        lines = [json.dumps(example) for example in examples]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    bert = make_bert(folder / "bert", [example["text"] for example in train])
    arguments = [folder / "train.jsonl", folder / "test.jsonl", bert]
    arguments += [f"--{name}={value}" for name, value in options.items()]
    result = subprocess.run([sys.executable, EXAMPLE, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (accuracy,) = re.findall(r"^accuracy on .*test\.jsonl: ([\d.]+)$", result.stdout, re.MULTILINE)
    return float(accuracy)


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
def test_texts_that_differ_by_a_word_are_distinguished(tmp_path):
    rng = random.Random(0)

    def example():
        label = rng.choice(["good", "bad"])
        words = rng.choices(["film", "actor", "story", "scene", "music"], k=rng.randint(3, 9))
        words.insert(rng.randrange(len(words)), {"good": "splendid", "bad": "dreadful"}[label])
        return {"text": " ".join(words), "label": label}

    examples = [example() for _ in range(250)]
    assert classify(tmp_path, examples[:200], examples[200:], lr=3e-3, epochs=4) > 0.95


@pytest.mark.slow
def test_citations_are_distinguished(tmp_path, shared_data):
    lines = (shared_data / "sci_cite" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    of_label = {label: [] for label in ("background", "method", "result")}
    for example in map(json.loads, lines):
        of_label[example["label"]].append(example)
    # As many of each, so that knowing how frequent they are is of no use.
    train, test = (
        [e for examples in of_label.values() for e in examples[part]]
        for part in (slice(200), slice(200, 250))
    )
    assert classify(tmp_path, train, test, lr=1e-3, epochs=3) > 0.45
