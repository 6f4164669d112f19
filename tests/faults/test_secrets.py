"""What is in the environment stays there: nothing that a run writes tells of it."""

import pytest

from tests.distributed.launching import Job
from tests.faults.runs import words

pytestmark = pytest.mark.slow

SECRET = "a-token-that-nobody-may-see-4711"


def test_a_secret_of_the_environment_is_written_nowhere(undisturbed, tmp_path):
    data, _ = undisturbed
    command = words(data, tmp_path / "run", "--num_iters", "5")
    with Job(
        tmp_path / "told", "-m", "nemo.cli.main", *command, HF_TOKEN=SECRET, WANDB_API_KEY=SECRET
    ) as job:
        job.succeed()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
