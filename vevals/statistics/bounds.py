"""One-sided bounds and p-values against a limit below which a value must not fall: what a gate decides by.

Everything here is oriented: higher is better, and ``limit`` is a least value. Callers mirror what is not. ``alpha`` is
the error allowed to each side; ``keys`` is the cluster of each value, or None. With a ``problem`` all bounds are NaN,
so that no comparison with them can hold.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vevals.statistics import clusters, paired
from vevals.statistics.intervals import FEWEST_BCA_UNITS, Statistic, Values, bca_bounds, clopper_pearson, plus2_moments

Array = NDArray[np.float64]
Keys = Sequence[Hashable] | None
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bounds:
    """An estimate against a limit.

    ``low``: the true value is at least this, at confidence 1 - alpha (decides PASS); ``high``: at most this (decides
    FAIL). ``p_pass`` tests "true value < limit", ``p_fail`` tests "true value >= limit"; NaN where the method has none.
    ``problem``: why nothing can be concluded. ``short``: why PASS alone is out of reach (too few samples for the
    margin), whatever ``low`` says.

    ``estimate`` is the plain mean; ``se`` the standard error that the bounds rest on. ``n_eff``: independent samples
    that the ``n`` are worth; for BCa the number of units.
    """

    estimate: float
    low: float
    high: float
    p_pass: float
    p_fail: float
    se: float
    n: int
    n_eff: float
    clusters: int | None
    method: str
    problem: str = ""
    short: str = ""


def rate_at_least(values: Values, limit: float, alpha: float, keys: Keys = None) -> Bounds:
    """A rate of values 0 and 1 (1 = best): Clopper-Pearson, at the effective n with clusters.

    Source: Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    x, members = _whole(values, (0, 1)), clusters.shared(keys)
    why = paired.refusal(len(x), members)
    if why:
        return _undecided(x, members, "Clopper-Pearson", why)
    n = len(x)
    worth = float(n) if members is None else clusters.effective_n(x, members, 1 - 2 * alpha)
    k = float(x.sum()) if members is None else float(x.mean()) * worth
    low, high = clopper_pearson(k, worth, 1 - 2 * alpha)
    p_pass, p_fail = _rate_p(k, worth, limit)
    centre = (k + 1) / (worth + 2)
    error = math.sqrt(centre * (1 - centre) / (worth + 2))
    count, method = _named("Clopper-Pearson", members, worth)
    return Bounds(float(x.mean()), low, high, p_pass, p_fail, error, n, worth, count, method)


def mean_at_least(values: Values, ends: tuple[float, float], limit: float, alpha: float, keys: Keys = None) -> Bounds:
    """A mean of values between ``ends``: plus-2, over clusters with Student's t.

    Source: the pseudo-observations of Bonett and Price (2012), doi:10.3102/1076998611411915, for a bounded mean.
    """
    x, members, (least, most) = paired.finite(values), clusters.shared(keys), sorted(ends)
    why = paired.refusal(len(x), members, most - least)
    if why:
        return _undecided(x, members, "plus-2", why)
    if members is None:
        worth, degrees, (centre, error) = float(len(x)), None, plus2_moments(x, least, most)
    else:
        worth, degrees = _worth_of_mean(x, members), len(members) + 1
        centre, error = clusters.plus2_cluster_moments(x, members, (least, most))
    reach = _quantile(1 - alpha, degrees) * error
    low, high = max(least, centre - reach), min(most, centre + reach)
    p_pass, p_fail = _cdf((limit - centre) / error, degrees), _cdf((centre - limit) / error, degrees)
    count, method = _named("plus-2", members, worth)
    return Bounds(float(x.mean()), low, high, p_pass, p_fail, error, len(x), worth, count, method)


