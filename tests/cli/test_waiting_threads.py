"""Threads of torch that wait for each other give the cores back soon, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

CODE = (
    "import os; from nemo.cli.main import program; "
    "program([], command=lambda words: print(os.environ.get('GOMP_SPINCOUNT')))"
)


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_waiting_threads_sleep_soon_by_default(given, found):
    unset = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | given
    ran = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == found
