"""Writing files in the background while training continues."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from nemo.utils.logging import logging


class BackgroundWriter:
    """`with BackgroundWriter() as background:` does one task at a time; leaving the block waits for it.

    A failure is raised by the next call. If another error leaves the block, it is only logged.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._work: Future[object] | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Start `work` when the current task is done.

        Raises:
            Exception: the current task failed; `work` is not started.
        """
        self.is_done(wait=True)
        self._work = self._thread.submit(work)

    def is_done(self, wait: bool) -> bool:
        """Whether no task is running.

        Args:
            wait: wait for the task to end.

        Raises:
            Exception: the task failed; raised once.
        """
        if self._work is None:
            return True
        if not (wait or self._work.done()):
            return False
        work, self._work = self._work, None
        work.result()
        return True

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.is_done(wait=True)
        elif self._work is not None and (failure := self._work.exception()) is not None:
            logging.warning("%s", failure)
