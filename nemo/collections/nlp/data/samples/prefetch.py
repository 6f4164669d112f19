"""Prefetching: a thread produces items ahead of the consumer."""

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """`items`, produced by a thread up to `depth` ahead; its errors are raised here.

    When the generator is exhausted or closed, the thread has ended and `items` is closed: a thread still
    running at interpreter shutdown would abort the process.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: T | None, problem: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put((item, problem), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item, None)
                    if stopped.is_set():
                        return
            put(None, StopIteration())
        except BaseException as problem:
            put(None, problem)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item, problem = ready.get()
            if isinstance(problem, StopIteration):
                return
            if problem is not None:
                raise problem
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
