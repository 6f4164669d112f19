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


@pytest.mark.slow
def test_options_pass_few_files_to_the_first_batch(english, tmp_path):
    """Counted: files of nemo/collections with a function that gets the options, or a part made from them.

    Such a file counts once among the files. Among the handovers counts every call that brings them from
    another file, so coming back to a file counts each time; calls within a file do not.
    """
    handovers: list[str] = []

    def note(frame: FrameType, event: str, value: Any) -> None:
        file, code = Path(frame.f_code.co_filename), frame.f_code
        if event == "call" and file.is_relative_to(LANGUAGE):
            given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            values = [frame.f_locals.get(name) for name in given]
            is_within = frame.f_back is not None and frame.f_back.f_code.co_filename == str(file)
            has_options = any(isinstance(v, PretrainingOptions | TextOptions | Sampling) for v in values)
            if has_options and not is_within:
                handovers.append(str(file.relative_to(LANGUAGE)))
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
    files = list(dict.fromkeys(handovers))
    assert files[0] == "nlp/pretraining/run.py"
    assert files[-1] == "nlp/data/datasets/lm_bert_dataset.py"
    assert len(files) <= 15, files
    assert len(handovers) <= 45, handovers
