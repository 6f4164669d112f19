"""Several processes that end on time: the first one plans, and all of them stop at the same step."""

import json

import pytest

from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import read_options
from tests.distributed.conftest import LAUNCH
from tests.distributed.launching import Job, free_port, pretraining, rows


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--shard",)])
def test_all_stop_at_the_step_that_the_first_one_has_planned(text, tmp_path, more):
    words = pretraining(
        text, tmp_path / "run", "--minutes", "0.05", "--batch_size", "4", "--num_gpus=2", *more
    )
    with Job(tmp_path, *LAUNCH, f"--master_port={free_port()}", *words) as job:
        job.succeed()
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    planned = read_options(PretrainingOptions, tmp_path / "run" / "config.yaml")
    assert status["state"] == "finished"
    assert (
        status["step"] == status["total_steps"] == planned["num_iters"] == rows(tmp_path / "run")[-1]["step"]
    )
    assert planned["step_plan"].count(",") >= 1 and planned["minutes"] == 0.05
