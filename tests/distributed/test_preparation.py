"""What is made once before training is made by one process, and the others use it."""

import json

import pytest


@pytest.mark.slow
def test_four_processes_make_one_tokenizer_and_one_store(undisturbed):
    run = undisturbed("four")
    made = json.loads((run / "made.json").read_text())
    names = [name.rpartition("/")[2] for name in made]
    assert names.count("tokenizer.model") == 1
    assert names.count("manifest.json") == 2  # of the training text and the held-out text
    assert {name: number for name, number in made.items() if number > 1} == {}
    assert (run / "log").read_text().count("learning a sentence-piece vocabulary") == 1
