"""The way from options to the first batch stays short enough to read."""

import sys
from pathlib import Path
from types import FrameType

import nemo
from nemo.collections.nlp.data.inputs import TextOptions
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.data import open_data

LANGUAGE = Path(nemo.__file__).parent / "collections"
BEFORE = 3  # pretraining/run.py, setup.py and checkpoints/initial_checkpoint.py come before open_data


def test_options_pass_at_most_15_files_to_the_first_batch(english, tmp_path):
    passed: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        file, code = Path(frame.f_code.co_filename), frame.f_code
        if event == "call" and file.is_relative_to(LANGUAGE):
            given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            values = [frame.f_locals.get(name) for name in given]
            if any(isinstance(value, PretrainingOptions | TextOptions | Sampling) for value in values):
                passed[str(file.relative_to(LANGUAGE))] = None

    options = PretrainingOptions(
        mode="data_text", data_dir=str(english), vocab_size=80, max_seq_length=32, batch_size=8
    )
    sys.setprofile(note)
    try:
        next(open_data(options, tmp_path / "run").train.batches(0))
    finally:
        sys.setprofile(None)
    assert "nlp/data/datasets/lm_bert_dataset.py" in passed  # the last one
    assert len(passed) + BEFORE <= 15, list(passed)
