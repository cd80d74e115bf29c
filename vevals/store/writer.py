"""The one thread of a process that writes answers: a transaction per 500 rows or 200 milliseconds."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

ROWS = 500
SECONDS = 0.2
WAITING = 4 * ROWS


class Writer(Generic[Item]):
    """Takes items from any thread and hands them in groups to ``write`` on its own thread.

    A full queue makes ``put`` wait (back-pressure to the model). What ``write`` raises is raised by the next ``put``
    or ``flush``; items after that are dropped, because the run stops there.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._queue: queue.Queue[Item | threading.Event | None] = queue.Queue(maxsize=WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="vevals-writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue one item."""
        self._raise()
        self._queue.put(item)

    def flush(self) -> None:
        """Return when everything queued so far is committed."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        self._raise()

    def close(self) -> None:
        """Commit what is queued and end the thread. Does not raise: ``flush`` first to learn of errors."""
        self._queue.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        waiting: threading.Event | None = None
        ending = False
        while not ending:
            items: list[Item] = []
            deadline = None
            while len(items) < ROWS:
                try:
                    item = self._queue.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if item is None:
                    ending = True
                    break
                if isinstance(item, threading.Event):
                    waiting = item
                    break
                items.append(item)
                deadline = deadline or time.monotonic() + SECONDS
            self._commit(items)
            if waiting is not None:
                waiting.set()
                waiting = None

    def _commit(self, items: list[Item]) -> None:
        if not items or self._error is not None:
            return
        try:
            self._write(items)
        except BaseException as error:
            self._error = error
