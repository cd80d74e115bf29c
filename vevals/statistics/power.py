"""How many samples a check needs, and how likely it is to pass: what a plan says before anything is spent.

Limits are oriented ("at least"); callers mirror "at most" by 1 - rate and 1 - limit. ``alpha`` is one-sided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REACH = 10
"""Sizes tried around the normal approximation, in samples that shift the expected count by one."""


def needed_for_margin(
    variance: float, difference: float, margin: float, alpha: float, power: float = 0.8, deff: float = 1.0
) -> int | None:
    """Samples after which "not worse by more than ``margin``" passes with ``power`` if ``difference`` is the truth.

    ``variance`` is that of one paired difference: D/n - mean² for binary scores. None where the truth is no better than
    -``margin``. The floor of the margin (``paired``) comes on top; with a variance of 0 only that counts.
    """
    distance = difference + margin
    if distance <= 0:
        return None
    needed = ((_z(1 - alpha) + _z(power)) / distance) ** 2 * variance * deff
    return math.ceil(needed)


def needed_at_truth_zero(variance: float, margin: float, alpha: float, power: float = 0.8, deff: float = 1.0) -> int:
    """Samples with which an unchanged model passes with ``power``; ``variance`` is the discordance, or Var d.

    ValueError for a margin of 0, which an unchanged model does not pass.
    """
    needed = needed_for_margin(variance, 0.0, margin, alpha, power, deff)
    if needed is None:
        raise ValueError(f"no number of samples shows an unchanged model within a margin of {margin}; give one above 0")
    return needed


def unlikely_to_settle(difference: float, margin: float, se: float) -> bool:
    """Whether the difference sits so near -``margin`` that more samples would hardly decide."""
    return abs(difference + margin) < se / 2


def two_digits(n: int) -> int:
    """``n`` to two significant digits, halves upwards: 1,295 becomes 1,300."""
    step = 10 ** max(0, len(str(n)) - 2)
    return int((n + step // 2) // step * step)


def power_of_margin(n: float, variance: float, margin: float, alpha: float, truth: float = 0.0) -> float:
    """Probability that "not worse by more than ``margin``" passes with ``n`` samples (effective ones, with clusters).

    ``variance`` is that of one paired difference. Below the floor of the margin nothing passes: the caller's to check.
    """
    from scipy.special import ndtr

    if variance <= 0:
        return float(truth >= -margin)
    return float(ndtr((truth + margin) * math.sqrt(n / variance) - _z(1 - alpha)))


def power_of_floor(n: int, rate: float, limit: float, alpha: float) -> float:
    """Probability that "rate at least ``limit``" passes with ``n`` samples by the Clopper-Pearson bound, exactly."""
    return float(_power_of_floor(np.array([n], dtype=float), rate, limit, alpha)[0])


def least_for_floor(rate: float, limit: float, alpha: float, power: float = 0.8) -> int | None:
    """Samples from which on "rate at least ``limit``" passes with ``power``; None where ``rate`` is not above it.

    Power is a saw in n: single smaller sizes may reach it too.
    """
    if rate <= limit:
        return None
    spread = _z(1 - alpha) * math.sqrt(limit * (1 - limit)) + _z(power) * math.sqrt(rate * (1 - rate))
    guess = (spread / (rate - limit)) ** 2
    reach = REACH / (rate - limit)
    sizes = np.arange(max(1, math.floor(guess - reach)), math.ceil(guess + reach) + 1, dtype=float)
    short = np.flatnonzero(_power_of_floor(sizes, rate, limit, alpha) < power)
    return int(sizes[short[-1] + 1]) if len(short) else int(sizes[0])


def joint(powers: Iterable[float]) -> float:
    """Probability that independent checks all pass: the product."""
    return math.prod(powers)


def each_for_joint(power: float, checks: int) -> float:
    """The power that each of ``checks`` checks needs for all of them to pass with ``power``."""
    return float(power ** (1 / checks))


def _power_of_floor(n: Floats, rate: float, limit: float, alpha: float) -> Floats:
    """(sizes,) exact power of sizes ``n``: P(at least k | rate), k = fewest with P(at least k | limit) <= alpha."""
    too_few, enough = np.zeros_like(n), n + 1
    while (enough - too_few > 1).any():
        middle = np.floor((too_few + enough) / 2)
        passes = _at_least(middle, n, limit) <= alpha
        enough, too_few = np.where(passes, middle, enough), np.where(passes, too_few, middle)
    return _at_least(enough, n, rate)


def _at_least(k: Floats, n: Floats, rate: float) -> Floats:
    """P(at least ``k`` of ``n``), element by element: 1 for k = 0, 0 for k = n + 1."""
    from scipy.special import betainc

    inner = betainc(np.maximum(k, 1), np.maximum(n - k + 1, 1), rate)
    probability: Floats = np.where(k < 1, 1.0, np.where(k > n, 0.0, inner))
    return probability


def _z(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))
