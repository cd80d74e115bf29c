"""Before a cent is spent: can this policy be passed at all, and how often would an unchanged model pass it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vevals.gate.terms import USAGE, Check, Limit
from vevals.statistics.intervals import clopper_pearson
from vevals.statistics.paired import margin_floor
from vevals.statistics.power import joint, least_for_floor, needed_at_truth_zero, power_of_floor, power_of_margin

DISCORDANCE = 0.10
"""Share of samples on which two versions differ, where no pilot says better."""
GOOD_POWER = 0.80
SAFE_POWER = 0.95


@dataclass(frozen=True, slots=True)
class Subject:
    """One check instance to be planned: so many samples of a benchmark.

    ``variance``: of a sample's paired difference (for rates: the discordance); ``rate``: of a floor or ceiling,
    oriented so that higher is better, in shares of the metric's range; ``usd_per_sample``: of the pilot. None where no
    pilot tells. ``problem``: why it cannot pass. ``whole_set``: the metric is a score of the whole set, whose variance
    no formula here knows.
    """

    check: Check
    limit: Limit
    benchmark: str
    n: int | None
    variance: float | None = None
    rate: float | None = None
    deff: float = 1.0
    problem: str = ""
    whole_set: bool = False
    usd_per_sample: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of one instance. ``power``: chance that an unchanged model (or one at the pilot's rate) passes;
    ``least``: samples below which PASS is impossible; ``needed``: samples for 80% and 95% power; None = not known.
    """

    subject: Subject
    reachable: bool
    power: float | None
    least: int | None
    needed: tuple[int | None, int | None]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All instances, with the chance that an unchanged model passes every blocking one. ``each``: the power that each
    instance needs for 95% together.
    """

    forecasts: tuple[Forecast, ...]
    joint: float | None
    each: float
    unknown: int

    @property
    def blocking(self) -> list[Forecast]:
        """Forecasts of the checks that decide."""
        return [one for one in self.forecasts if one.subject.check.severity == "block"]

    @property
    def samples(self) -> int | None:
        """Samples of all benchmarks of a run that passes in 95%, None where one is not known."""
        needed = self._needed()
        return None if None in needed.values() else sum(n for n in needed.values() if n is not None)

    @property
    def usd(self) -> float | None:
        """What these samples cost at the pilot's price, None where that is not known."""
        prices = {one.subject.benchmark: one.subject.usd_per_sample for one in self.blocking}
        costs = [n * usd for name, n in self._needed().items() if n is not None and (usd := prices[name]) is not None]
        return sum(costs) if costs and len(costs) == len(prices) else None

    def _needed(self) -> dict[str, int | None]:
        """The most that a blocking check wants of each benchmark."""
        found: dict[str, int | None] = {}
        for one in self.blocking:
            known, wanted = found.get(one.subject.benchmark, 0), one.needed[1]
            found[one.subject.benchmark] = None if known is None or wanted is None else max(known, wanted)
        return found

    @property
    def exit_code(self) -> int:
        """0 every blocking check can be passed, 3 not, 4 nothing would be decided."""
        if not self.blocking:
            return 4
        return 0 if all(one.reachable for one in self.blocking) else 3


def plan(subjects: Sequence[Subject]) -> Plan:
    """Forecasts for all instances."""
    blocking = max(1, sum(subject.check.severity == "block" for subject in subjects))
    each = SAFE_POWER ** (1 / blocking)
    forecasts = tuple(forecast(subject, each) for subject in subjects)
    known = [one for one in forecasts if one.subject.check.severity == "block"]
    powers = [one.power for one in known if one.power is not None]
    unknown = len(known) - len(powers)
    return Plan(forecasts, joint(powers) if powers else None, each, unknown)


def forecast(subject: Subject, each: float = SAFE_POWER) -> Forecast:
    """What to expect of one instance. ``each``: the power for which the second number of samples is given."""
    if subject.problem:
        return Forecast(subject, False, 0.0, None, (None, None), subject.problem)
    if subject.whole_set:
        return Forecast(subject, True, None, None, (None, None), "a score of the whole set is not forecast")
    if subject.limit.kind == "no_worse_than":
        return _margin(subject, each)
    share = not set(subject.check.select.metric) & set(USAGE)
    if share and subject.limit.kind in ("at_least", "at_most") and 0 <= _floor(subject) <= 1:
        return _rate(subject, each)
    return Forecast(subject, True, None, None, (None, None), "depends on what is measured; not forecast")


def _margin(subject: Subject, each: float) -> Forecast:
    limit, rules = subject.limit, subject.check.statistics
    if limit.relative:
        return Forecast(subject, True, None, None, (None, None), "a relative margin is not forecast")
    variance = DISCORDANCE if subject.variance is None else subject.variance
    floor = margin_floor(limit.value, rules.alpha)
    note = "assumes that 10% of the samples flip" if subject.variance is None else "flips as in the pilot"
    if limit.value == 0 or floor is None:
        text = "a margin of 0 passes only what is better by more than chance: an unchanged model does not pass"
        return Forecast(subject, False, 0.0, None, (None, None), text)
    needed = tuple(
        max(floor, needed_at_truth_zero(variance, limit.value, rules.alpha, power, subject.deff))
        for power in (GOOD_POWER, each)
    )
    least = math.ceil(max(floor * subject.deff, rules.min_samples))
    if subject.n is None:
        return Forecast(subject, True, None, least, (needed[0], needed[1]), note)
    reachable = subject.n >= least
    power = power_of_margin(subject.n / subject.deff, variance, limit.value, rules.alpha) if reachable else 0.0
    return Forecast(subject, reachable, power, least, (needed[0], needed[1]), note)


def _floor(subject: Subject) -> float:
    """The limit as a least rate, higher is better."""
    return subject.limit.value if subject.limit.kind == "at_least" else 1 - subject.limit.value


def _rate(subject: Subject, each: float) -> Forecast:
    """A floor: exact binomial power at the pilot's rate, or half-way between the limit and perfect."""
    floor, alpha = _floor(subject), subject.check.statistics.alpha
    rate = (1 + floor) / 2 if subject.rate is None else subject.rate
    shown = rate if subject.limit.kind == "at_least" else 1 - rate
    note = (
        f"assumes a true rate of {100 * shown:.3g}%" if subject.rate is None else f"at the pilot's {100 * shown:.3g}%"
    )
    least = max(_least_perfect(floor, alpha), subject.check.statistics.min_samples)
    needed = tuple(least_for_floor(rate, floor, alpha, power) for power in (GOOD_POWER, each))
    if subject.n is None:
        return Forecast(subject, True, None, least, (needed[0], needed[1]), note)
    n = int(subject.n / subject.deff)
    reachable = subject.n >= least and clopper_pearson(n, n, 1 - 2 * alpha)[0] >= floor
    power = power_of_floor(n, rate, floor, alpha) if reachable else 0.0
    return Forecast(subject, reachable, power, least, (needed[0], needed[1]), note)


def _least_perfect(floor: float, alpha: float) -> int:
    """Fewest samples with which a faultless model shows that it is above the floor."""
    return 1 if floor <= 0 else math.ceil(math.log(alpha) / math.log(floor)) if floor < 1 else 10**9
