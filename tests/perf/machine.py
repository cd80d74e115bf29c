"""Where and with what it was measured: processor, load, commit, and how busy others keep the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from perf.workloads import ROOT

WATCH_S = 0.3


def described(threads: int) -> dict[str, Any]:
    """Processor, cores, memory and system. JSON-able."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(int((_field(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) / 2**20, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
    }


def _field(path: Path, name: str) -> str | None:
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def commit() -> dict[str, Any]:
    """The commit of the checkout, and whether files differ from it."""
    head = _git("rev-parse", "HEAD")
    return {"commit": head, "changed": None if head is None else bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def now() -> dict[str, float]:
    """The load average, and the share of all cores that is in use while none of our tools computes."""
    return {"load_1min": os.getloadavg()[0], "in_use": _in_use()}


def _in_use() -> float:
    first = _ticks()
    time.sleep(WATCH_S)
    idle, total = (after - before for before, after in zip(first, _ticks(), strict=True))
    return round(1 - idle / total, 3) if total else 0.0


def _ticks() -> tuple[int, int]:
    path = Path("/proc/stat")
    if not path.is_file():
        return 0, 0
    numbers = [int(value) for value in path.read_text(encoding="ascii").splitlines()[0].split()[1:]]
    return numbers[3] + numbers[4], sum(numbers)
