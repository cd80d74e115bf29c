"""vevals: which language model is best for your vertical, and is the next version safe to release?

The names below are the whole public interface; they are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

if TYPE_CHECKING:
    from vevals.api import leaderboard, list_benchmarks, load_benchmark, run
    from vevals.errors import VevalsError
    from vevals.models import load_model

_HOMES = {
    "VevalsError": "vevals.errors",
    "leaderboard": "vevals.api",
    "list_benchmarks": "vevals.api",
    "load_benchmark": "vevals.api",
    "load_model": "vevals.models",
    "run": "vevals.api",
}

__all__ = ["VevalsError", "__version__", "leaderboard", "list_benchmarks", "load_benchmark", "load_model", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vevals' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
