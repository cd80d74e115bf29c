"""Scores from a DataFrame on a board: ranked like runs where samples are known, and every fault named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from boards import entry, evidence

import vevals
from vevals.board import build, from_frame, to_frame
from vevals.errors import DataError, VevalsError
from vevals.statistics import wilson

ANSWERS = {"good": [1] * 90 + [0] * 10, "bad": [1] * 40 + [0] * 60}


def long(answers: Mapping[str, list[int]] = ANSWERS, **columns: Any) -> pd.DataFrame:
    """A row for each model and sample of benchmark a/x."""
    rows = [
        {"model": model, "benchmark": "a/x", "sample": number, "value": value, **columns}
        for model, values in answers.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_frame_of_samples_is_ranked_like_the_same_runs() -> None:
    ours = build(from_frame(long(binary=True, chance=0.25)), {})
    runs = build([entry(evidence("a/x", model, values, chance=0.25)) for model, values in ANSWERS.items()], {})
    assert ours.pairs == runs.pairs
    pd.testing.assert_frame_equal(to_frame(ours), to_frame(runs))


def test_a_board_goes_out_and_comes_back_with_its_numbers() -> None:
    out = vevals.leaderboard(frame=long(binary=True))
    assert out[["model", "rank_low", "rank_high", "tier"]].values.tolist() == [["good", 1, 1, "A"], ["bad", 2, 2, "B"]]
    totals = {"benchmark": "a/x", "scored": 100, "total": 100}
    again = out[["model", "overall", "low", "high"]].rename(columns={"overall": "value"}).assign(**totals)
    back = vevals.leaderboard(frame=again)
    columns = ["model", "overall", "low", "high"]
    pd.testing.assert_frame_equal(back[columns], out[columns])
    assert back["rank_high"].tolist() == [2, 2]


def test_binary_is_said_and_not_guessed() -> None:
    [said] = from_frame(long({"m": [1, 0] * 20}, binary=True))
    [unsaid] = from_frame(long({"m": [1, 0] * 20}))
    assert (said.estimate.method, unsaid.estimate.method) == ("Wilson", "plus-2")
    assert (said.estimate.low, said.estimate.high) == wilson(20, 40)


def test_clusters_of_a_frame_count() -> None:
    frame = long({"m": [1, 0] * 30})
    frame["cluster"] = [f"c{number // 5}" if number < 58 else None for number in range(60)]
    assert from_frame(frame)[0].estimate.method == "plus-2, 14 clusters"


def test_a_sample_that_one_model_lacks_is_a_gap() -> None:
    frame = long()
    short = frame[~((frame["model"] == "bad") & (frame["sample"] >= 95))]
    blank = frame.assign(value=frame["value"].where(frame.index < 195, np.nan))
    for given in (short, blank):
        board = build(from_frame(given), {})
        assert board.rows[1].problem == "no overall score: 95% of a/x"


def test_an_empty_cell_of_any_kind_is_no_value() -> None:
    frame = long({"m": [1] * 9 + [0]}).astype({"value": object})
    frame.loc[0, "value"], frame.loc[1, "value"] = None, pd.NA
    assert from_frame(frame)[0].estimate.scored == 8


def test_estimates_alone_are_shown_and_not_told_apart() -> None:
    row = {"benchmark": "a/x", "low": 0.4, "high": 0.6, "scored": 80, "total": 80, "worst": 0.0, "best": 1.0}
    board = build(from_frame(pd.DataFrame([{"model": m, "value": v, **row} for m, v in (("a", 0.5), ("b", 0.55))])), {})
    assert [(r.model, r.standing and (r.standing.rank_low, r.standing.rank_high)) for r in board.rows] == [
        ("b", (1, 2)),
        ("a", (1, 2)),
    ]
    assert math.isnan(board.pairs[0].p)


GOOD = {"model": "m", "benchmark": "a/x", "sample": "s", "value": 1.0}
ALONE = {"model": "m", "benchmark": "a/x", "value": 0.5, "low": 0.4, "high": 0.6, "scored": 8, "total": 9}
FAULTS: list[tuple[list[dict[str, Any]], str]] = [
    ([{"model": "m", "value": 1.0}], "there is no column 'benchmark'"),
    ([{"model": "m", "benchmark": "a/x", "value": 1.0}], "there is no column 'low'; with a column 'sample' only"),
    ([{**GOOD, "binray": True}], "column 'binray' has no use here"),
    ([{**ALONE, "binary": True}], "column 'binary' has no use here"),
    ([{**GOOD, "value": 1.2}], "row 0, column 'value': 1.2 is outside 0 to 1"),
    ([GOOD, {**GOOD, "sample": "t", "value": "x"}], "row 1, column 'value': 'x' is not a number"),
    ([{**GOOD, "value": math.inf}], "row 0, column 'value': is infinite"),
    ([{**GOOD, "value": 0.5, "binary": True}], "row 0, column 'value': 0.5 is neither 0 nor 1"),
    ([{**GOOD, "binary": "yes"}], "row 0, column 'binary': 'yes' is neither True nor False"),
    ([GOOD, GOOD], "row 1, column 'sample': 's' stands twice for m on a/x"),
    ([{**GOOD, "model": None}], "row 0, column 'model': is empty"),
    ([{**GOOD, "sample": " "}], "row 0, column 'sample': is empty"),
    ([{**GOOD, "chance": 0.2}, {**GOOD, "sample": "t", "chance": 0.3}], "row 1, column 'chance': 0.3 differs from 0.2"),
    ([{**GOOD, "chance": 1.5}], "row 0, column 'chance': chance must lie between worst and best"),
    ([{**GOOD, "best": 0.0}], "row 0, column 'best': chance must lie between worst and best"),
    (
        [{**GOOD, "cluster": "c"}, {**GOOD, "model": "n", "cluster": "d"}],
        "row 1, column 'cluster': 'd' differs from 'c'",
    ),
    ([ALONE, ALONE], "row 1, column 'model': 'm' stands twice for a/x"),
    ([{**ALONE, "low": 0.55}], "row 0, column 'value': 0.5 is outside its interval 0.55 to 0.6"),
    ([{**ALONE, "scored": 10}], "row 0, column 'scored': 10 of 9 is no count of rows"),
    ([{**ALONE, "total": None}], "row 0, column 'total': is empty"),
]


@pytest.mark.parametrize(("rows", "sentence"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_fault_is_one_sentence_with_column_and_row(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        from_frame(pd.DataFrame(rows))
    assert sentence in str(caught.value) and str(caught.value).startswith("frame")


def test_a_row_is_named_by_its_index_and_an_empty_frame_is_refused() -> None:
    with pytest.raises(DataError, match="row 'seven', column 'value'"):
        from_frame(pd.DataFrame([{**GOOD, "value": 7}], index=["seven"]))
    with pytest.raises(DataError, match="it has no rows"):
        from_frame(pd.DataFrame(columns=list(GOOD)))


def test_a_frame_and_a_database_are_two_questions(tmp_path: Path) -> None:
    with pytest.raises(VevalsError, match="give db or frame, not both"):
        vevals.leaderboard(db=tmp_path / "x.db", frame=long())
