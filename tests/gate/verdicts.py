"""Example verdicts: the checks of one release, green, red and odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vevals.gate.verdict import Applied, Instance, Severity, State, Verdict

CANDIDATE = "1" * 64
BASELINE = "2" * 64
POLICY = "3" * 64

WAIVER = Applied(-0.03, "labels of May are being redone", "ann@b.example", "https://b.example/41", "2026-12-31")


def comparison(state: State, **changes: Any) -> Instance:
    """A no-regression check, numbers as in the display lines of the design."""
    numbers: dict[State, dict[str, Any]] = {
        State.PASS: {"estimate": -0.012, "low": -0.0232, "high": -0.0008, "n": 1500, "fixed": 42, "broke": 60},
        State.FAIL: {"estimate": -0.074, "low": -0.0968, "high": -0.0524, "n": 500, "fixed": 3, "broke": 40},
        State.INCONCLUSIVE: {"estimate": -0.012, "low": -0.0316, "high": 0.0077, "n": 500, "fixed": 14, "broke": 20},
        State.INVALID: {"reason": "not comparable: the runs differ in prompt"},
    }
    chances: dict[State, dict[str, Any]] = {
        State.PASS: {"p_pass": 0.006, "p_fail": 0.99, "holm_p": 1.0},
        State.FAIL: {"p_pass": 0.999, "p_fail": 0.00004, "holm_p": 0.0002},
        State.INCONCLUSIVE: {"p_pass": 0.07, "p_fail": 0.93, "holm_p": 1.0, "needed": 1300},
        State.INVALID: {},
    }
    base = Instance(
        check="no-regression",
        name="no-regression · legal/contracts",
        kind="no_worse_than",
        severity=Severity.block,
        state=state,
        benchmark="legal/contracts",
        metric="accuracy",
        limit=0.03,
        repeats=1,
        method="Tango and plus-2",
        scores={"candidate": "a" * 64, "baseline": "b" * 64},
        outcomes={"scored": 498, "unparsed": 2},
        line=12,
    )
    measured = base if state is State.INVALID else replace(base, n_eff=480.0, clusters=60)
    return replace(measured, **{**numbers[state], **chances[state], **changes})


def floor(state: State = State.PASS, **changes: Any) -> Instance:
    """An at-least check on one rate."""
    base = Instance(
        check="med-floor",
        name="med-floor · medical/triage",
        kind="at_least",
        severity=Severity.block,
        state=state,
        benchmark="medical/triage",
        metric="accuracy",
        estimate=0.824,
        low=0.7936,
        high=0.8515,
        limit=0.78,
        n=500,
        n_eff=500.0,
        repeats=1,
        method="Clopper-Pearson",
        p_pass=0.01,
        p_fail=0.99,
        holm_p=1.0,
        line=9,
    )
    return replace(base, **changes)


def verdict(*instances: Instance, **changes: Any) -> Verdict:
    """A verdict on these checks: the state follows from the blocking ones."""
    found = {one.counted for one in instances if one.severity is Severity.block}
    order = (State.FAIL, State.INVALID, State.INCONCLUSIVE)
    state = next((state for state in order if state in found), State.PASS)
    base = Verdict(
        state=state,
        exit_state=state,
        policy={"name": "support-bot-release", "sha256": POLICY, "path": "gates/release policy.yaml", "text": "…"},
        candidate=side("cand-7", CANDIDATE),
        baseline=side("prod", BASELINE),
        instances=instances,
        context={"seed": 20260101, "confidence": 0.95},
        times={"today": "2026-03-01"},
        actor="ann",
    )
    return replace(base, **changes)


def side(name: str, digest: str) -> Mapping[str, Any]:
    """A run set as a verdict names it."""
    run = {"benchmark": "legal/contracts", "run": "9f3c2a11", "digest": digest, "model": "hf:org/model"}
    return {"name": name, "digest": digest, "runs": [run]}


def green() -> Verdict:
    """Everything passes."""
    return verdict(floor(), comparison(State.PASS))


def red() -> Verdict:
    """One blocking check fails, one warns, one is waived, a slice is open."""
    waived = comparison(State.INCONCLUSIVE, check="legal", name="legal · legal/contracts", waiver=WAIVER, limit=0.02)
    warned = comparison(State.FAIL, check="style", name="style · summarization/news", severity=Severity.warn, line=20)
    name = "slices · legal/contracts · language=de"
    where = {"language": "de"}
    part = comparison(State.INCONCLUSIVE, check="slices", name=name, severity=Severity.warn, where=where, line=22)
    small = "slices · legal/contracts · language=fr: 12 samples, fewer than 30: not judged"
    return verdict(floor(), comparison(State.FAIL), waived, warned, part, listed=(small,))


def many(count: int, text: str = "") -> Verdict:
    """``count`` failing blocking checks, ``text`` in every name."""
    return verdict(*(comparison(State.FAIL, name=f"no-regression · {text}{place}") for place in range(count)))