def paired_rates(differences: Values, margin: float, alpha: float, keys: Keys = None) -> Bounds:
    """A paired difference of binary values (-1, 0 or 1), not below ``-margin``.

    ``low`` is Tango's bound, with no pair fixed also the exact bound of the loss rate; PASS moreover needs the floor of
    :func:`vevals.statistics.paired.margin_floor`, else ``short`` says so. ``high`` is that of plus-2.
    Source: Tango (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B; Bonett and Price (2012),
    doi:10.3102/1076998611411915.
    """
    d, members = _whole(differences, (-1, 0, 1)), clusters.shared(keys)
    why = paired.refusal(len(d), members)
    if why:
        return _undecided(d, members, "Tango and plus-2", why)
    counts = paired.effective_flips(d, members, 1 - 2 * alpha)
    centre, error = paired.plus2_paired_moments(*counts)
    low, p_pass = _no_worse(counts, margin, alpha)
    high = min(1.0, centre + _quantile(1 - alpha) * error)
    p_fail = _cdf((centre + margin) / error)
    count, method = _named("Tango and plus-2", members, counts[2])
    short = _short(counts[2], margin, alpha, effective=members is not None)
    return Bounds(float(d.mean()), low, high, p_pass, p_fail, error, len(d), counts[2], count, method, short=short)


def paired_means(differences: Values, span: float, margin: float, alpha: float, keys: Keys = None) -> Bounds:
    """A paired difference of values in a range of width ``span``, not below ``-margin`` (same units): plus-2."""
    return mean_at_least(differences, (-span, span), -margin, alpha, keys)


def statistic_at_least(
    statistic: Statistic,
    units: clusters.Members,
    limit: float,  # noqa: ARG001
    alphas: tuple[float, float],
    seed: int = 0,
) -> Bounds:
    """Anything that rows give as a whole (macro-F1, a ratio of costs, candidate minus baseline): one-sided BCa.

    Args:
        statistic: row indices (m,), repeats allowed -> value.
        units: row indices of each unit that is drawn as one: single rows, or clusters.
        limit: for the caller to compare the bounds with; it would enter p-values, and BCa has none.
        alphas: for the bound that decides PASS, and for the one that decides FAIL.

    Source: Efron (1987), doi:10.1080/01621459.1987.10478410.
    """
    n = sum(len(unit) for unit in units)
    count = None if n == len(units) else len(units)
    estimate = float(statistic(np.concatenate(units))) if n else math.nan
    method = "BCa" if count is None else f"BCa, {count} clusters"
    low, high, error = bca_bounds(statistic, units, alphas, seed)
    problem = _bca_problem(estimate, len(units), low, of="samples" if count is None else "clusters")
    return Bounds(estimate, low, high, math.nan, math.nan, error, n, float(len(units)), count, method, problem)


def quantile_at_most(values: Values, q: float, limit: float, alphas: tuple[float, float], keys: Keys = None) -> Bounds:
    """The ``q`` quantile of values where lower is better, **mirrored**: the bounds are those of minus the quantile, to
    be compared with ``-limit``, so that higher is better here as well.

    Order statistics, with clusters BCa; no p-values. Where no order statistic is an upper bound, ``low`` is -inf and
    ``short`` says how many samples would do; where none is a lower bound, ``high`` is inf. ``alphas`` and ``limit`` are
    those of :func:`statistic_at_least`. Source: Conover (1999), Practical Nonparametric Statistics, section 3.2.
    """
    x, members = paired.finite(values), clusters.shared(keys)
    if members is not None:
        return statistic_at_least(lambda rows: -float(np.quantile(x[rows], q)), members, -limit, alphas)
    n, method = len(x), "order statistics"
    if not n:
        return _undecided(x, None, method, "no samples")
    (lower, upper), ordered = _ranks(n, q, alphas), np.sort(x)
    low = -float(ordered[upper - 1]) if upper <= n else -math.inf
    high = -float(ordered[lower - 1]) if lower >= 1 else math.inf
    known = math.isfinite(low) and math.isfinite(high)
    error = (high - low) / (_quantile(1 - alphas[0]) + _quantile(1 - alphas[1])) if known else math.nan
    short = "" if upper <= n else _too_few(q, alphas[0], n)
    estimate = -float(np.quantile(x, q))
    return Bounds(estimate, low, high, math.nan, math.nan, error, n, float(n), None, method, short=short)


