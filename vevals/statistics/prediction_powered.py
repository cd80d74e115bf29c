"""A mean of human labels that a judge's scores make sharper without being trusted: prediction-powered inference.

Humans label some samples, the judge scores all of them; the labelled ones say how far the judge can be followed
(``lam``) and correct its bias. Pseudo-values at both ends keep small and lopsided sets of labels honest.
Source: Angelopoulos, Duchi and Zrnic (2023), arXiv:2311.01453; pseudo-values after Bonett and Price (2012),
doi:10.3102/1076998611411915.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vevals.statistics.bounds import Bounds
from vevals.statistics.clusters import FEWEST_CLUSTERS
from vevals.statistics.intervals import Values

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Powered:
    """A mean of human labels with its one-sided bounds, each at confidence 1 - alpha; NaN where ``problem`` says why.

    ``lam`` is the weight of the judge, 0 (ignored) to 1. ``labels`` and ``others`` count samples, ``clusters`` the
    clusters that hold a label; ``freedom`` is that of Student's t, infinite for normal quantiles.
    """

    lam: float
    theta: float
    se: float
    low: float
    high: float
    labels: int
    others: int
    freedom: float
    method: str
    clusters: int | None = None
    problem: str = ""

    def against(self, limit: float) -> Bounds:
        """The same evidence against "at least ``limit``" (for a difference: minus the margin).

        ``n`` counts labels, ``n_eff`` labels or clusters that hold one.
        """
        gap = math.nan if self.problem else (self.theta - limit) / self.se
        return Bounds(
            estimate=self.theta,
            low=self.low,
            high=self.high,
            p_pass=_tail(gap, self.freedom),
            p_fail=_tail(-gap, self.freedom),
            se=self.se,
            n=self.labels,
            n_eff=float(self.labels if self.clusters is None else self.clusters),
            clusters=self.clusters,
            method=self.method,
            problem=self.problem,
        )


def ppi_mean(
    labels: Values,
    judged: Values,
    unlabelled: Values,
    ends: tuple[float, float],
    alpha: float,
    *,
    keys: Sequence[Hashable] | None = None,
) -> Powered:
    """Mean of a score between ``ends`` (worst, best), plus-2.

    Args:
        labels: the humans' scores (n,).
        judged: the judge's scores of the same samples (n,).
        unlabelled: the judge's scores of all other samples (N,).
        alpha: error of each bound; 0.025 for a two-sided 95% interval.
        keys: clusters (n + N,) of the labelled samples, then of the others; None when samples are independent.
    """
    evidence = _Evidence.of(labels, judged, unlabelled)
    low, high = ends
    pseudo = np.array([high - evidence.lam * low, low - evidence.lam * high])
    return _plus2(evidence, pseudo, ends, alpha, keys)


def ppi_difference(
    labels: Values,
    judged: Values,
    unlabelled: Values,
    span: float,
    alpha: float,
    *,
    keys: Sequence[Hashable] | None = None,
) -> Powered:
    """Mean of candidate minus baseline, plus-2: as ``ppi_mean`` with differences between -``span`` and ``span``."""
    evidence = _Evidence.of(labels, judged, unlabelled)
    return _plus2(evidence, np.array([span, -span]), (-span, span), alpha, keys)


def ppi_plain(labels: Values, judged: Values, unlabelled: Values, alpha: float) -> Powered:
    """PPI++ as published, with normal quantiles: for comparison only, its bounds are too bold below some 500 labels."""
    evidence = _Evidence.of(labels, judged, unlabelled)
    rule = _Rule((-math.inf, math.inf), alpha, math.inf, "PPI++")
    return _bounded(evidence, evidence.moments(evidence.rest), rule)


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """``judge`` (N,) scores of the samples without a label, ``rest`` (n,) = label - lam * judge's score."""

    lam: float
    judge: Floats
    rest: Floats

    @classmethod
    def of(cls, labels: Values, judged: Values, unlabelled: Values) -> _Evidence:
        y, f, others = (np.asarray(values, dtype=float) for values in (labels, judged, unlabelled))
        if len(y) != len(f):
            raise ValueError(f"{len(y)} labels but {len(f)} scores of the judge; give one score for each label")
        if not all(np.isfinite(values).all() for values in (y, f, others)):
            raise ValueError("labels and scores of the judge must be numbers; leave samples without a verdict out")
        lam = _weight(y, f, others)
        return cls(lam, others, y - lam * f)

    @property
    def trusted(self) -> float:
        """What the judge's scores of the samples without a label add to the estimate."""
        return self.lam * float(self.judge.mean()) if self.lam else 0.0

    def moments(self, rest: Floats) -> tuple[float, float]:
        """Estimate and standard error with ``rest``, pseudo-values or not; samples independent."""
        if len(self.rest) < 2:
            return math.nan, math.nan
        judge = self.lam**2 * float(self.judge.var(ddof=1)) / len(self.judge) if self.lam else 0.0
        return self.trusted + float(rest.mean()), math.sqrt(judge + float(rest.var(ddof=1)) / len(rest))


