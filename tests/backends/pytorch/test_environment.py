"""What a run needs from the machine."""

import resource

import pytest

from nemo.backends.pytorch import make_tb_writer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's thread
def test_a_full_disk_silences_tensorboard_and_ends_nothing(tmp_path, capsys):
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
    assert capsys.readouterr().err.count("training goes on without further events here") == 1
