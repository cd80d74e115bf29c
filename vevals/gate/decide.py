"""Policy and evidence -> verdict. Pure: equal inputs give the equal verdict, on any machine and on any day it names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from vevals.canonical import sha256_hex
from vevals.evidence import NO_ROW, Column, Evidence, RunSet
from vevals.gate.lines import SETTLED
from vevals.gate.measure import Levels, Measured, measure
from vevals.gate.questions import Part, Question, Setting, ask
from vevals.gate.terms import SCORE, Limit, Policy, Waiver, waiver_problems
from vevals.gate.verdict import Applied, Instance, Severity, State, Verdict
from vevals.prices import Prices
from vevals.statistics.bounds import Bounds
from vevals.statistics.paired import margin_floor
from vevals.statistics.power import needed_for_margin, two_digits, unlikely_to_settle
from vevals.statistics.ranks import holm
from vevals.types import Outcome

NO_EVIDENCE = {
    "judge": "no judged metric with human labels is in these runs",
    "contamination": "no contamination result is recorded with these runs",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a verdict depends on besides policy and evidence.

    ``baseline_problem``: why a baseline that should be there cannot be had (empty: nothing was ever called so);
    ``baseline_age_days``: of its newest entry, or of its oldest run. ``ledger``: whether earlier verdicts are known.
    ``attempt``: how many attempts the evidence pools.
    """

    today: date
    prices: Prices = field(default_factory=lambda: Prices({}))
    attempt: int = 1
    ledger: bool = True
    baseline_problem: str = ""
    baseline_age_days: float | None = None


def decide(setting: Setting, context: Context) -> Verdict:
    """The verdict on a candidate."""
    policy = setting.policy
    asked = ask(setting)
    instances = [*_measured(asked.questions, policy, context), *_uncomputed(policy)]
    reasons = [*_whole(setting, context), *_vacuous(instances)]
    state = State.INVALID if reasons else _verdict(instances)
    softened = state is State.INCONCLUSIVE and policy.on_inconclusive == "warn"
    return Verdict(
        state=state,
        exit_state=State.PASS if softened else state,
        policy={"name": policy.name, "sha256": policy.sha256, "path": str(policy.path), "text": policy.text},
        candidate=described(setting.candidate),
        baseline=None if setting.baseline is None else described(setting.baseline),
        instances=tuple(instances),
        reasons=tuple(reasons),
        listed=(*asked.listed, *waiver_problems(policy, context.today)),
        attempt=context.attempt,
        context=_context(setting, context),
        times={"today": context.today.isoformat(), "baseline_age_days": context.baseline_age_days},
    )


def states(questions: Sequence[Question], policy: Policy, context: Context) -> State:
    """The verdict over some questions alone, without the record: what a simulation asks a thousand times."""
    blocking = [question for question in questions if question.check.severity == "block"]
    levels, measured, adjusted = _measured_family(blocking, policy, context)
    found = {
        State.INVALID if one.bounds is None else _state(question, one, p, levels)[0]
        for question, one, p in zip(blocking, measured, adjusted, strict=True)
    }
    return _worst(found)


def described(runs: RunSet) -> dict[str, Any]:
    """A run set as a verdict names it."""
    listed = [
        {"benchmark": name, "run": run.key[:8], "digest": run.digest, "model": run.model, "attempt": run.attempt}
        | {"draw": run.draw, "seed": run.seed, "repeats": run.repeats}
        for name in sorted(runs.evidence)
        for run in runs.evidence[name].runs
    ]
    return {"name": runs.name, "digest": runs.digest, "runs": listed, "problems": dict(sorted(runs.problems.items()))}


def ledger_key(setting: Setting) -> str:
    """What counts as trying again: equal terms, and on the benchmarks that they select the same model, prompt, options,
    questions and baseline. SHA-256 (hex).
    """
    selected = {part.candidate.benchmark for question in ask(setting).questions for part in question.parts}
    sides = []
    for name in sorted(selected):
        one = setting.candidate.evidence[name]
        parts = [one.parts.get(part, "") for part in _RETRIED]
        sides.append([name, sorted({run.model_hash for run in one.runs}), *parts])
    return sha256_hex([setting.policy.terms, sides, setting.baseline.digest if setting.baseline else ""])


_RETRIED = ("prompt", "generation", "dataset")