def _whole(values: Values, allowed: tuple[int, ...]) -> Array:
    """``values`` as whole numbers. ValueError if one is not among ``allowed``: it needs the bounds of a mean."""
    x = paired.finite(values)
    rounded = np.rint(x)
    if not (np.isin(rounded, allowed) & (np.abs(x - rounded) < ROUNDING)).all():
        raise ValueError(f"a value is none of {', '.join(map(str, allowed))}; use the bounds of a mean for it")
    return rounded


def _undecided(x: Array, members: clusters.Members | None, method: str, why: str) -> Bounds:
    nan, count = math.nan, None if members is None else len(members)
    mean = float(x.mean()) if len(x) else nan
    worth = float(len(x) if count is None else count)
    return Bounds(mean, nan, nan, nan, nan, nan, len(x), worth, count, method, problem=why)


def _named(method: str, members: clusters.Members | None, worth: float) -> tuple[int | None, str]:
    if members is None:
        return None, method
    return len(members), f"{method}, {len(members)} clusters, n_eff {worth:.1f}"


def _rate_p(k: float, n: float, limit: float) -> tuple[float, float]:
    """(p of "rate < limit", p of "rate >= limit"), by the binomial distribution continued to real ``k`` and ``n``."""
    from scipy.special import betainc, betaincc

    if not 0 < limit <= 1:
        return (0.0, 1.0) if limit <= 0 else (1.0, 0.0)
    p_pass = float(betainc(k, n - k + 1, limit)) if k > 0 else 1.0
    p_fail = float(betaincc(k + 1, n - k, limit)) if k < n else 1.0
    return p_pass, p_fail


def _no_worse(counts: paired.Counts, margin: float, alpha: float) -> tuple[float, float]:
    """Tango's lower bound and the p-value of "difference < -margin"; with none fixed no better than the exact ones of
    the loss rate.
    """
    b, c, n = counts
    low = paired.tango_lower(b, c, n, _quantile(1 - alpha))
    p_pass = _cdf(-paired.tango_score(b, c, n, -min(margin, 1.0)))
    if b > 0:
        return low, p_pass
    exact = clopper_pearson(c, n, 1 - 2 * alpha)[1]
    return min(low, -exact), max(p_pass, _rate_p(c, n, margin)[1])


def _short(n: float, margin: float, alpha: float, *, effective: bool) -> str:
    floor = paired.margin_floor(margin, alpha)
    if floor is None or n >= floor:
        return ""
    here = f"these clusters are worth {n:,.1f}" if effective else f"there are {n:,.0f}"
    return f"a margin of {100 * margin:g} points needs {floor:,} samples at the least, {here}"


def _worth_of_mean(x: Array, members: clusters.Members) -> float:
    effect = clusters.design_effect(*clusters.sums_and_sizes(x, members), float(x.var()))
    return float(len(members)) if math.isnan(effect) else len(x) / effect


def _bca_problem(estimate: float, units: int, low: float, *, of: str) -> str:
    if units < FEWEST_BCA_UNITS:
        return f"only {units} {of}, {FEWEST_BCA_UNITS} are needed"
    if not math.isfinite(estimate):
        return "the statistic has no value on these samples"
    return "" if math.isfinite(low) else "the statistic is constant or undefined when samples are redrawn"


def _ranks(n: int, q: float, alphas: tuple[float, float]) -> tuple[int, int]:
    """Ranks (1 to n) of the lower and the upper bound of the ``q`` quantile; 0 and n + 1 where there is none."""
    from scipy.special import bdtr

    cumulative = bdtr(np.arange(n + 1), n, q)
    return int(np.searchsorted(cumulative, alphas[1])), int(np.searchsorted(cumulative, 1 - alphas[0])) + 1


def _too_few(q: float, alpha: float, n: int) -> str:
    needed = math.ceil(math.log(alpha) / math.log(q) - ROUNDING)
    return f"an upper bound of the {100 * q:g}% quantile needs {needed:,} samples at the least, there are {n:,}"


def _cdf(x: float, degrees: int | None = None) -> float:
    """Normal distribution function, or Student's with these degrees of freedom."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(x) if degrees is None else stdtr(degrees, x))


def _quantile(p: float, degrees: int | None = None) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(p) if degrees is None else stdtrit(degrees, p))
