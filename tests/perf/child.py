"""One tool in a process of its own: it loads its model once, then answers one JSON line for each JSON line it gets.

``{"do": "load", "tool": ..., "folder": ..., ...}`` and then ``{"do": "run", "requests": PATH, ...}`` as often as
wanted. Whatever a tool prints goes to standard error, so that the answers stay readable.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perf import meter
from perf.floor import Floor
from perf.peers import LmEval, Pipeline
from perf.plain import Plain
from perf.tools import Task, Tool, Vevals
from perf.workloads import read

TOOLS: dict[str, type[Tool]] = {
    "vevals": Vevals,
    "lm-eval": LmEval,
    "pipeline": Pipeline,
    "floor": Floor,
    "plain": Plain,
}
PACKAGES = ("torch", "transformers", "tokenizers", "vevals", "lm_eval", "accelerate", "numpy")


class Child:
    """A tool and what measures it."""

    def __init__(self, order: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(int(order["threads"]))
        meter.keep_within_memory()
        self._meter = meter.Meter(order["fills"])
        self._meter.follow()
        started = time.perf_counter()
        self._tool = TOOLS[order["tool"]](Path(order["folder"]), order["part"])
        self._load_s = time.perf_counter() - started
        self._loaded: int | None = None

    def hello(self) -> dict[str, Any]:
        """Versions, threads, and the time that loading took (some tools load later)."""
        import torch

        return {"versions": versions(), "load_s": self._load_s, "threads": torch.get_num_threads()}

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Answer all requests once; results, seconds, counters and memory."""
        items = read(Path(order["requests"])) if order.get("requests") else []
        task = Task(order["kind"], tuple(items), order.get("setting"), order.get("extra") or {})
        step = self._tool.prepared(task)
        self._meter.taken()
        known = meter.forget_peak()
        before = meter.resident()
        started = time.perf_counter()
        with self._meter.limit(order.get("limit_s"), order.get("limit_tokens", 0)):
            raw = step()
        seconds = time.perf_counter() - started
        memory = {"before": before, "peak": meter.peak() if known else None, "loaded": self._loaded}
        return {"results": self._tool.results(raw), "seconds": seconds, "counts": self._meter.taken(), "memory": memory}

    def first(self, order: dict[str, Any]) -> dict[str, Any]:
        """Like ``run``; the least memory that was ever in use after it counts as that of the loaded model."""
        found = self.run(order)
        meter.forget_peak()
        now = meter.resident()
        self._loaded = now if self._loaded is None else min(now, self._loaded)
        return {"seconds": found["seconds"], "loaded_bytes": self._loaded}


def versions() -> dict[str, str]:
    """Versions of what is installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def answered(child: Child | None, order: dict[str, Any]) -> tuple[Child | None, dict[str, Any]]:
    """The child, and its answer to one order. An error is an answer, too."""
    try:
        if order["do"] == "load":
            child = Child(order)
            return child, child.hello()
        if child is None:
            raise ValueError("the first order must be to load a model")
        return child, {"first": child.first, "run": child.run}[order["do"]](order)
    except meter.TooSlow as error:
        return child, {"slow": str(error)}
    except ModuleNotFoundError as error:
        return child, {"absent": str(error)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        return child, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    child: Child | None = None
    for line in sys.stdin:
        child, answer = answered(child, json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
