"""The six faults that were found in the strongest gate of the field: what a gate must answer instead.

Source: NVIDIA-NeMo/Evaluator, ``src/nemo_evaluator/engine/gate.py``; each case was reproduced with its own code, and
its answer stands in the test's docstring.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidences import HEAD, answers, column, evidence, judged, margin, pair_of, policy, runs

from vevals.evidence import RunSet
from vevals.gate.verdict import State


def flipped(n: int, drop: float, rng: np.random.Generator, discordance: float = 0.05) -> tuple[RunSet, RunSet]:
    """A paired binary benchmark on which the candidate is truly worse by ``drop``."""
    u = rng.random(n)
    broke = u < (discordance + drop) / 2 + drop / 2
    fixed = (~broke) & (u < discordance + drop)
    base = np.where(broke, 1.0, np.where(fixed, 0.0, (rng.random(n) < 0.8).astype(float)))
    ours = np.where(broke, 0.0, np.where(fixed, 1.0, base))
    return runs(evidence(column(ours))), runs(evidence(column(base)), name="prod")


def test_ten_identical_answers_prove_nothing() -> None:
    """Theirs: GO, with the interval 0 to 0."""
    verdict = judged(policy(margin(0.01), head=HEAD + "statistics: {min_samples: 1}\n"), *pair_of(0, 0, 10))
    (instance,) = verdict.instances
    assert verdict.state is State.INCONCLUSIVE
    assert instance.low is not None and instance.low < -0.1
    assert instance.high is not None and instance.high > 0.1


@pytest.mark.parametrize(("drop", "n"), [(0.03, 20), (0.02, 30)])
def test_a_true_drop_beyond_the_margin_never_passes_on_few_samples(drop: float, n: int) -> None:
    """Theirs: 55% and 40% GO."""
    rng = np.random.default_rng(3)
    rules = policy(margin(0.01), head=HEAD + "statistics: {min_samples: 1}\n")
    states = [judged(rules, *flipped(n, drop, rng)).state for _ in range(200)]
    assert State.PASS not in states


def test_a_policy_in_which_every_check_is_advisory_is_invalid() -> None:
    """Theirs: GO, while the candidate falls from 100% to 0%."""
    everything, nothing = runs(evidence(column(answers(100, 0)))), runs(evidence(column(answers(0, 100))))
    verdict = judged(policy(margin(0.01, "warn")), nothing, everything)
    assert (verdict.state, verdict.exit_code) == (State.INVALID, 4)
    assert verdict.reasons == ("vacuous: no blocking check could be decided, so nothing was checked",)


def test_two_clusters_decide_nothing() -> None:
    """Theirs: 16% false passes and 14% false breaches with two subject categories declared as clusters."""
    rng = np.random.default_rng(4)
    states = set()
    for _ in range(200):
        candidate, baseline = flipped(100, 0.03, rng)
        names = ["physics" if row < 50 else "law" for row in range(100)]
        sides = [
            runs(*(replace(one, clusters=tuple(names)) for one in side.evidence.values()))
            for side in (candidate, baseline)
        ]
        states.add(judged(policy(margin(0.03)), *sides).state)
    assert states == {State.INCONCLUSIVE}


def test_a_relative_drop_beyond_the_limit_by_the_point_estimate_only_is_open() -> None:
    """Theirs: breach."""
    candidate, baseline = pair_of(8, 16, 200)
    check = "- {id: same, select: {metric: score}, no_worse_than: {baseline: true, margin_relative: 0.05}}"
    (instance,) = judged(policy(check), candidate, baseline).instances
    ours, theirs = (side.evidence["legal/nli"].score.values.mean() for side in (candidate, baseline))
    assert ours < 0.95 * theirs
    assert instance.state is State.INCONCLUSIVE


def test_open_and_wrong_usage_have_exit_codes_of_their_own() -> None:
    """Theirs: both exit 2, and another prompt, data set, scorer or judge on one side is not noticed."""
    assert judged(policy(margin()), *pair_of(14, 20, 500)).exit_code == 3
    candidate, baseline = pair_of(0, 0, 200)
    (one,) = baseline.evidence.values()
    for part in ("prompt", "dataset", "scorer", "judge"):
        other = runs(replace(one, parts={**one.parts, part: "changed"}))
        verdict = judged(policy(margin()), candidate, other)
        assert (verdict.exit_code, part in verdict.instances[0].reason) == (4, True)
