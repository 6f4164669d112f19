"""Nobody is called, and nobody outside this machine can call: seen in the system's own tables."""

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

from tests.distributed.launching import Job, by_hand, pretraining
from tests.faults.runs import words

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def addresses(pids):
    """(local address, remote address) of the TCP and UDP sockets that processes have, as /proc tells them."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(link))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/self/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            address, port = fields[2].split(":")
            if table.startswith("udp") and port == "0000" and address.strip("0"):
                continue  # the resolver asks the kernel for its own address, and sends nothing
            if f"socket:[{fields[9]}]" in inodes:
                found.add((fields[1].split(":")[0], fields[2].split(":")[0]))
    return found


def watch(jobs):
    """All addresses that jobs have until they end."""
    seen = set()
    while any(job.is_running() for job in jobs):
        seen |= addresses([pid for job in jobs for pid in job.pids()])
        time.sleep(0.05)
    return seen


def test_the_tables_show_a_socket():
    with socket.create_server(("127.0.0.1", 0)):
        assert ("0100007F", "00000000") in addresses([os.getpid()])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "export"])
def test_one_process_has_no_socket_at_all(undisturbed, tmp_path, command):
    data, _ = undisturbed
    run = data.parent / "run"
    program = {
        "train": words(data, tmp_path / "run"),
        "evaluate": ["evaluate", run, "--eval_data", data / "valid.txt"],
        "export": ["export", run, tmp_path / "model"],
    }[command]
    with Job(tmp_path, "-m", "nemo.cli.main", *program) as job:
        assert watch([job]) == set()
        job.succeed()


@pytest.mark.slow
def test_several_processes_on_one_machine_stay_on_it(undisturbed, tmp_path):
    data, _ = undisturbed
    command = pretraining(data, tmp_path / "run", "--num_iters", 20, "--batch_size", 16, "--vocab_size", 80)
    with by_hand(tmp_path, [command] * 2) as jobs:
        seen = watch(jobs)
        for job in jobs:
            job.succeed()
    assert seen, "they have not met"
    unspecified = {"0" * 8, "0" * 32}  # as the remote address of who listens
    assert {local for local, _ in seen} <= set(LOOPBACK)
    assert {remote for _, remote in seen} <= {*LOOPBACK, *unspecified}