def _context(setting: Setting, context: Context) -> dict[str, Any]:
    rules = setting.policy.statistics
    models = {run.model for side in (setting.candidate, setting.baseline) if side for run in side.runs}
    used = {model: price for model in sorted(models) if (price := context.prices.of(model))}
    return {
        "confidence": rules.confidence,
        "seed": rules.seed,
        "prices": Prices(used).to_json(),
        "ledger": context.ledger,
        "baseline_problem": context.baseline_problem,
        "suites": {name: list(benchmarks) for name, benchmarks in sorted(setting.suites.items())},
    }


# -- the policy as a whole -----------------------------------------------------------------------------------------


def _whole(setting: Setting, context: Context) -> list[str]:
    """Why the policy as a whole cannot be decided."""
    policy = setting.policy
    found = [_ledger(policy, context), _baseline(setting, context), *_coverage(setting)]
    return [reason for reason in found if reason]


def _ledger(policy: Policy, context: Context) -> str:
    missing = policy.ledger == "required" and not context.ledger
    return "the policy requires the ledger of earlier verdicts, and there is none" if missing else ""


def _baseline(setting: Setting, context: Context) -> str:
    rule = setting.policy.baseline
    relative = any(limit.against_baseline for check in setting.policy.checks for limit in check.limits)
    if rule is None or not relative:
        return ""
    if setting.baseline is None:
        first = rule.on_missing == "skip_relative" and not context.baseline_problem
        return "" if first else f"no baseline: {context.baseline_problem or _never_set(rule.ref)}"
    age = context.baseline_age_days
    if rule.max_age_days is not None and age is not None and age > rule.max_age_days:
        return f"the baseline is {age:.0f} days old, the policy allows {rule.max_age_days:g}: set it anew"
    return ""


def _never_set(ref: str) -> str:
    return f"nothing is called '{ref}' yet; 'vevals baseline set {ref} RUNS --reason TEXT' names one"


def _coverage(setting: Setting) -> list[str]:
    """Required domains that are absent, and benchmarks of which too few rows exist."""
    require = setting.policy.require
    have = {evidence.domain for evidence in setting.candidate.evidence.values()}
    found = [f"the candidate has no run in the required domain {name}" for name in require.domains if name not in have]
    for name, evidence in sorted(setting.candidate.evidence.items()):
        there = int((evidence.score.outcomes != NO_ROW).sum())
        if there < require.present * evidence.total:
            found.append(f"{name}: {there} of {evidence.total} rows exist, the policy wants {100 * require.present:g}%")
    return found


def _vacuous(instances: Sequence[Instance]) -> list[str]:
    decided = [one for one in instances if one.severity is Severity.block and one.counted is not State.INVALID]
    return [] if decided else ["vacuous: no blocking check could be decided, so nothing was checked"]


def _verdict(instances: Sequence[Instance]) -> State:
    return _worst({one.counted for one in instances if one.severity is Severity.block})


def _worst(blocking: set[State]) -> State:
    return next((state for state in (State.FAIL, State.INVALID, State.INCONCLUSIVE) if state in blocking), State.PASS)


def _uncomputed(policy: Policy) -> list[Instance]:
    """Checks whose evidence no run has yet: INVALID, never passed over."""
    found = []
    for check in policy.checks:
        for kind in ("judge", "contamination"):
            if getattr(check, kind) is not None:
                reason = NO_EVIDENCE[kind]
                severity = Severity(check.severity)
                found.append(
                    Instance(check.id, check.id, kind, severity, State.INVALID, reason=reason, line=check.line)
                )
    return found


# -- one instance --------------------------------------------------------------------------------------------------


def _measured(questions: Sequence[Question], policy: Policy, context: Context) -> list[Instance]:
    """All instances; blocking ones and the others are a family each for Holm's adjustment."""
    blocking = [question for question in questions if question.check.severity == "block"]
    others = [question for question in questions if question.check.severity != "block"]
    made: dict[int, Instance] = {}
    for family in (blocking, others):
        for question, instance in zip(family, _family(family, policy, context), strict=True):
            made[id(question)] = instance
    return [made[id(question)] for question in questions]


def _family(questions: Sequence[Question], policy: Policy, context: Context) -> list[Instance]:
    levels, measured, adjusted = _measured_family(questions, policy, context)
    found = []
    for question, one, p in zip(questions, measured, adjusted, strict=True):
        instance = _instance(question, one, p, levels)
        found.append(_waived(instance, question, policy, levels, context))
    return found


def _measured_family(
    questions: Sequence[Question], policy: Policy, context: Context
) -> tuple[Levels, list[Measured], list[float]]:
    """Bounds of every question and the Holm-adjusted p of its FAIL side; attempt j is judged at alpha / 2^(j-1)."""
    alpha = policy.statistics.alpha / 2 ** (context.attempt - 1)
    valid = sum(not question.problem for question in questions)
    levels = Levels(alpha, alpha / max(1, valid), policy.statistics.seed)
    measured = [
        Measured(None, invalid=question.problem)
        if question.problem
        else measure(question, question.limit, levels, context.prices)
        for question in questions
    ]
    return levels, measured, _holm(measured)