@dataclass(frozen=True, slots=True)
class _Rule:
    """How an estimate and its error become bounds."""

    ends: tuple[float, float]
    alpha: float
    freedom: float
    method: str
    clusters: int | None = None


def _weight(y: Floats, f: Floats, others: Floats) -> float:
    """The weight of the judge that makes the variance least, 0 where it says nothing or too few are scored."""
    if len(y) < 2 or len(others) < 2:
        return 0.0
    spread = float(np.concatenate([f, others]).var(ddof=1))
    if spread == 0:
        return 0.0
    together = float(np.cov(y, f, ddof=1)[0, 1])
    return min(1.0, max(0.0, together / ((1 + len(y) / len(others)) * spread)))


def _plus2(
    evidence: _Evidence, pseudo: Floats, ends: tuple[float, float], alpha: float, keys: Sequence[Hashable] | None
) -> Powered:
    count, others = len(evidence.rest), len(evidence.judge)
    if keys is not None and len(keys) != count + others:
        raise ValueError(f"{len(keys)} cluster keys for {count + others} samples; give one key for each")
    if keys is None or len(set(keys)) == len(keys):
        moments = evidence.moments(np.append(evidence.rest, pseudo))
        return _bounded(evidence, moments, _Rule(ends, alpha, count - 1, "PPI++ plus-2"))
    clusters = len(set(keys[:count]))
    method = f"PPI++ plus-2, jackknife over clusters ({clusters} with labels)"
    moments = _cluster_moments(evidence, pseudo, keys) if count else (math.nan, math.nan)
    return _bounded(evidence, moments, _Rule(ends, alpha, clusters - 1, method, clusters))


def _cluster_moments(evidence: _Evidence, pseudo: Floats, keys: Sequence[Hashable]) -> tuple[float, float]:
    """Estimate and standard error by leaving out one cluster at a time, its labelled samples and its others together.

    The pseudo-values are clusters of their own, of the mean size of those with labels.
    """
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    count, total = len(evidence.rest), len(places)
    place = np.array([places[key] for key in keys])
    size = count / len(set(keys[:count]))
    sums, sizes = _totals(evidence.rest, place[:count], total)
    sums, sizes = np.concatenate([sums, pseudo * size]), np.concatenate([sizes, [size, size]])
    theta = evidence.trusted + float(sums.sum() / sizes.sum())
    left_out = _without_each(sums, sizes)
    if evidence.lam:
        left_out = left_out + evidence.lam * _without_each(*_totals(evidence.judge, place[count:], total + 2))
    return theta, math.sqrt((total + 1) / (total + 2) * float(((left_out - theta) ** 2).sum()))


def _totals(values: Floats, place: NDArray[np.int64], clusters: int) -> tuple[Floats, Floats]:
    """Sum and number of the values of each cluster, both (clusters,)."""
    sums, sizes = np.bincount(place, values, clusters), np.bincount(place, minlength=clusters)
    return sums.astype(float), sizes.astype(float)


def _without_each(sums: Floats, sizes: Floats) -> Floats:
    """(G,) mean over all clusters but one; NaN where that one holds everything."""
    kept = sizes.sum() - sizes
    means: Floats = np.divide(sums.sum() - sums, kept, out=np.full(len(sums), np.nan), where=kept > 0)
    return means


def _bounded(evidence: _Evidence, moments: tuple[float, float], rule: _Rule) -> Powered:
    (theta, se), low, high = moments, math.nan, math.nan
    problem = _problem(evidence, se, rule)
    if not problem:
        half = _quantile(1 - rule.alpha, rule.freedom) * se
        low, high = max(rule.ends[0], theta - half), min(rule.ends[1], theta + half)
    return Powered(
        lam=evidence.lam,
        theta=theta,
        se=se,
        low=low,
        high=high,
        labels=len(evidence.rest),
        others=len(evidence.judge),
        freedom=rule.freedom,
        method=rule.method,
        clusters=rule.clusters,
        problem=problem,
    )


def _problem(evidence: _Evidence, se: float, rule: _Rule) -> str:
    if len(evidence.rest) < 2:
        return f"only {len(evidence.rest)} labels, 2 are needed"
    if rule.clusters is not None and rule.clusters < FEWEST_CLUSTERS:
        return f"only {rule.clusters} clusters with labels, {FEWEST_CLUSTERS} are needed"
    if not math.isfinite(se):
        return "one cluster holds all samples without a label"
    return "" if se > 0 else "no variation, so no error"


def _tail(z: float, freedom: float) -> float:
    """P(T > z)."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(-z) if math.isinf(freedom) else stdtr(freedom, -z))


def _quantile(p: float, freedom: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(p) if math.isinf(freedom) else stdtrit(freedom, p))
