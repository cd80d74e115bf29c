"""What is known of the surroundings of a run: versions, platform, git state. Recorded, never part of its identity."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import vevals

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "lm-eval",
    "numpy",
    "scipy",
    "scikit-learn",
    "rouge-score",
    "sacrebleu",
    "jieba",
)


@lru_cache(maxsize=1)
def describe() -> Mapping[str, Any]:
    """vevals, Python and package versions, platform, and the git commit of the current folder with its dirty flag."""
    return {
        "vevals": vevals.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git": git_state(),
    }


def git_state() -> Mapping[str, Any] | None:
    """``{commit, dirty}`` of the current folder, or None outside a repository (or without git)."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
