"""Modules by name, as NeMo 0.10's `get_module` finds them."""

import ast
import re
from pathlib import Path

import pytest

import nemo.collections.nlp as nemo_nlp
from nemo.backends.pytorch.tutorials import TaylorNet
from nemo.core import NeuralModuleFactory
from nemo.utils.collections import registered_collections
from nemo.utils.errors import UsageError

CORE = Path(__file__).parents[2] / "nemo" / "core"


@pytest.mark.parametrize("collection", ["toys", "tutorials"])
def test_a_module_of_the_tutorials_is_made_by_name(collection):
    net = NeuralModuleFactory().get_module("TaylorNet", collection, {"dim": 3})
    assert isinstance(net, TaylorNet)
    assert net.init_params == {"dim": 3}


def test_a_module_of_language_is_made_by_name():
    loss = NeuralModuleFactory().get_module("SmoothedCrossEntropyLoss", "nemo_nlp", {"label_smoothing": 0.1})
    assert type(loss) is nemo_nlp.nm.losses.SmoothedCrossEntropyLoss


@pytest.mark.parametrize(
    ("name", "collection", "message"),
    [
        ("TaylorNet", "toy", "unknown collection; found 'toy', expected one of .*did you mean 'toys'?"),
        (
            "TailorNet",
            "toys",
            "unknown module; found 'TailorNet', expected one of .*did you mean 'TaylorNet'?",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_closest(name, collection, message):
    with pytest.raises(UsageError, match=message):
        NeuralModuleFactory().get_module(name, collection, {})


def test_the_core_names_no_collection():
    """Layer 1 knows nothing above it, not even by name, in code or docstrings."""
    folders = {
        path.name for path in (CORE.parent / "collections").iterdir() if (path / "__init__.py").exists()
    }
    names = folders | registered_collections().keys() | {"nemo.collections", "BERT"}
    assert {"nlp", "nemo_nlp", "toys"} <= names
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
    named = [
        (path.name, node.value)
        for path in CORE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.search(node.value)
    ]
    assert named == []
