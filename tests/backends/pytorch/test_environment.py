"""What a run needs from the machine."""

import os
import resource

import pytest
import torch

from nemo.backends.pytorch import environment, make_tb_writer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's thread
def test_a_full_disk_stops_tensorboard_but_not_training(tmp_path, capsys):
    writer = make_tb_writer(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        for step in range(1000):
            writer.add_scalar("loss", 1.0, step)
        writer.flush()
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err.count("training continues without further events here") == 1


@pytest.mark.parametrize(
    ("has_amx", "before", "after"), [(True, None, "1"), (True, "0", "0"), (False, None, None)]
)
def test_huge_pages_are_asked_for_where_they_pay(has_amx, before, after, monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if before is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", before)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    environment.ask_for_huge_pages()
    assert os.environ.get("THP_MEM_ALLOC_ENABLE") == after
