"""The lines in which checks are shown: one wording for the terminal, Markdown, JUnit and comparisons.

Only this module knows how an estimate, its bounds and what was concluded are put into words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from vevals import display
from vevals.gate.verdict import Instance, Severity, State, Verdict

WAIVED = "WAIVED"
COARSE_ERROR = 100 * display.COARSE_ERROR
MOST_DECIMALS = 6
TIE = 1e-9
SETTLED = "more samples are unlikely to settle this"
ESTIMAND = (
    "on questions like these: the samples count as a random draw, and the bounds speak of what they were drawn from; "
    'not "on exactly these"'
)
LOST = ("failed", "unjudgeable")
_BREAKS = re.compile(r"[^\S ]+")
RELATIVE_KINDS = ("no_worse_than", "max_increase")


@dataclass(frozen=True, slots=True)
class Flip:
    """One sample whose outcome changed from baseline to candidate; texts are as the models wrote them."""

    benchmark: str
    sample: str
    direction: Literal["broke", "fixed"]
    baseline: str
    candidate: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """How numbers of one kind are written: times ``factor``, between ``before`` and ``after``.

    ``step`` stands in place of ``after`` behind a difference ("points"), ``close`` behind each of its bounds.
    """

    factor: float = 1.0
    before: str = ""
    after: str = ""
    step: str = ""
    close: str = ""

    def level(self, value: float, decimals: int) -> str:
        """``82.4%``, ``2.31 s``, ``$1.20``."""
        text = display.number(self.factor * value, decimals)
        return f"−{self.before}{text[1:]}{self.after}" if text.startswith("−") else f"{self.before}{text}{self.after}"

    def bound(self, value: float, decimals: int) -> str:
        """A bound of a level: the bare number."""
        return display.number(self.factor * value, decimals)

    def change(self, value: float, decimals: int) -> str:
        """``−1.2 points``, ``+12%``, ``+0.31 s``, ``−$0.10``."""
        return f"{signed(self.factor * value, decimals, self.before)}{self.step}"

    def change_bound(self, value: float, decimals: int) -> str:
        """A bound of a difference: with its sign."""
        return f"{signed(self.factor * value, decimals)}{self.close}"

    def exact(self, value: float) -> str:
        """A limit as the policy has it, in as many digits as it needs: ``80%``, ``0.5%``, ``2.5 s``."""
        return f"{self.before}{shortest(self.factor * value)}{self.after}"


PERCENT = Scale(100, after="%", step=" points")
GROWTH = Scale(100, after="%", step="%", close="%")
SECONDS = Scale(after=" s", step=" s")
TOKENS = Scale(after=" tokens", step=" tokens")
DOLLARS = Scale(before="$")
PLAIN = Scale()


@dataclass(frozen=True, slots=True)
class Reading:
    """An estimate with its one-sided bounds at ``1 - alpha``; a bound that does not exist is None.

    ``change``: candidate minus baseline. ``limits``: what the bounds must not be rounded across.
    """

    value: float
    low: float | None
    high: float | None
    alpha: float
    change: bool = False
    limits: tuple[float, ...] = ()

    @property
    def error(self) -> float:
        """The standard error that the bounds imply; NaN without two bounds."""
        if self.low is None or self.high is None:
            return math.nan
        return (self.high - self.low) / 2 / NormalDist().inv_cdf(1 - self.alpha)


def line(instance: Instance) -> str:
    """The display line of one check: state, numbers, what follows from them."""
    return f"{word(instance)}  {body(instance)}"


def word(instance: Instance) -> str:
    """The state as shown: a waived check is neither passed nor failed."""
    return WAIVED if instance.waiver else instance.state.value


def body(instance: Instance) -> str:
    """The display line without its state; always one line, without characters that could steer a terminal."""
    facts = ", ".join(filter(None, [numbers(instance), _rows(instance), _seen(instance)]))
    told = _conclusion(instance)
    return plain(f"{facts}: {told}" if facts else told)


def numbers(instance: Instance) -> str:
    """``−1.2 points (90% −2.3 to −0.1)``; empty where nothing was measured."""
    value = known(instance.estimate)
    if value is None:
        return ""
    text = measured(_reading(instance, value), scale_of(instance))
    if instance.kind == "judge":
        return f"kappa {text}"
    if instance.kind == "contamination":
        return f"{text} flagged"
    return f"{text} beyond the margin" if instance.relative else text


def measured(reading: Reading, scale: Scale) -> str:
    """``82.4% (90% 79.4–85.2)``: the estimate with its bounds, named by the two-sided level that they make together."""
    decimals = _decimals(reading, scale)
    show, bound = (scale.change, scale.change_bound) if reading.change else (scale.level, scale.bound)
    text = show(reading.value, decimals)
    low = None if reading.low is None else bound(reading.low, decimals)
    high = None if reading.high is None else bound(reading.high, decimals)
    if low is None and high is None:
        return text
    joint = confidence(1 - 2 * reading.alpha)
    if low is None or high is None:
        return f"{text} ({joint} {f'up to {high}' if low is None else f'from {low}'})"
    dash = "–" if not reading.change and not low.startswith("−") else " to "
    return f"{text} ({joint} {low}{dash}{high})"


def counted(n: int, fixed: int | None, broke: int | None, noun: str = "sample") -> str:
    """``1,500 samples, 42 fixed, 60 broke``."""
    parts = [f"{n:,} {noun}{'' if n == 1 else 's'}"]
    if fixed is not None and broke is not None:
        parts += [f"{fixed:,} fixed", f"{broke:,} broke"]
    return ", ".join(parts)


def headline(verdict: Verdict) -> str:
    """State, policy, both sides, and how the blocking checks came out."""
    sides = name_of(verdict.candidate)
    if verdict.baseline is not None:
        sides += f" against {name_of(verdict.baseline)}"
    softened = "" if verdict.exit_state is verdict.state else f" (the policy counts it as {verdict.exit_state.value})"
    state = f"{verdict.state.value}{softened}"
    return f"{state}  {plain(f'{name_of(verdict.policy)}, {sides}: {tally(verdict)}')}"


def tally(verdict: Verdict) -> str:
    """``8 blocking checks: 6 PASS, 1 WAIVED, 1 FAIL``."""
    blocking = [word(one) for one in verdict.instances if one.severity is Severity.block]
    if not blocking:
        return "no blocking checks"
    counts = Counter(blocking)
    order = [State.PASS.value, WAIVED, *(state.value for state in State if state is not State.PASS)]
    told = ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
    return f"{len(blocking):,} blocking {'check' if len(blocking) == 1 else 'checks'}: {told}"


def banner(verdict: Verdict) -> list[str]:
    """The headline, the attempt, and why the policy as a whole cannot be decided."""
    return [headline(verdict), *filter(None, [attempt(verdict)]), *(plain(reason) for reason in verdict.reasons)]


def attempt(verdict: Verdict) -> str:
    """``attempt 3: judged at 98.75%``; empty for the first attempt."""
    if verdict.attempt == 1:
        return ""
    alphas = [one.alpha for one in verdict.instances]
    judged = f": judged at {confidence(1 - max(alphas))}" if alphas else ""
    return f"attempt {verdict.attempt}{judged}"


def explain(instance: Instance) -> list[str]:
    """What is folded away under a check's line: how it was computed, and what its numbers speak of."""
    return [*computed(instance), *([] if known(instance.estimate) is None else [f"estimand: {ESTIMAND}"])]


