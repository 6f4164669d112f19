"""Signals outside and inside of training, as the process itself sees them."""

import signal
import subprocess
import sys

import pytest

from nemo.utils.errors import Preempted
from nemo.utils.stopping import StopSignals, stops_are_errors


@pytest.fixture
def undisturbed():
    """Signals as in the foreground: a shell has SIGINT ignored by what it starts with `&`, nohup SIGHUP."""
    as_usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in as_usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_a_block_that_swallows_errors(undisturbed, number):
    before = signal.getsignal(number)
    with (
        pytest.raises(Preempted, match=f"stopped by {number.name}; fix: run the same command"),
        stops_are_errors(),
    ):
        try:
            signal.raise_signal(number)
        except Exception:
            pytest.fail("taken for an error of somebody else's")
    assert signal.getsignal(number) == before


def test_a_signal_only_sets_a_flag_during_training(undisturbed):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert stop.received is None
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # a launcher's copy of the same request
        assert stop.received == "SIGINT"
    assert signal.getsignal(signal.SIGINT) == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop, stops_are_errors():
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_ends_child_processes():
    program = """
import os, signal
from nemo.utils.stopping import StopSignals
with StopSignals():
    pid = os.fork()
    if pid == 0:
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) == -signal.SIGTERM
