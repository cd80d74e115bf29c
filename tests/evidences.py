"""Run sets made of numbers, for tests of what decides on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from vevals.canonical import sha256_hex
from vevals.evidence import Column, Evidence, Floats, RunFact, RunSet, Usage
from vevals.gate.decide import Context, decide
from vevals.gate.policy import Policy, parse_policy
from vevals.gate.questions import Setting
from vevals.gate.verdict import Verdict
from vevals.types import Outcome

TODAY = date(2026, 6, 1)
MARGIN = "- {id: same, select: {metric: score}, no_worse_than: {baseline: true, margin: %s}, severity: %s}"
HEAD = "schema: vevals.gate/v1\nname: test\nbaseline: {ref: prod}\n"
PARTS = {"dataset": "d", "prompt": "p", "generation": "g", "scorer": "s", "harness": "0.1"}


def column(
    values: Any, *, name: str = "accuracy", worst: float = 0.0, best: float = 1.0, binary: bool = True
) -> Column:
    """A column of (n,) or (n, K) values; NaN is a failed row."""
    grid = np.asarray(values, dtype=float)
    grid = grid[:, None] if grid.ndim == 1 else grid
    outcomes = np.where(np.isnan(grid), int(Outcome.failed), int(Outcome.scored)).astype(np.int8)
    return Column(name, worst, best, binary, grid, outcomes)


_SERIAL = count()


@cache
def _names(n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids and contents of n samples."""
    ids = tuple(f"s{row}" for row in range(n))
    return ids, tuple(sha256_hex(one) for one in ids)


def evidence(
    columns: Column | Sequence[Column],
    *,
    benchmark: str = "legal/nli",
    clusters: Sequence[str | None] | None = None,
    slices: Sequence[Mapping[str, str]] | None = None,
    parts: Mapping[str, str] | None = None,
    seconds: Floats | None = None,
    tags: tuple[str, ...] = (),
    model: str = "model",
) -> Evidence:
    """One benchmark of one model."""
    listed = [columns] if isinstance(columns, Column) else list(columns)
    n, repeats = listed[0].values.shape
    ids, contents = _names(n)
    ones = np.ones((n, repeats))
    usage = Usage(100 * ones, 10 * ones, ones if seconds is None else seconds, ones < 0)
    digest = sha256_hex([benchmark, model, next(_SERIAL)])
    return Evidence(
        benchmark=benchmark,
        runs=(RunFact(key=digest, digest=digest, model=model, model_hash=sha256_hex(model)),),
        parts=dict(PARTS if parts is None else parts),
        ids=ids,
        contents=contents,
        clusters=tuple(clusters) if clusters is not None else (None,) * n,
        slices=tuple(slices) if slices is not None else ({},) * n,
        columns={one.name: one for one in listed},
        usage=usage,
        total=n * repeats,
        tags=tags,
    )


def runs(*found: Evidence, name: str = "model") -> RunSet:
    """A run set of these benchmarks."""
    return RunSet(name, {one.benchmark: replace(one) for one in found})


def answers(right: int, wrong: int) -> Floats:
    """``right`` ones, then ``wrong`` zeros."""
    return np.array([1.0] * right + [0.0] * wrong)


def policy(*checks: str, head: str = HEAD, tail: str = "") -> Policy:
    """A policy with these checks."""
    listed = "\n".join(f"  {check}" for check in checks)
    return parse_policy(f"{head}checks:\n{listed}\n{tail}", "gate.yaml")


def margin(value: float = 0.03, severity: str = "block") -> str:
    """A check against the baseline."""
    return MARGIN % (value, severity)


def judged(rules: Policy, candidate: RunSet, baseline: RunSet | None = None, **context: Any) -> Verdict:
    """The verdict as of TODAY."""
    return decide(Setting(rules, candidate, baseline), Context(TODAY, **context))


def pair_of(fixed: int, broke: int, n: int, **more: Any) -> tuple[RunSet, RunSet]:
    """Candidate and baseline over n samples with so many flips, both right on half of the rest."""
    rest = n - fixed - broke
    same = [1.0] * (rest // 2) + [0.0] * (rest - rest // 2)
    candidate = evidence(column([1.0] * fixed + [0.0] * broke + same), **more)
    baseline = evidence(column([0.0] * fixed + [1.0] * broke + same), **more)
    return runs(candidate), runs(baseline, name="prod")
