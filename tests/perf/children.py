"""Tools in processes of their own: started when first needed, asked one thing at a time, ended with the models."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from perf.models import Folder, environment
from perf.workloads import ROOT, Part


class Absent(Exception):
    """A tool that is not installed: its rows are left out."""


class Failed(Exception):
    """A tool that gave an error or ended; one sentence says why."""


class Slow(Exception):
    """A run that was stopped at its time limit."""


@dataclass(frozen=True, slots=True)
class Staff:
    """How children are started. ``peer_python`` is the interpreter of the environment in which the peers live."""

    threads: int
    peer_python: str = sys.executable

    def interpreter(self, tool: str) -> str:
        return self.peer_python if tool in ("lm-eval", "pipeline") else sys.executable


class Child:
    """One tool with one model."""

    def __init__(self, tool: str, staff: Staff, folder: Folder, part: Part) -> None:
        self.tool = tool
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed by close()
        self._process = subprocess.Popen(
            [staff.interpreter(tool), "-m", "perf.child"],
            cwd=ROOT,
            env=environment(staff.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        order = {"tool": tool, "folder": str(folder.path), "part": part, "fills": folder.fills}
        try:
            self.hello = self.ask({"do": "load", "threads": staff.threads, **order})
        except (Absent, Failed):
            self.close()
            raise

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one order.

        Raises:
            Absent, Slow, Failed: see there.
        """
        channel_in, channel_out = self._process.stdin, self._process.stdout
        if channel_in is None or channel_out is None:
            raise Failed(f"{self.tool} has no channel")
        try:
            channel_in.write(json.dumps(order) + "\n")
            channel_in.flush()
            line = channel_out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"{self.tool} ended with {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        for key, kind in (("absent", Absent), ("slow", Slow), ("error", Failed)):
            if key in answer:
                raise kind(f"{self.tool}: {answer[key]}")
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        words = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return words[-1][:300] if words else "it said nothing"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process; it holds nothing that has to be kept."""
        self._process.kill()
        self._process.wait()
        for channel in (self._process.stdin, self._process.stdout, self._log):
            if channel is not None:
                channel.close()


class Crew:
    """All children for one model folder."""

    def __init__(self, staff: Staff, folder: Folder, part: Part, requests: Path) -> None:
        self._staff, self._folder, self._part, self._requests = staff, folder, part, requests
        self._children: dict[str, Child] = {}

    def has(self, tool: str) -> bool:
        """Whether the child of a tool is at work."""
        return tool in self._children and self._children[tool].alive

    def of(self, tool: str) -> Child:
        """The child of a tool; a new one where it has ended."""
        if not self.has(tool):
            if tool in self._children:
                self._children.pop(tool).close()
            self._children[tool] = Child(tool, self._staff, self._folder, self._part)
        return self._children[tool]

    def ask(self, tool: str, order: Mapping[str, Any], requests: str) -> dict[str, Any]:
        """Give ``tool`` the JSON lines ``requests`` and an order about them."""
        self._requests.write_text(requests, encoding="utf-8")
        return self.of(tool).ask({**order, "requests": str(self._requests)})

    def close(self) -> None:
        for child in self._children.values():
            child.close()