def computed(instance: Instance) -> list[str]:
    """How a check was computed: method, sizes, bounds, tests, outcomes, digests of the scores, waiver."""
    found = [_told_method(instance), _told_samples(instance), _told_bounds(instance), _told_p(instance)]
    found += [_told_outcomes("candidate", instance.outcomes), _told_outcomes("baseline", instance.baseline_outcomes)]
    found += [f"scores of the {side}: sha256 {digest}" for side, digest in sorted(instance.scores.items())]
    return [plain(text) for text in [*found, _told_waiver(instance)] if text]


def plain(text: str) -> str:
    """One line of ``text`` from outside: control and bidirectional characters visible, no line breaks."""
    return _BREAKS.sub(" ", display.visible(text)).strip()


def name_of(side: Mapping[str, Any]) -> str:
    """The name of a policy or a run set in a verdict."""
    return str(side.get("name") or "unnamed")


def confidence(level: float) -> str:
    """``90%``, ``98.75%``."""
    return f"{100 * level:.5g}%"


def p_value(p: float) -> str:
    """``p < 0.001``, ``p = 0.021``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed(value: float, decimals: int, unit: str = "") -> str:
    """``+0.8``, ``−1.2``, ``0.0``; ``unit`` goes behind the sign."""
    text = display.number(value, decimals)
    if text.startswith("−"):
        return f"−{unit}{text[1:]}"
    return f"+{unit}{text}" if float(text) else f"{unit}{text}"


def shortest(value: float) -> str:
    """A limit without trailing zeros: ``3``, ``2.5``, ``−0.1``."""
    text = f"{float(f'{value:.10g}'):,.10f}".rstrip("0").rstrip(".")
    return display.number(0.0, 0) if text in ("-0", "0") else text.replace("-", "−")


def known(value: float | None) -> float | None:
    """``value``, or None where it is missing, NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def scale_of(instance: Instance) -> Scale:
    """How the numbers of this check are written: by its kind, then by the metric's name."""
    if instance.kind == "max_increase":
        return GROWTH
    if instance.kind == "judge":
        return PLAIN
    if instance.metric.startswith("usd_"):
        return DOLLARS
    if instance.metric.startswith("seconds."):
        return SECONDS
    if instance.metric.endswith("_tokens.mean"):
        return TOKENS
    return PERCENT if instance.share else PLAIN


