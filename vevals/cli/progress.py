"""What is shown while a run goes on: a live line on a terminal, plain lines everywhere else. All on standard error."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vevals import display
from vevals.runner import Result
from vevals.types import Response

EVERY_SECONDS = 15.0


@dataclass(slots=True)
class Count:
    """What has happened in the run that is going on."""

    title: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    tokens: int = 0
    begun: float = field(default_factory=time.monotonic)

    def add(self, response: Response) -> None:
        """Count one response; tokens of cached ones are not speed."""
        self.done += 1
        self.failed += response.error is not None
        self.tokens += 0 if response.cached else response.input_tokens + response.output_tokens

    @property
    def speed(self) -> str:
        """Tokens a second since the run began."""
        return f"{self.tokens / max(1e-9, time.monotonic() - self.begun):,.0f} tok/s"


class Lines:
    """For logs: a line when a run starts, one every 15 seconds, one when it ends."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self.out = out
        self.count = Count()
        self._last = 0.0

    def begin(self, benchmark: str, model: str, total: int, done: int) -> None:
        self.count = Count(f"{benchmark} · {model}", total, done)
        self._last = time.monotonic()
        if done < total:
            self._print(f"{self.count.title}: {done}/{total} answered, asking {total - done}")

    def answered(self, response: Response) -> None:
        self.count.add(response)
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            self._print(f"{self.count.title}: {self.count.done}/{self.count.total}, {self._state()}")

    def end(self, result: Result | None) -> None:
        if result is not None:
            name, estimate = result.estimates[0]
            source = f"asked {result.asked}" if result.asked else "all from the store"
            self._print(f"{self.count.title}: {name} {display.score(estimate, result.ends)}, {source}, {self._state()}")

    def _state(self) -> str:
        return f"{self.count.speed}, {self.count.failed} failed"

    def _print(self, line: str) -> None:
        print(display.visible(line), file=self.out, flush=True)


class Bar:
    """For a terminal: one live line a run."""

    def __init__(self) -> None:
        self.count = Count()
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True, markup=False, highlight=False),
        )

    def begin(self, benchmark: str, model: str, total: int, done: int) -> None:
        self.count = Count(f"{benchmark} · {model}", total, done)
        self._progress.start()
        title = display.visible(self.count.title)
        self._task = self._progress.add_task(title, total=total, completed=done, state="")

    def answered(self, response: Response) -> None:
        self.count.add(response)
        if self._task is not None:
            state = self.count.speed + (f" {self.count.failed} failed" if self.count.failed else "")
            self._progress.update(self._task, completed=self.count.done, state=state)

    def end(self, result: Result | None) -> None:
        if self._task is not None and result is not None:
            name, estimate = result.estimates[0]
            self._progress.update(self._task, state=f"{name} {display.score(estimate, result.ends)}")
        self._progress.stop()


class Quiet(Lines):
    """Counts, says nothing."""

    def _print(self, line: str) -> None:
        """Nothing."""


def watcher(quiet: bool) -> Lines | Bar:
    """The watcher that fits the terminal."""
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Lines()
