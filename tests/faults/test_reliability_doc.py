"""The page on reliability: its loop goes on after a signal, until the end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.documents import ROOT, blocks
from tests.faults.runs import final_hash

ENGLISH, CHINESE = "docs/reliability.md", "docs/reliability_zh.md"


def test_both_languages_have_the_same_code():
    assert [b.code for b in blocks(ENGLISH, "bash")] == [b.code for b in blocks(CHINESE, "bash")]


@pytest.mark.slow
def test_the_shell_loop_resumes_after_a_signal(undisturbed, tmp_path):
    data, expected = undisturbed
    (loop,) = blocks(ENGLISH, "bash")
    shutil.copy(data.parent / "run/config.yaml", tmp_path / "bert.yaml")
    run = subprocess.Popen(
        ["bash", "-c", loop.code],
        cwd=tmp_path,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not list(tmp_path.glob("outputs/run/checkpoints/STEP-*")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    child = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0]
    os.kill(int(child), signal.SIGTERM)
    told, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, told
    assert told.count("error[PREEMPTED]") == 1
    assert final_hash(tmp_path / "outputs/run") == expected
