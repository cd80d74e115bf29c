"""Data whose licence asks for consent: what was accepted on this machine, once for each text of terms."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vevals.benchmark import Benchmark
from vevals.canonical import sha256_hex
from vevals.errors import BenchmarkError
from vevals.places import config_folder


def require(benchmark: Benchmark, accept: bool) -> None:
    """Go on only if the benchmark's terms, if it has any, are accepted; ``accept`` accepts and remembers them.

    Raises:
        BenchmarkError: terms that nobody accepted here yet.
    """
    terms = benchmark.spec.license_terms
    if terms is None or _key(benchmark) in _accepted():
        return
    if not accept:
        raise BenchmarkError(
            f"{benchmark.name} is under {benchmark.spec.license}: {terms}; "
            "if that fits your use, say so once with --accept-license"
        )
    _remember(_key(benchmark))


def _key(benchmark: Benchmark) -> str:
    return sha256_hex([benchmark.name, benchmark.spec.license, benchmark.spec.license_terms])


def _file() -> Path:
    return config_folder() / "accepted-licences.json"


def _accepted() -> list[str]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(key) for key in found] if isinstance(found, list) else []


def _remember(key: str) -> None:
    path = _file()
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps([*_accepted(), key], indent=1), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise BenchmarkError(f"{path}: consent cannot be remembered: {error.strerror}; set VEVALS_CONFIG") from error
