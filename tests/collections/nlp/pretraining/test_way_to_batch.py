"""The way from options to the first batch stays short enough to read."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import nemo
from nemo.collections.nlp.data.inputs import TextOptions
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining.run import pretrain

LANGUAGE = Path(nemo.__file__).parent / "collections"


class DataIsOpenError(Exception):
    """Ends `pretrain` once `open_data` has returned: steps, model and training are not on the way."""


def test_options_pass_at_most_15_files_to_the_first_batch(english, tmp_path):
    """Counted: files of nemo/collections with a function that gets the options, or a part made from them.

    A file counts once, however often the options come back to it.
    """
    passed: dict[str, None] = {}

    def note(frame: FrameType, event: str, value: Any) -> None:
        file, code = Path(frame.f_code.co_filename), frame.f_code
        if event == "call" and file.is_relative_to(LANGUAGE):
            given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            values = [frame.f_locals.get(name) for name in given]
            if any(isinstance(each, PretrainingOptions | TextOptions | Sampling) for each in values):
                passed[str(file.relative_to(LANGUAGE))] = None
        elif event == "return" and code.co_name == "open_data" and value is not None:
            raise DataIsOpenError(value)

    options = PretrainingOptions(
        mode="data_text",
        data_dir=str(english),
        vocab_size=80,
        max_seq_length=32,
        batch_size=8,
        work_dir=str(tmp_path / "run"),
    )
    try:
        sys.setprofile(note)
        with pytest.raises(DataIsOpenError) as opened:
            pretrain(options)
        sys.setprofile(note)
        next(opened.value.args[0].train.batches(0))
    finally:
        sys.setprofile(None)
    assert next(iter(passed)) == "nlp/pretraining/run.py"
    assert "nlp/data/datasets/lm_bert_dataset.py" in passed  # the last one
    assert len(passed) <= 15, list(passed)
