"""Checks in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gate import verdicts

from vevals.gate import lines
from vevals.gate.verdict import Instance, Severity, State

PASS, FAIL, OPEN, INVALID = State.PASS, State.FAIL, State.INCONCLUSIVE, State.INVALID


def amount(metric: str, **changes: Any) -> Instance:
    """A ceiling on something without bounds."""
    base = Instance("cost", "cost · code/fix", "at_most", Severity.block, State.PASS, metric=metric, n=800)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        (
            verdicts.comparison(PASS),
            "PASS  −1.2 points (90% −2.3 to −0.1), 1,500 samples, 42 fixed, 60 broke: not worse by more than 3 points",
        ),
        (
            verdicts.comparison(OPEN),
            "INCONCLUSIVE  −1.2 points (90% −3.2 to +0.8), 500 samples, 14 fixed, 20 broke: cannot tell for a 3-point "
            "margin; about 1,300 samples would",
        ),
        (
            verdicts.comparison(FAIL),
            "FAIL  −7.4 points (90% −9.7 to −5.2), 500 samples, 3 fixed, 40 broke: worse by more than 3 points "
            "(Holm p < 0.001)",
        ),
        (verdicts.comparison(INVALID), "INVALID  not comparable: the runs differ in prompt"),
        (verdicts.comparison(INVALID, reason=""), "INVALID  no reason was recorded"),
        (verdicts.floor(), "PASS  82.4% (90% 79.4–85.2), 500 samples: at least 78%"),
    ],
)
def test_the_lines_are_those_of_the_design(instance: Instance, text: str) -> None:
    assert lines.line(instance) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"needed": None}, "cannot tell for a 3-point margin; more samples are unlikely to settle this"),
        ({"needed": None, "reason": "only 7 clusters"}, "cannot tell for a 3-point margin; only 7 clusters"),
        (
            {"reason": "needs at least 99 samples", "needed": 1287},
            "cannot tell for a 3-point margin (needs at least 99 samples); about 1,300 samples would",
        ),
        ({"limit": 0.08}, "cannot tell for an 8-point margin; about 1,300 samples would"),
        ({"limit": 0.025}, "cannot tell for a 2.5-point margin; about 1,300 samples would"),
        ({"limit": 0.0}, "cannot tell for a margin of 0; about 1,300 samples would"),
        ({"needed": 7}, "cannot tell for a 3-point margin; about 7 samples would"),
        ({"needed": 23456}, "cannot tell for a 3-point margin; about 23,000 samples would"),
    ],
)
def test_an_open_check_says_what_would_close_it(changes: dict[str, Any], text: str) -> None:
    assert lines.line(verdicts.comparison(OPEN, **changes)).endswith(f"broke: {text}")


def test_a_check_without_any_number_still_says_why() -> None:
    unknown = verdicts.comparison(OPEN, estimate=None, low=None, high=None, n=0, fixed=None, broke=None, needed=None)
    told = lines.line(replace(unknown, reason="9 rows have no value"))
    assert told == "INCONCLUSIVE  cannot tell for a 3-point margin; 9 rows have no value"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state": FAIL, "limit": 0.9, "holm_p": 0.0212}, "500 samples: below 90% (Holm p = 0.021)"),
        ({"state": FAIL, "limit": 0.9, "holm_p": None}, "500 samples: below 90%"),
        ({"state": OPEN, "limit": 0.8, "needed": 900}, "cannot tell for a floor of 80%; about 900 samples would"),
        ({"kind": "at_most", "limit": 0.9}, "500 samples: at most 90%"),
        ({"kind": "at_most", "limit": 0.7, "state": FAIL}, "500 samples: above 70% (Holm p = 1.000)"),
        ({"kind": "at_most", "limit": 0.825, "state": OPEN}, "cannot tell for a ceiling of 82.5%; more samples are"),
    ],
)
def test_floors_and_ceilings_have_their_own_words(changes: dict[str, Any], text: str) -> None:
    assert text in lines.line(verdicts.floor(**changes))


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        (
            amount("seconds.p95", estimate=2.31, low=2.12, high=2.47, limit=2.5),
            "PASS  2.31 s (90% 2.12–2.47), 800 samples: at most 2.5 s",
        ),
        (
            amount("usd_per_1k_samples", estimate=1.1042, low=1.08, high=1.131, limit=1.2),
            "PASS  $1.104 (90% 1.080–1.131), 800 samples: at most $1.2",
        ),
        (
            amount("output_tokens.mean", estimate=1412.3, low=1370.0, high=1460.4, limit=2000.0),
            "PASS  1412 tokens (90% 1370–1460), 800 samples: at most 2,000 tokens",
        ),
        (
            amount("seconds.p99", estimate=2.31, low=2.12, high=None, limit=2.5, state=OPEN),
            "INCONCLUSIVE  2.31 s (90% from 2.12), 800 samples: cannot tell for a ceiling of 2.5 s; more samples are "
            "unlikely to settle this",
        ),
        (
            amount("seconds.p95", kind="max_increase", estimate=0.124, low=0.081, high=0.169, limit=0.2),
            "PASS  +12% (90% +8% to +17%), 800 samples: no increase by more than 20%",
        ),
        (
            amount("seconds.p95", kind="max_increase", estimate=0.3, low=0.28, high=0.32, limit=0.2, state=FAIL),
            "FAIL  +30.0% (90% +28.0% to +32.0%), 800 samples: increase by more than 20%",
        ),
        (
            amount("seconds.p50", kind="no_worse_than", estimate=-0.02, low=-0.05, high=0.01, limit=0.1),
            "PASS  −0.020 s (90% −0.050 to +0.010), 800 samples: not worse by more than 0.1 s",
        ),
        (
            amount("usd_per_1k_samples", kind="no_worse_than", estimate=-0.4, low=-0.6, high=-0.2, limit=0.1),
            "PASS  −$0.40 (90% −0.60 to −0.20), 800 samples: not worse by more than $0.1",
        ),
        (
            amount("f1", kind="no_worse_than", estimate=0.04, low=0.01, high=0.07, limit=0.05, relative=True),
            "PASS  +4.0 points (90% +1.0 to +7.0) beyond the margin, 800 samples: "
            "not worse by more than 5% of the baseline",
        ),
        (
            amount("rating", kind="at_least", estimate=4.21, low=4.1, high=4.32, limit=4.0, share=False),
            "PASS  4.210 (90% 4.100–4.320), 800 samples: at least 4",
        ),
        (
            amount("", kind="judge", estimate=0.72, low=0.58, high=0.83, limit=0.4, n=120),
            "PASS  kappa 0.720 (90% 0.580–0.830), 120 labels: at least 0.4",
        ),
        (
            amount("", kind="contamination", estimate=0.004, limit=0.01, n=1500),
            "PASS  0.4% flagged, 1,500 samples: at most 1%",
        ),
    ],
)
def test_every_quantity_is_shown_in_its_unit(instance: Instance, text: str) -> None:
    assert lines.line(instance) == text


def test_a_coarse_estimate_loses_its_decimals() -> None:
    told = lines.line(verdicts.floor(estimate=0.7, low=0.55, high=0.81, limit=0.5, n=40))
    assert told == "PASS  70% (90% 55–81), 40 samples: at least 50%"


@pytest.mark.parametrize(
    ("low", "shown"), [(-0.034, "−3.4"), (-0.0304, "−3.04"), (-0.03, "−3"), (-0.0296, "−2.96"), (-0.07, "−7")]
)
def test_a_bound_is_never_rounded_across_the_limit(low: float, shown: str) -> None:
    told = lines.numbers(verdicts.comparison(OPEN, estimate=0.01, low=low, high=0.06, limit=0.03))
    assert f"(90% {shown} to " in told


def test_two_one_sided_bounds_are_named_by_their_joint_level() -> None:
    assert "(97.5% " in lines.line(verdicts.comparison(PASS, alpha=0.0125))


def test_rows_without_a_value_are_counted_beside_the_estimate() -> None:
    gaps = verdicts.comparison(PASS, observed=-0.012, outcomes={"scored": 1490, "failed": 9, "unjudgeable": 1})
    assert ", 60 broke, 10 rows without a value: not" in lines.line(gaps)
    moved = replace(gaps, observed=-0.004, outcomes={"failed": 1})
    assert ", 1 row without a value (−0.4 points without them): not" in lines.line(moved)


def test_a_waived_check_shows_what_was_found_and_who_accepts_it() -> None:
    found = verdicts.comparison(FAIL, limit=0.02, waiver=verdicts.WAIVER)
    told = lines.line(found)
    assert told.startswith("WAIVED  −7.4 points (90% −9.7 to −5.2), 500 samples, 3 fixed, 40 broke: worse by ")
    assert "worse by up to 3 points accepted until 2026-12-31 by ann@b.example: labels of May are being redone" in told
    ceiling = verdicts.floor(OPEN, kind="at_most", limit=0.8, waiver=replace(verdicts.WAIVER, down_to=0.9))
    assert "cannot tell for a ceiling of 80%; up to 90% accepted until" in lines.line(ceiling)


def test_a_line_is_one_line_and_steers_no_terminal() -> None:
    told = lines.line(verdicts.comparison(INVALID, reason="a\x1b[2J\nb\u202e c"))
    assert told == "INVALID  a\\x1b[2J b\\u202e c"


def test_what_is_unknown_is_not_shown_as_a_number() -> None:
    told = lines.line(verdicts.comparison(PASS, low=float("nan"), high=float("inf")))
    assert told.startswith("PASS  −1.2 points, 1,500 samples")
    assert lines.numbers(verdicts.comparison(OPEN, estimate=float("nan"))) == ""


def test_a_later_attempt_says_how_strictly_it_was_judged() -> None:
    third = replace(verdicts.verdict(verdicts.comparison(PASS, alpha=0.0125)), attempt=3)
    assert lines.attempt(third) == "attempt 3: judged at 98.75%"
    assert lines.attempt(verdicts.green()) == ""
    assert lines.attempt(replace(verdicts.verdict(), attempt=2)) == "attempt 2"


def test_the_banner_counts_blocking_checks_and_gives_reasons() -> None:
    invalid = replace(verdicts.red(), state=INVALID, exit_state=INVALID, reasons=("no baseline: prod is not set",))
    assert lines.banner(invalid) == [
        "INVALID  support-bot-release, cand-7 against prod: 3 blocking checks: 1 PASS, 1 WAIVED, 1 FAIL",
        "no baseline: prod is not set",
    ]
    alone = replace(verdicts.verdict(), baseline=None)
    assert lines.headline(alone) == "PASS  support-bot-release, cand-7: no blocking checks"


def test_a_softened_verdict_keeps_its_state_and_tells_how_it_counts() -> None:
    softened = replace(verdicts.verdict(verdicts.comparison(OPEN)), exit_state=PASS)
    assert lines.headline(softened).startswith("INCONCLUSIVE (the policy counts it as PASS)  support-bot-release")


def test_how_computed_names_method_sizes_bounds_tests_and_digests() -> None:
    told = lines.explain(verdicts.comparison(PASS))
    assert told[:4] == [
        "method: Tango and plus-2",
        "samples: n = 1,500, K = 1, G = 60 clusters, effective n = 480, D = 102 changed",
        "bounds: at least −2.320 points, at most −0.080 points, each one-sided at 95%",
        "tests: PASS p = 0.006, FAIL p = 0.990, FAIL after Holm p = 1.000, alpha 0.05",
    ]
    assert "rows of the candidate: 498 scored, 2 unparsed" in told
    assert f"scores of the baseline: sha256 {'b' * 64}" in told
    assert told[-1].startswith("estimand: on questions like these: ")


def test_how_computed_of_an_invalid_check_claims_nothing() -> None:
    told = lines.explain(verdicts.comparison(INVALID))
    assert not any(text.startswith(("estimand", "bounds", "tests", "samples")) for text in told)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (2.5, "2.5"), (-0.1, "−0.1"), (0.0, "0"), (2000.0, "2,000"), (0.1 + 0.2, "0.3")]
)
def test_limits_are_shown_as_the_policy_wrote_them(value: float, text: str) -> None:
    assert lines.shortest(value) == text
