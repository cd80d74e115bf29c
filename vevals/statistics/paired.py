"""Two models on the same samples: intervals, scores and p-values for the difference of their means.

Letters: n pairs, b of them "fixed" (the candidate is better), c "broke" (it is worse). b, c and n may be real, because
clusters turn them into effective numbers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from vevals.statistics import clusters
from vevals.statistics.intervals import NO_INTERVAL, Interval, Values, plus2, plus2_moments, z_of

BISECTIONS = 60
CONFIDENCE = 0.95
ROUNDING = 1e-9

Counts = tuple[float, float, float]
Keys = Sequence[Hashable] | None


def tango_score(b: float, c: float, n: float, delta: float) -> float:
    """Score statistic of the hypothesis "P(fixed) - P(broke) = delta"; about standard normal where it holds.

    Source: Tango (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
    """
    linear = -b - c + (2 * n - b + c) * delta
    root = math.sqrt(max(linear * linear + 8 * n * c * delta * (1 - delta), 0.0))
    broke = max((root - linear) / (4 * n), 0.0, -delta)  # restricted likelihood estimate of P(broke)
    variance, gap = n * (2 * broke + delta * (1 - delta)), b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


def tango(b: float, c: float, n: float, z: float) -> Interval:
    """The differences that the score test does not reject at ``z``; a one-sided bound takes z at 1 - alpha."""
    if n <= 0:
        return NO_INTERVAL
    return tango_lower(b, c, n, z), -tango_lower(c, b, n, z)


def tango_lower(b: float, c: float, n: float, z: float) -> float:
    """Lower end of :func:`tango`: where the score, which falls in delta, crosses ``z``."""
    left, right = -1.0, (b - c) / n
    if right <= -1:
        return -1.0
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        if tango_score(b, c, n, middle) > z:
            left = middle
        else:
            right = middle
    return (left + right) / 2


def plus2_paired_moments(b: float, c: float, n: float) -> tuple[float, float]:
    """Mean difference and its standard error, with one pseudo-pair fixed and one broke.

    Source: Bonett and Price (2012), doi:10.3102/1076998611411915.
    """
    fixed, broke = (b + 1) / (n + 2), (c + 1) / (n + 2)
    mean = fixed - broke
    return mean, math.sqrt((fixed + broke - mean * mean) / (n + 2))


def plus2_paired_binary(b: float, c: float, n: float, z: float) -> Interval:
    """Interval for P(fixed) - P(broke) from :func:`plus2_paired_moments`."""
    mean, error = plus2_paired_moments(b, c, n)
    return max(-1.0, mean - z * error), min(1.0, mean + z * error)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p-value of "as likely to fix as to break"; 1 where no pair differs.

    Source: McNemar (1947), doi:10.1007/BF02295996, with the binomial distribution in place of chi-square.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def margin_floor(margin: float, alpha: float) -> int | None:
    """Fewest pairs that can show a loss below ``margin`` (0 to 1): with none broke, 1 - alpha^(1/n) <= margin.

    None for margin 0: no number of pairs without a change shows it.
    """
    if margin <= 0:
        return None
    if margin >= 1:
        return 1
    return math.ceil(math.log(alpha) / math.log1p(-margin) - ROUNDING)


def flips(differences: Values) -> Counts:
    """(b, c, n) of signed differences."""
    d = np.asarray(differences, dtype=float)
    return float((d > 0).sum()), float((d < 0).sum()), float(len(d))


def effective_flips(
    differences: NDArray[np.float64], members: clusters.Members | None, confidence: float = CONFIDENCE
) -> Counts:
    """(b, c, n) scaled to the effective number of pairs of differences -1, 0 or 1; n itself without clusters."""
    b, c, n = flips(differences)
    if members is None:
        return b, c, n
    worth = clusters.effective_n_paired(np.sign(differences), members, confidence)
    return b / n * worth, c / n * worth, worth


def difference_interval(
    differences: Values, binary: bool, span: float, keys: Keys = None, confidence: float = CONFIDENCE
) -> tuple[float, float, str]:
    """Two-sided interval to show beside a mean paired difference, and its method.

    Args:
        differences: (n,) candidate minus baseline in the metric's units, higher better.
        binary: whether each is ``-span``, 0 or ``span``.
        span: best minus worst value of the metric.
        keys: the cluster of each pair, or None.

    NaN without pairs, with fewer than 10 clusters, or where ``span`` is not a finite width; the method says which.
    """
    d, members = finite(differences), clusters.shared(keys)
    method, why = "Tango" if binary else "plus-2", refusal(len(d), members, span)
    if why:
        return (*NO_INTERVAL, f"{method}: {why}")
    named = method if members is None else f"{method}, {len(members)} clusters"
    if binary:
        b, c, n = effective_flips(d, members, confidence)
        low, high = tango(b, c, n, z_of(confidence))
        return low * span, high * span, named if members is None else f"{named}, n_eff {n:.1f}"
    if members is None:
        return (*plus2(d, -span, span, confidence), named)
    return (*clusters.plus2_clusters(d, members, (-span, span), confidence), named)


def difference_p(differences: Values, binary: bool, span: float, keys: Keys = None) -> float:
    """Two-sided p-value of "no difference"; arguments and NaN as for :func:`difference_interval`.

    Exact McNemar for binary pairs, the score test at the effective n with clusters; else plus-2, normal or (clusters)
    Student's t.
    """
    from scipy.special import ndtr, stdtr

    d, members = finite(differences), clusters.shared(keys)
    if refusal(len(d), members, span):
        return math.nan
    if binary and members is None:
        b, c, _ = flips(d)
        return mcnemar(int(b), int(c))
    if binary:
        b, c, n = effective_flips(d, members)
        return 2 * float(ndtr(-abs(tango_score(b, c, n, 0.0))))
    if members is None:
        mean, error = plus2_moments(d, -span, span)
        return 2 * float(ndtr(-abs(mean) / error))
    mean, error = clusters.plus2_cluster_moments(d, members, (-span, span))
    return 2 * float(stdtr(len(members) + 1, -abs(mean) / error))


def finite(values: Values) -> NDArray[np.float64]:
    """``values`` as an array. ValueError if one is NaN or infinite: what has no value must be decided on before."""
    array = np.asarray(values, dtype=float)
    if not np.isfinite(array).all():
        raise ValueError("a value is NaN or infinite; leave such rows out, or fill them, before asking for an interval")
    return array


def refusal(n: int, members: clusters.Members | None, span: float = 1.0) -> str:
    """Why no interval can be given, or ""."""
    if n == 0:
        return "no samples"
    if not (math.isfinite(span) and span > 0):
        return "the ends of the metric are not two finite numbers"
    if members is not None and len(members) < clusters.FEWEST_CLUSTERS:
        return f"only {len(members)} clusters, {clusters.FEWEST_CLUSTERS} are needed"
    return ""
