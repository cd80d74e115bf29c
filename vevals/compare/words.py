"""A comparison in plain sentences: the same words on the command line, in a report and in a comment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vevals.compare.result import CONFIDENCE, Change, Difference, DomainChange, Finding, Rule, Units
from vevals.display import COARSE_ERROR, number, percent
from vevals.statistics.intervals import z_of
from vevals.statistics.power import two_digits
from vevals.types import Estimate

WORDS = {
    Finding.worse_beyond: "worse by more than {margin}",
    Finding.worse: "worse; whether by more than {margin} is open",
    Finding.worse_within: "worse, but not by more than {margin}",
    Finding.better: "better",
    Finding.not_worse: "not worse by more than {margin}",
}
NO_MARGIN = {Finding.worse: "worse", Finding.open: "cannot tell them apart"}
DIGITS = 2
MOST_DECIMALS = 6
ROUNDING = 1e-9


def line(change: Change, rule: Rule) -> str:
    """``−1.2 points (−3.6 to +1.1): cannot tell for a 3-point margin; ...; 14 fixed, 20 broke``."""
    return f"{sentence(change.difference, change.units, rule)}; {flips(change.difference, change.units)}"


def sentence(difference: Difference, units: Units, rule: Rule) -> str:
    """The difference, its interval, and what they say: one of six sentences, see ``Finding``."""
    shown = amount(difference, units, rule)
    if math.isnan(difference.low):
        return f"{shown}: cannot tell ({difference.method})"
    if not math.isfinite(units.span):
        return f"{shown}: {NO_MARGIN.get(difference.finding) or WORDS[difference.finding]}"
    if difference.finding is Finding.open:
        return f"{shown}: {_cannot_tell(difference, units, rule)}"
    return f"{shown}: {WORDS[difference.finding].format(margin=_margin(units, rule))}"


def domain_sentence(domain: DomainChange, rule: Rule) -> str:
    """As ``sentence``, for the mean of a domain's benchmarks; in points of gain."""
    units = Units(0.0, 1.0)
    if domain.without:
        return f"{_plus(100 * domain.value, 1)} points: no interval, {listed(domain.without)} has none"
    shown = _signed((domain.value, domain.low, domain.high), units, rule)
    if domain.finding is Finding.open:
        return f"{shown}: cannot tell for a {_margin(units, rule, '-point')} margin"
    return f"{shown}: {WORDS[domain.finding].format(margin=_margin(units, rule))}"


def amount(difference: Difference, units: Units, rule: Rule) -> str:
    """``−1.2 points (−3.6 to +1.1)``; other metrics than those from 0 to 1 in their own units.

    Where lower is better, the brackets say so.
    """
    if math.isnan(difference.value):
        return "no difference known"
    if math.isnan(difference.low):
        value = _points(_plus(100 * difference.value, 1)) if units.points else _plus(difference.value, DIGITS)
        return f"{value} (no interval)"
    return _signed((difference.value, difference.low, difference.high), units, rule)


def estimated(estimate: Estimate, units: Units) -> str:
    """One side: ``82.4% (78.8–85.5)``, or a number in the metric's own units."""
    if units.points or math.isnan(estimate.value):
        return percent(estimate)
    if math.isnan(estimate.low):
        return f"{number(estimate.value, DIGITS)} (no interval)"
    decimals = _decimals(estimate.low, estimate.high, units)
    value, low, high = (number(one, decimals) for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low}–{high})" if estimate.low >= 0 else f"{value} ({low} to {high})"


def whatever(change: Change) -> str:
    """``−3.0 to +4.0 points whatever the rows without a value are (A 2, B 0)``; empty without such rows or bounds."""
    missing, units = change.missing, change.units
    if missing.low is None or missing.high is None:
        return ""
    factor = 100.0 if units.points else 1.0
    decimals = 1 if units.points else _decimals(missing.low, missing.high, units)
    low, high = _plus(factor * missing.low, decimals), _plus(factor * missing.high, decimals)
    rows = f"the rows without a value are (A {missing.candidate:,}, B {missing.baseline:,})"
    return f"{low} to {high}{' points' if units.points else ''} whatever {rows}"


def flips(difference: Difference, units: Units) -> str:
    """``14 fixed, 20 broke``; ``improved`` and ``got worse`` where values are not only right or wrong."""
    fixed, broke = ("fixed", "broke") if units.binary else ("improved", "got worse")
    return f"{difference.fixed:,} {fixed}, {difference.broke:,} {broke}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def p_value(p: float) -> str:
    """``p = 0.39``, ``p < 0.001``; empty where there is none."""
    if math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _cannot_tell(difference: Difference, units: Units, rule: Rule) -> str:
    margin = f"a {_margin(units, rule, '-point')} margin" if units.points else f"a margin of {_margin(units, rule)}"
    if difference.needed is None:
        return f"cannot tell for {margin}; more samples are unlikely to settle this"
    return f"cannot tell for {margin}; about {two_digits(difference.needed):,} samples would"


def _margin(units: Units, rule: Rule, suffix: str = "") -> str:
    """``3 points``, ``1 point``, ``3-point``; in the metric's own units where it does not run from 0 to 1."""
    if not units.points:
        return f"{rule.margin * units.span:.{DIGITS}g}"
    points = f"{100 * rule.margin:.10g}"
    return f"{points}{suffix}" if suffix else f"{points} point{'' if points == '1' else 's'}"


def _signed(numbers: tuple[float, float, float], units: Units, rule: Rule) -> str:
    """Value and interval. No bound is rounded onto 0 or the margin, which would contradict the sentence."""
    factor = 100.0 if units.points else 1.0
    _, low, high = numbers
    decimals = _decimals(low, high, units)
    margin = rule.margin_in(units) or 0.0
    while decimals < MOST_DECIMALS and any(
        round(factor * bound, decimals) == round(factor * edge, decimals) and abs(bound - edge) > ROUNDING
        for bound in (low, high)
        for edge in (0.0, margin, -margin)
    ):
        decimals += 1
    value, least, most = (_plus(factor * one, decimals) for one in numbers)
    lower = "; lower is better" if units.sign < 0 else ""
    return f"{_points(value) if units.points else value} ({least} to {most}{lower})"


def _points(text: str) -> str:
    return f"{text} point" if text.lstrip("+−") == "1" else f"{text} points"


def _decimals(low: float, high: float, units: Units) -> int:
    """One, none where the standard error exceeds 2 points; else two digits of the interval's width."""
    if units.points:
        return 0 if (high - low) / 2 / z_of(CONFIDENCE) > COARSE_ERROR else 1
    return min(MOST_DECIMALS, max(0, DIGITS - 1 - math.floor(math.log10(high - low)))) if high > low else DIGITS


def _plus(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text
