"""What the bundled benchmarks were when their versions were raised last. ``python tests/bundled.py`` writes it anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vevals.benchmark import Benchmark
from vevals.check import is_bundled
from vevals.registry import open_registry

LOCK = Path(__file__).with_name("bundled.json")
BUNDLED = [name for name in open_registry().names() if is_bundled(open_registry().get(name))]


def digest(benchmark: Benchmark) -> str:
    """SHA-256 (hex) over ids, prompts, choices, targets, clusters and the columns that metrics read (a checklist).

    The notes beside them may be mended.
    """
    options = {value for metric in benchmark.metrics for value in metric.options.values() if isinstance(value, str)}
    rows = [
        (
            one.id,
            [message.content for message in benchmark.messages(one)],
            (one.choices, one.target, one.cluster),
            [one.fields.get(name) for name in sorted(options)],
        )
        for one in benchmark.samples
    ]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def locked() -> dict[str, dict[str, object]]:
    """Name -> version and digest."""
    found: dict[str, dict[str, object]] = json.loads(LOCK.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Write the lock; a set whose questions changed under its version stops it."""
    old = locked() if LOCK.exists() else {}
    new = {name: _entry(name) for name in BUNDLED}
    for name, entry in new.items():
        if name in old and old[name]["version"] == entry["version"] and old[name] != entry:
            raise SystemExit(f"{name}: questions or answers changed; raise 'version' in its benchmark.yaml first")
    LOCK.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")


def _entry(name: str) -> dict[str, object]:
    benchmark = open_registry().get(name)
    return {"version": benchmark.spec.version, "rows": digest(benchmark)}


if __name__ == "__main__":
    main()