# -- the parts of a line -------------------------------------------------------------------------------------------


def _reading(instance: Instance, value: float) -> Reading:
    limit = known(instance.limit)
    edges: tuple[float, ...] = () if limit is None else (limit,)
    if instance.kind == "no_worse_than":
        edges = () if limit is None else (0.0,) if instance.relative else (-abs(limit), abs(limit))
    change = instance.kind in RELATIVE_KINDS
    return Reading(value, known(instance.low), known(instance.high), instance.alpha, change, edges)


def _decimals(reading: Reading, scale: Scale) -> int:
    """One for percentages and points, none if the standard error exceeds 2; elsewhere two digits of the error.

    More where rounding would put a bound onto or across the limit: text and state must agree.
    """
    error = scale.factor * reading.error
    if scale.factor != 1:
        decimals = 0 if error > COARSE_ERROR else 1
    elif error > 0:
        decimals = min(max(1 - math.floor(math.log10(error)), 0), MOST_DECIMALS)
    else:
        decimals = _digits(reading.value)
    while decimals < MOST_DECIMALS and _crosses(reading, scale, decimals):
        decimals += 1
    return decimals


def _digits(value: float) -> int:
    """Decimals that leave three digits."""
    return min(max(2 - math.floor(math.log10(abs(value))), 0), MOST_DECIMALS) if value else 1


def _crosses(reading: Reading, scale: Scale, decimals: int) -> bool:
    shown = [scale.factor * bound for bound in (reading.low, reading.high) if bound is not None]
    limits = [scale.factor * limit for limit in reading.limits]
    return any(_side(bound, limit) != _side(round(bound, decimals), limit) for bound in shown for limit in limits)


def _side(value: float, limit: float) -> int:
    return 0 if abs(value - limit) < TIE else (1 if value > limit else -1)


def _rows(instance: Instance) -> str:
    if not instance.n:
        return ""
    noun = "label" if instance.kind == "judge" else "sample"
    return counted(instance.n, instance.fixed, instance.broke, noun)


