"""How numbers are written for people."""

from __future__ import annotations

import math

import pytest

from vevals import display
from vevals.types import Estimate, Outcome


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.824, 0.788186, 0.854874, 500, 500, "Wilson"), "82.4% (78.8–85.5)"),
        (Estimate(0.3333, 0.18, 0.53, 24, 24, "Wilson"), "33% (18–53)"),
        (Estimate(-0.05, -0.08, -0.02, 900, 900, "BCa"), "−5.0% (−8.0 to −2.0)"),
        (Estimate(0.5, math.nan, math.nan, 40, 40, "Wilson: only 5 clusters"), "50.0% (no interval)"),
        (Estimate(math.nan, math.nan, math.nan, 0, 40, "no values"), "none scored"),
        (Estimate(-0.0001, -0.0002, 0.0, 9, 9, "plus-2"), "0.0% (0.0 to 0.0)"),
    ],
)
def test_a_score_stands_with_its_interval_and_no_false_precision(estimate: Estimate, text: str) -> None:
    assert display.percent(estimate) == text


def test_rows_without_a_value_bound_the_mean() -> None:
    gaps = Estimate(0.824, 0.788, 0.855, 500, 512, "Wilson")
    assert display.whatever(gaps) == "80–83 whatever the other 12 are"
    assert display.whatever(Estimate(0.824, 0.788, 0.855, 500, 500, "Wilson")) == ""
    assert display.whatever(Estimate(0.8, 0.7, 0.9, 500, 512, "BCa")) == ""


def test_outcomes_are_named_in_words() -> None:
    assert display.outcomes({Outcome.scored: 5, Outcome.failed: 2, Outcome.unparsed: 1}) == "2 failed, 1 unparsed"
    assert display.outcomes({Outcome.scored: 5}) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (38.2, "38 s"), (250, "4 min 10 s"), (7500, "2 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text


def test_what_could_steer_a_terminal_is_shown_as_an_escape() -> None:
    assert display.visible("a\x1b[2J\u202eb\x00\ud800\n数据") == "a\\x1b[2J\\u202eb\\x00\\ud800\n数据"