def _holm(measured: Sequence[Measured]) -> list[float]:
    """Adjusted p_fail of those that have one; the family counts those that decide by a bound as well."""
    values = [math.nan if one.bounds is None or one.bounds.problem else one.bounds.p_fail for one in measured]
    places = [place for place, value in enumerate(values) if not math.isnan(value)]
    bounded = sum(one.bounds is not None and not one.bounds.problem for one in measured) - len(places)
    adjusted = holm([*(values[place] for place in places), *[1.0] * bounded])
    found = [math.nan] * len(values)
    for place, value in zip(places, adjusted, strict=False):
        found[place] = float(value)
    return found


def _instance(question: Question, one: Measured, holm_p: float, levels: Levels) -> Instance:
    check, severity = question.check, Severity(question.check.severity)
    base = Instance(
        check=check.id,
        name=question.name,
        kind=question.limit.kind,
        severity=severity,
        state=State.INVALID,
        benchmark=question.benchmark,
        metric=question.metric,
        where=dict(question.where),
        limit=question.limit.value,
        relative=question.limit.relative,
        share=all(_is_share(part) for part in question.parts),
        alpha=levels.passing,
        reason=one.invalid,
        line=check.line,
        **_rows(question),
    )
    if one.bounds is None:
        return base
    state, reason = _state(question, one, holm_p, levels)
    return replace(_with_numbers(base, one, holm_p), state=state, **_outlook(question, one, state, reason, levels))


def _is_share(part: Part) -> bool:
    column = part.candidate.columns.get(part.metric)
    return column is None or {column.worst, column.best} == {0.0, 1.0}


def _rows(question: Question) -> dict[str, Any]:
    """What the instance rests on: samples, repeats, outcomes, and the digests of the scores used."""
    if not question.parts:
        return {}
    ours = [(part.candidate, _column(part.candidate, part)) for part in question.parts]
    theirs = [(part.baseline, _column(part.baseline, part)) for part in question.parts if part.baseline is not None]
    sides = {"candidate": ours, "baseline": theirs} if theirs else {"candidate": ours}
    return {
        "n": sum(len(part.candidate.ids) for part in question.parts),
        "repeats": _repeats(question),
        "scores": {side: _digest(found) for side, found in sides.items()},
        "outcomes": _outcomes(ours),
        "baseline_outcomes": _outcomes(theirs),
    }


def _column(evidence: Evidence, part: Part) -> Column:
    """The part's column; what a run has besides its metrics (cost, tokens, seconds) rests on the score's outcomes."""
    return evidence.columns.get(part.metric, evidence.score)


def _digest(found: Sequence[tuple[Evidence, Column]]) -> str:
    digests = [column.digest(evidence.ids) for evidence, column in found]
    return digests[0] if len(digests) == 1 else sha256_hex(digests)


def _outcomes(found: Sequence[tuple[Evidence, Column]]) -> dict[str, int]:
    counts = [column.counts() for _, column in found]
    totals = {outcome.name: sum(count[outcome] for count in counts) for outcome in Outcome}
    return {name: total for name, total in totals.items() if total}


def _repeats(question: Question) -> int:
    """The fewest rows of a sample on either side."""
    sides = [side for part in question.parts for side in (part.candidate, part.baseline) if side is not None]
    return min(int((side.score.outcomes != NO_ROW).sum(axis=1).min()) for side in sides)


def _samples(question: Question, bounds: Bounds) -> int:
    """Samples that the bounds rest on."""
    asked = sum(len(part.candidate.ids) for part in question.parts)
    units = bounds.clusters is None and not math.isnan(bounds.n)
    return min(asked, bounds.n) if units else asked


def _state(question: Question, one: Measured, holm_p: float, levels: Levels) -> tuple[State, str]:
    """PASS by the bound on the good side, FAIL by the adjusted p (or the bound at the family's level), or neither."""
    bounds, rules = one.bounds, question.check.statistics
    assert bounds is not None
    if bounds.problem:
        return State.INCONCLUSIVE, bounds.problem
    samples = _samples(question, bounds)
    if samples < rules.min_samples:
        return State.INCONCLUSIVE, f"only {samples} samples, the policy wants {rules.min_samples}"
    if _repeats(question) < rules.repeats:
        return State.INCONCLUSIVE, f"only {_repeats(question)} repeats, the policy wants {rules.repeats}"
    if _fails(bounds, one.limit, holm_p, levels):
        return State.FAIL, ""
    if bounds.short:
        return State.INCONCLUSIVE, bounds.short
    return (State.PASS if bounds.low >= one.limit - _TIE else State.INCONCLUSIVE), ""