def _seen(instance: Instance) -> str:
    """How many rows have no value, and the estimate without them where it differs."""
    value, estimate = known(instance.observed), known(instance.estimate)
    if value is None or estimate is None:
        return ""
    lost = sum(side.get(name, 0) for side in (instance.outcomes, instance.baseline_outcomes) for name in LOST)
    told = f"{lost:,} {'row' if lost == 1 else 'rows'} without a value"
    reading, scale = _reading(instance, estimate), scale_of(instance)
    decimals = _decimals(reading, scale)
    show = scale.change if reading.change else scale.level
    same = show(value, decimals) == show(estimate, decimals)
    return told if same else f"{told} ({show(value, decimals)} without them)"


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a check claims of its limit, in words."""

    holds: str
    broken: str
    question: str
    accepted: str


def _conclusion(instance: Instance) -> str:
    if instance.waiver:
        return _waived(instance)
    if instance.state is State.INVALID:
        return instance.reason or "no reason was recorded"
    claim = _claim(instance)
    if instance.state is State.INCONCLUSIVE:
        return _open(instance, claim)
    return _settled(instance, claim) + (f"; {instance.reason}" if instance.reason else "")


def _settled(instance: Instance, claim: _Claim) -> str:
    if instance.state is State.PASS:
        return claim.holds
    p = known(instance.holm_p)
    return claim.broken if p is None else f"{claim.broken} (Holm {p_value(p)})"


def _open(instance: Instance, claim: _Claim) -> str:
    text = f"cannot tell for {claim.question}"
    if instance.needed is not None:
        why = f" ({instance.reason})" if instance.reason else ""
        return f"{text}{why}; about {_about(instance.needed)} samples would"
    return f"{text}; {instance.reason or SETTLED}"


def _waived(instance: Instance) -> str:
    waiver, claim = instance.waiver, _claim(instance)
    assert waiver is not None
    text = f"cannot tell for {claim.question}"
    found = text if instance.state is State.INCONCLUSIVE else _settled(instance, claim)
    accepted = f"{claim.accepted} accepted until {waiver.expires} by {waiver.owner}"
    return f"{found}; {accepted}: {waiver.reason} ({waiver.issue})"


def _claim(instance: Instance) -> _Claim:
    limit = known(instance.limit)
    if limit is None:
        return _Claim("holds", "does not hold", "this check", "")
    scale = scale_of(instance)
    moved = instance.waiver.down_to if instance.waiver else limit
    if instance.kind == "no_worse_than" and instance.relative:
        return _relative_margin(abs(limit), abs(moved))
    if instance.kind == "no_worse_than":
        return _margin(abs(limit), abs(moved), scale)
    at, to = scale.exact(limit), scale.exact(moved)
    if instance.kind == "max_increase":
        return _Claim(
            f"no increase by more than {at}", f"increase by more than {at}", f"a limit of +{at}", f"up to +{to}"
        )
    if instance.kind in ("at_most", "contamination"):
        return _Claim(f"at most {at}", f"above {at}", f"a ceiling of {at}", f"up to {to}")
    return _Claim(f"at least {at}", f"below {at}", f"a floor of {at}", f"down to {to}")


def _margin(margin: float, moved: float, scale: Scale) -> _Claim:
    def amount(value: float) -> str:
        text = f"{scale.before}{shortest(scale.factor * value)}"
        return f"{text} point{'' if text == '1' else 's'}" if scale is PERCENT else f"{text}{scale.step}"

    accepted = f"worse by up to {amount(moved)}"
    if not margin:
        return _Claim("not worse", "worse", "a margin of 0", accepted)
    told = amount(margin)
    question = f"a margin of {told}"
    if scale is PERCENT:
        number = shortest(100 * margin)
        question = f"{'an' if number[0] == '8' or number.split('.')[0] in ('11', '18') else 'a'} {number}-point margin"
    return _Claim(f"not worse by more than {told}", f"worse by more than {told}", question, accepted)


def _relative_margin(margin: float, moved: float) -> _Claim:
    told = f"{PERCENT.exact(margin)} of the baseline"
    accepted = f"worse by up to {PERCENT.exact(moved)} of the baseline"
    return _Claim(f"not worse by more than {told}", f"worse by more than {told}", f"a margin of {told}", accepted)


def _about(n: int) -> str:
    """``1,300``: two digits."""
    return f"{round(n, 2 - len(str(n))):,}"


# -- how computed --------------------------------------------------------------------------------------------------


def _told_method(instance: Instance) -> str:
    return f"method: {instance.method}" if instance.method else ""


def _told_samples(instance: Instance) -> str:
    if not instance.n:
        return ""
    parts = [f"n = {instance.n:,}", f"K = {instance.repeats}"]
    if instance.clusters is not None:
        parts.append(f"G = {instance.clusters:,} clusters")
    if known(instance.n_eff):
        parts.append(f"effective n = {shortest(round(instance.n_eff, 1))}")
    if instance.fixed is not None and instance.broke is not None:
        parts.append(f"D = {instance.fixed + instance.broke:,} changed")
    return f"samples: {', '.join(parts)}"


def _told_bounds(instance: Instance) -> str:
    value, low, high = known(instance.estimate), known(instance.low), known(instance.high)
    if value is None or (low is None and high is None):
        return ""
    reading, scale = _reading(instance, value), scale_of(instance)
    decimals = _decimals(reading, scale) + 2
    show = scale.change if reading.change else scale.level
    parts = [] if low is None else [f"at least {show(low, decimals)}"]
    parts += [] if high is None else [f"at most {show(high, decimals)}"]
    each = "each " if len(parts) == 2 else ""
    return f"bounds: {', '.join(parts)}, {each}one-sided at {confidence(1 - instance.alpha)}"


def _told_p(instance: Instance) -> str:
    given = {"PASS": instance.p_pass, "FAIL": instance.p_fail, "FAIL after Holm": instance.holm_p}
    parts = [f"{name} {p_value(p)}" for name, p in given.items() if p is not None and math.isfinite(p)]
    return f"tests: {', '.join(parts)}, alpha {instance.alpha:.4g}" if parts else ""


def _told_outcomes(side: str, outcomes: Mapping[str, int]) -> str:
    told = ", ".join(f"{count:,} {name}" for name, count in outcomes.items() if count)
    return f"rows of the {side}: {told}" if told else ""


def _told_waiver(instance: Instance) -> str:
    waiver = instance.waiver
    if waiver is None:
        return ""
    terms = f"{waiver.owner}, {waiver.issue}, until {waiver.expires}"
    return f"waiver: found {instance.state.value}; {waiver.reason} ({terms})"
