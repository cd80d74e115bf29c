"""Real benchmark folders for tests, written to disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LETTER_YAML = """
title: Capitals
version: 1
data: data.jsonl
choices: [Paris, Rome, Oslo]
slices: [level]
prompt: |
  {{ input }}

  {{ choices }}
answer: letter
metrics: [accuracy, macro_f1]
chance: 0.3333
license: CC-BY-4.0
source: written for a test
"""

ROWS = [
    {"id": f"c-{number:02d}", "input": f"Question {number} about {city}?", "target": city, "level": level}
    for number, (city, level) in enumerate(
        [(city, level) for level in ("easy", "hard") for city in ("Paris", "Rome", "Oslo")] * 4
    )
]


def write_benchmark(
    root: Path, name: str = "test/capitals", yaml: str = LETTER_YAML, rows: Sequence[Mapping[str, Any]] = ROWS
) -> Path:
    """A benchmark folder below ``root``; returns it."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.yaml").write_text(yaml.lstrip("\n"), encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