_TIE = 1e-12
"""Equality counts as PASS, and 0.1 + 0.2 as 0.3."""


def _fails(bounds: Bounds, limit: float, holm_p: float, levels: Levels) -> bool:
    if math.isnan(bounds.p_fail):
        return bounds.high < limit - _TIE
    return holm_p <= levels.passing


def _with_numbers(base: Instance, one: Measured, holm_p: float) -> Instance:
    """The numbers turned back into the metric's own direction; a difference stays candidate minus baseline."""
    bounds = one.bounds
    assert bounds is not None
    ends = (bounds.low, bounds.high) if one.sign > 0 else (-bounds.high, -bounds.low)
    return replace(
        base,
        estimate=_known(one.sign * bounds.estimate),
        low=_known(ends[0]),
        high=_known(ends[1]),
        observed=None if one.observed is None else _known(one.sign * one.observed),
        n=bounds.n,
        n_eff=bounds.n_eff,
        clusters=bounds.clusters,
        fixed=one.fixed,
        broke=one.broke,
        method=bounds.method,
        p_pass=_known(bounds.p_pass),
        p_fail=_known(bounds.p_fail),
        holm_p=_known(holm_p),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _outlook(question: Question, one: Measured, state: State, reason: str, levels: Levels) -> dict[str, Any]:
    """For an open question: how many samples would settle it."""
    bounds = one.bounds
    assert bounds is not None
    if state is not State.INCONCLUSIVE or bounds.problem or math.isnan(bounds.se) or math.isnan(one.limit):
        return {"reason": reason}
    rules, samples = question.check.statistics, sum(len(part.candidate.ids) for part in question.parts)
    if _repeats(question) < rules.repeats:
        return {"reason": reason}
    distance = bounds.estimate - one.limit
    if unlikely_to_settle(distance, 0.0, bounds.se):
        return {"reason": reason or SETTLED}
    needed = needed_for_margin(bounds.se**2 * samples, abs(distance), 0.0, levels.passing)
    if needed is None:
        return {"reason": reason}
    least = max(needed, samples + 1, rules.min_samples, _floor(question.limit, levels))
    return {"reason": reason, "needed": two_digits(least)}


def _floor(limit: Limit, levels: Levels) -> int:
    """Samples below which no result passes."""
    if limit.kind != "no_worse_than" or limit.relative or not 0 < limit.value < 1:
        return 0
    return margin_floor(limit.value, levels.passing) or 0


# -- waivers -------------------------------------------------------------------------------------------------------


def _waived(instance: Instance, question: Question, policy: Policy, levels: Levels, context: Context) -> Instance:
    """The instance with the waiver that lets it count as passed, where there is one and it suffices."""
    if instance.state in (State.PASS, State.INVALID):
        return instance
    for waiver in policy.waivers:
        if waiver.check == question.check.id and _covers(waiver, question) and _valid(waiver, policy, context):
            moved = measure(question, waiver.limit_for(question.limit), levels, context.prices)
            state = (
                _state(question, moved, math.nan if moved.bounds is None else 1.0, levels)[0]
                if moved.bounds
                else State.INVALID
            )
            if state is State.PASS:
                expires = waiver.expires.isoformat()
                applied = Applied(waiver.down_to, waiver.reason, waiver.owner, waiver.issue, expires)
                return replace(instance, waiver=applied)
    return instance


def _valid(waiver: Waiver, policy: Policy, context: Context) -> bool:
    return not waiver_problems(replace(policy, waivers=(waiver,)), context.today)


def _covers(waiver: Waiver, question: Question) -> bool:
    """Whether the waiver's ``where`` selects this instance; what an instance has no value for is not covered."""
    where = waiver.where
    is_score = any(part.metric == part.candidate.score.name for part in question.parts)
    metrics = (question.metric, *([SCORE] if is_score else []))
    pairs: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(where.metric, metrics)]
    pairs += [(where.benchmark, (question.benchmark,)), (where.domain, (question.benchmark.split("/")[0],))]
    pairs += [(values, (question.where.get(key, ""),)) for key, values in where.slice.items()]
    return all(not wanted or any(fnmatchcase(v, one) for one in wanted for v in have) for wanted, have in pairs)
