"""The processes that train together: ranks and collectives.

Based on torch.distributed: its launcher sets the ranks in the environment; CPU tensors go through gloo, GPU
tensors through NCCL. All other messages are JSON, so that no process unpickles data from another.
"""

import atexit
import ipaddress
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from nemo.backends.pytorch.distributed.watchdog import Watchdog
from nemo.utils.children import die_with_parent
from nemo.utils.errors import DistributedError, UsageError, reason
from nemo.utils.logging import logging

T = TypeVar("T")
Tensors = dict[str, dict[str, Tensor]]  # group, such as a module -> name -> tensor

SECONDS_UNTIL_HUNG = 600.0
SECONDS_TO_LEAVE = 10.0
_SECONDS_BETWEEN_LOOKS = 0.05
_LONGER_THAN_ANY_WAIT = timedelta(days=7)  # the watchdog limits waiting


class World:
    """The processes that train together; this class is a single one.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine, from 0.
    """

    rank, size, local_rank = 0, 1, 0

    def all_reduce(self, tensor: Tensor, what: str = "a sum") -> Tensor:
        """Replace `tensor` by its sum over all processes, in place."""
        return tensor

    def broadcast_object(self, tell: Callable[[], T]) -> T:
        """The result of `tell`, called in rank 0 only; must be valid JSON."""
        return tell()

    def broadcast_tensors(self, read: Callable[[], tuple[Tensors, dict[str, Any]]]) -> tuple[Tensors, Any]:
        """The result of `read`, called in rank 0 only: tensors by group and name, and JSON."""
        return read()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of `tensors` from rank 0, in place."""

    def check_same(self, **fields: Any) -> None:
        """Check that values, which must be valid JSON, are the same in all processes.

        Raises:
            DistributedError: names the process and the field.
        """

    def in_turn(self, work: Callable[[], T]) -> T:
        """Run `work` first in rank 0, then in the first process of each other machine, then in the others.

        So files that are created once, per machine or for all, exist when the others look for them.
        """
        return work()

    def barrier(self, what: str) -> None:
        """Wait until all processes get here."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """A context manager for calls of torch.distributed, which may wait for the other processes.

        Raises:
            DistributedError: the others cannot be reached.
        """
        return nullcontext()

    def now(self, phase: str, limited: bool = True) -> None:
        """Record what this process does from now on; if `limited`, it counts as hung if it takes too long."""

    def __enter__(self) -> "World":
        """Work together: a process that fails notifies the others, and all leave together."""
        return self

    def __exit__(self, kind: Any, problem: BaseException | None, traceback: Any) -> None:
        pass


class Processes(World):
    """Several processes; see `World`.

    Args:
        store: the store for the watchdog's notes.
        seconds_until_hung: maximum time that a process may spend on one thing.
    """

    def __init__(self, store: dist.Store, local_rank: int, seconds_until_hung: float):
        self.rank, self.size, self.local_rank = dist.get_rank(), dist.get_world_size(), local_rank
        is_host = self.rank == 0 and not _is_store_of_launcher()
        self._watchdog = Watchdog(store, self.rank, self.size, seconds_until_hung, is_host)

    def all_reduce(self, tensor: Tensor, what: str = "a sum") -> Tensor:
        with self.waiting(what):
            dist.all_reduce(tensor)
        return tensor

    def broadcast_object(self, tell: Callable[[], T]) -> T:
        text = json.dumps(tell()).encode() if self.rank == 0 else b""
        return json.loads(self._bytes_of_first(text))

    def broadcast_tensors(self, read: Callable[[], tuple[Tensors, dict[str, Any]]]) -> tuple[Tensors, Any]:
        tensors, more = read() if self.rank == 0 else ({}, None)
        kinds, more = self.broadcast_object(lambda: (_kinds(tensors), more))
        if self.rank != 0:
            tensors = {
                group: {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, dtype, shape in named}
                for group, named in kinds.items()
            }
        self.broadcast(tensor for group in tensors.values() for tensor in group.values())
        return tensors, more

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        with self.waiting("tensors of rank 0"), torch.no_grad():
            for tensor in tensors:
                whole = tensor.contiguous()
                dist.broadcast(whole, src=0)
                if whole is not tensor:
                    tensor.copy_(whole)

    def check_same(self, **fields: Any) -> None:
        ours = json.loads(json.dumps(fields))  # a tuple comes back as a list
        theirs = self.broadcast_object(lambda: ours)
        others = [name for name in ours if ours[name] != theirs.get(name)]
        # A process that differs reports it while the others wait.
        if others:
            raise DistributedError(
                "differs from rank 0",
                where=f"rank {self.rank} on {socket.gethostname()}, {others[0]}",
                found=_short(ours[others[0]]),
                expected=_short(theirs.get(others[0])),
                fix="start all processes with the same options, data and versions",
            )
        self.barrier("rank 0 and the others are the same")

    def in_turn(self, work: Callable[[], T]) -> T:
        ours = 0 if self.rank == 0 else 1 if self.local_rank == 0 else 2
        result: Any = None
        for turn in range(3):
            if turn == ours:
                self.now("preparing", limited=False)
                result = work()
            self.barrier("those before us prepare")
        return result

    def barrier(self, what: str) -> None:
        with self.waiting(what):
            dist.barrier()

    def waiting(self, what: str) -> AbstractContextManager[None]:
        return self._watchdog.waiting(what)

    def now(self, phase: str, limited: bool = True) -> None:
        self._watchdog.now(phase, limited)

    def __exit__(self, kind: Any, problem: BaseException | None, traceback: Any) -> None:
        global _world
        _world = World()
        if _is_failure(problem):
            self._watchdog.tell(str(problem))
        else:
            self.barrier("the end")
            self._watchdog.stop()
        _leave_group()

    def leave(self) -> None:
        """End a script outside of `with world`: here processes need not wait for each other."""
        if _is_failure(problem := getattr(sys, "last_value", None)):
            self._watchdog.tell(str(problem))
        else:
            self._watchdog.leave()
        _leave_group()

    def _bytes_of_first(self, content: bytes) -> bytes:
        size = torch.tensor(len(content))
        self.broadcast([size])
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.rank == 0:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self.broadcast([buffer])
        return buffer.numpy().tobytes()


_world = World()


def join(device: torch.device, seconds_until_hung: float = SECONDS_UNTIL_HUNG) -> World:
    """Join the other processes named by the launcher's environment; later calls return the same world.

    Args:
        device: device of this process.
        seconds_until_hung: how long to wait for another process, now and later, before it counts as hung.

    Raises:
        DistributedError: the others did not join in time, or cannot be reached.
        UsageError: the environment is incomplete.
    """
    global _world
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _world.size > 1:
        return _world
    missing = [n for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise UsageError(
            "not set, although WORLD_SIZE is",
            where=", ".join(missing),
            fix="start the processes with torchrun, or set the missing variables",
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()  # a dead launcher could not end this process
    if device.type == "cuda":
        torch.cuda.set_device(device)
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    limit = timedelta(seconds=seconds_until_hung)
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if _are_on_one_machine() and "lo" in [name for _, name in socket.if_nameindex()]:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = _gather(_meeting_place(limit), rank, size, limit)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=_LONGER_THAN_ANY_WAIT,
        )
    except DistributedError:
        raise
    except (RuntimeError, ValueError, OSError) as problem:
        raise DistributedError(
            "the other processes cannot be reached",
            where=f"rank {os.environ['RANK']}, MASTER_ADDR:MASTER_PORT {address}",
            found=reason(problem),
            expected=f"{os.environ['WORLD_SIZE']} processes within {seconds_until_hung:g} s",
            fix="start all of them, with the address of rank 0's machine and a free port",
        ) from None
    local_rank = int(os.environ["LOCAL_RANK"])
    _world = Processes(dist.PrefixStore("watchdog", store), local_rank, seconds_until_hung)
    logging.info("%d processes train together", _world.size)
    return _world


def _is_failure(problem: BaseException | None) -> bool:
    return problem is not None and not getattr(problem, "is_of_all", False)


@atexit.register
def _leave() -> None:
    if isinstance(_world, Processes):
        _world.leave()


def _leave_group() -> None:
    """End gloo's threads: one that drops a tensor while the interpreter ends aborts the process.

    After a failure, a thread may wait for a process that no longer answers, so this has a time limit.
    """
    thread = Thread(target=dist.destroy_process_group, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_LEAVE)


def _is_store_of_launcher() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _meeting_place(limit: timedelta) -> dist.Store:
    """The store that all processes share: the launcher's, or that of rank 0."""
    if _is_store_of_launcher():
        return next(dist.rendezvous("env://", timeout=limit))[0]
    is_host = os.environ["RANK"] == "0"
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=is_host,
        timeout=limit,
        wait_for_workers=False,  # its error would not name the missing process
        multi_tenant=True,
        master_listen_fd=_loopback_socket() if is_host and _are_on_one_machine() else None,
    )


