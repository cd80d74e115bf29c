"""Many tests at once, and what may be said about the order of models: adjusted p-values, rank sets, tiers, Pareto.

Models are rows in any order; higher is better everywhere (callers turn cost and latency round).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vevals.statistics.intervals import Values

Floats = NDArray[np.float64]
RankSet = tuple[int, int]
"""Best and worst rank that a model can have, 1 = first."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def holm(p: Values) -> Floats:
    """Step-down adjusted p-values (m,): any of them <= alpha by chance with probability <= alpha, however dependent.

    A NaN (no test) counts in the family and stays NaN.
    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    values, order = _sorted(p)
    factors = np.arange(len(values), 0, -1)
    return _restored(np.maximum.accumulate(factors * values[order]), order, values, p)


def benjamini_hochberg(p: Values) -> Floats:
    """Adjusted p-values (m,) that keep the share of false discoveries; for lists that are reported, not decided on.

    A NaN (no test) counts in the family and stays NaN.
    Source: Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    values, order = _sorted(p)
    factors = len(values) / np.arange(1, len(values) + 1)
    return _restored(np.minimum.accumulate((factors * values[order])[::-1])[::-1], order, values, p)


def rank_sets(values: Values, p: Floats, alpha: float = 0.05) -> list[RankSet]:
    """The ranks that each model can have, all of them true at once with probability 1 - ``alpha``.

    Args:
        values: overall value of each model (M,); complete models only, ValueError for a NaN.
        p: two-sided p-values of all pairs (M, M), symmetric; the diagonal is ignored, NaN = no test, so no difference.

    Source: Mogstad, Romano, Shaikh and Wilhelm (2024), doi:10.1093/restud/rdad006, with Holm over all pairs.
    """
    v, tests = np.asarray(values, dtype=float), np.asarray(p, dtype=float)
    models = len(v)
    if np.isnan(v).any():
        raise ValueError("rank sets need the overall value of every model; leave incomplete models out")
    if tests.shape != (models, models) or not np.array_equal(tests, tests.T, equal_nan=True):
        raise ValueError(f"rank sets of {models} models need a symmetric {models} x {models} matrix of p-values")
    one, other = np.triu_indices(models, 1)
    apart = np.zeros((models, models), dtype=bool)
    apart[one, other] = holm(tests[one, other]) <= alpha
    apart |= apart.T
    above = (apart & (v[None, :] > v[:, None])).sum(axis=1)
    below = (apart & (v[None, :] < v[:, None])).sum(axis=1)
    return [(1 + int(up), models - int(down)) for up, down in zip(above, below, strict=True)]


def tiers(sets: Sequence[RankSet]) -> list[str]:
    """A letter for each model, A for the best set: equal sets share it, and only these. After Z come AA, AB, ..."""
    places = {found: place for place, found in enumerate(sorted(set(sets)))}
    return [_letter(places[found]) for found in sets]


def lead_shares(domain_scores: Floats, draws: int = 2000, seed: int = 0) -> Floats:
    """Share (M,) of random weights of the domains under which each model leads: how much hangs on the weights.

    ``domain_scores`` (M, D): the weights of the D domains are drawn uniformly (Dirichlet 1, ..., 1). Leaders with equal
    values share a draw. A model with a NaN does not take part and gets NaN.
    """
    scores = np.asarray(domain_scores, dtype=float)
    complete = ~np.isnan(scores).any(axis=1)
    shares = np.full(len(scores), np.nan)
    if not complete.any():
        return shares
    weights = np.random.default_rng(seed).dirichlet(np.ones(scores.shape[1]), draws)
    overall = weights @ scores[complete].T
    leads = overall == overall.max(axis=1, keepdims=True)
    shares[complete] = (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def pareto(values: Sequence[Sequence[float]] | Floats, better: NDArray[np.bool_]) -> list[bool | None]:
    """Whether each model is undominated; None where one of its dimensions is NaN, which can neither be won nor lost.

    Args:
        values: quality, cost, latency, ... of each model (M, D), higher is better.
        better: (M, M, D), whether model i is significantly better than model j in a dimension.

    Dominated = some model is no worse in every dimension by estimate, and significantly better in one.
    """
    v, flags = np.asarray(values, dtype=float), np.asarray(better, dtype=bool)
    if flags.shape != (len(v), *v.shape):
        raise ValueError(f"{v.shape[0]} models in {v.shape[1]} dimensions need flags of shape {(len(v), *v.shape)}")
    no_worse = (v[:, None, :] >= v[None, :, :]).all(axis=2)
    wins = (flags & (v[:, None, :] > v[None, :, :])).any(axis=2)
    beaten, unknown = np.any(no_worse & wins, axis=0), np.any(np.isnan(v), axis=1)
    return [None if unknown[model] else not beaten[model] for model in range(len(v))]


def _sorted(p: Values) -> tuple[Floats, NDArray[np.intp]]:
    values = np.asarray(p, dtype=float)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("p-values lie between 0 and 1")
    known = np.where(np.isnan(values), 1.0, values)
    return known, np.argsort(known, kind="stable")


def _restored(adjusted: Floats, order: NDArray[np.intp], values: Floats, p: Values) -> Floats:
    result = np.empty_like(values)
    result[order] = np.minimum(adjusted, 1.0)
    return np.where(np.isnan(np.asarray(p, dtype=float)), np.nan, result)


def _letter(place: int) -> str:
    rest, letter = divmod(place, len(LETTERS))
    return (_letter(rest - 1) if rest else "") + LETTERS[letter]
