"""What the machine is doing."""

import os
import subprocess
import sys
import time

import pytest
import torch

from nemo.backends.pytorch.machine import other_work


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) != os.cpu_count(), reason="of some cores alone nothing can be said"
)
def test_other_work_on_the_cores_is_detected(monkeypatch):
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        deadline = time.monotonic() + 60
        while other_work() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (other_work() or 0) > 0.5 * (os.cpu_count() or 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        assert other_work() is None
    finally:
        for process in busy:
            process.kill()
            process.wait()