def _are_on_one_machine() -> bool:
    """Whether all processes run on this machine, so that no other must reach them."""
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        return True
    return ipaddress.ip_address(socket.gethostbyname(os.environ["MASTER_ADDR"])).is_loopback


def _loopback_socket() -> int | None:
    """A local socket for the store, which would otherwise listen on all interfaces."""
    try:
        return socket.create_server((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))).detach()
    except OSError:
        return None  # the store will report the error


def _gather(store: dist.Store, rank: int, size: int, limit: timedelta) -> dist.Store:
    """Wait until every process has joined; gloo's error would not name the missing ones.

    Returns:
        A part of the store for these processes only. A launcher that restarts processes gives them the old
        store, whose entries must be ignored. So every process chooses a unique name, and rank 0 calls all by
        these names until all have answered the same call.

    Raises:
        DistributedError: names the missing processes.
    """
    own, deadline = uuid4().hex, time.monotonic() + limit.total_seconds()
    store.set(f"name/{rank}", own)
    called: list[str] = []
    answers = [f"name/{r}" for r in range(size)]
    while time.monotonic() < deadline:
        if rank == 0 and store.check([f"name/{r}" for r in range(size)]):
            names = [store.get(f"name/{r}").decode() for r in range(size)]
            if names != called:  # some names were left by earlier processes
                called, call = names, uuid4().hex
                answers = [f"{call}/{r}" for r in range(size)]
                for name in names:
                    store.set(f"call/{name}", call)
            if store.check(answers):
                store.set(f"{call}/complete", "")
        if store.check([f"call/{own}"]):
            heard = store.get(f"call/{own}").decode()
            store.set(f"{heard}/{rank}", "")
            if store.check([f"{heard}/complete"]):
                return dist.PrefixStore(heard, store)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    missing = [str(r) for r, answer in enumerate(answers) if not store.check([answer])]
    raise DistributedError(
        "not all processes have joined",
        where=f"rank {rank}",
        found=f"no rank {', '.join(missing[:10] or ['0'])}",
        expected=f"{size} processes within {limit.total_seconds():g} s",
        fix="check the output of the missing processes, or start them",
    )


def _kinds(tensors: Tensors) -> dict[str, list[tuple[str, str, list[int]]]]:
    """Name, type and shape of every tensor, by group."""
    return {
        group: [(name, str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in named.items()]
        for group, named in tensors.items()
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def num_failed(world: World, is_fine: bool) -> int:
    """The number of processes that report a failure; all must call this."""
    return int(world.all_reduce(torch.tensor(int(not is_fine)), "who is fine"))


def refuse_other_world(num_gpus: int) -> None:
    """Compare the requested number of processes with the launcher's.

    Raises:
        UsageError: names both.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if num_gpus not in (1, size):
        raise UsageError(
            "does not match the number of processes started",
            where="--num_gpus",
            found=num_gpus,
            expected=f"{size}, which is WORLD_SIZE",
            fix=f"start them with torchrun --nproc_per_node={num_gpus}, or omit --num_gpus",
        )
