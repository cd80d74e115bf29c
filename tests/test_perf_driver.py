"""The driver of the measurements: its bounds, its gate, and a whole run with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from perf import bounds, parity, plans, report, targets
from perf.driver import Measured, Runs
from perf.workloads import MAKERS, Item, Maker, Workload, lines, read


def letters(text: str, special: bool) -> list[int]:
    """One token a letter; 1 in front where special tokens are wanted."""
    return [1] * special + [ord(letter) for letter in text]


def words(text: str) -> int:
    return len(text.split())


def test_what_two_requests_begin_with_alike_counts_once():
    tree = bounds.shared([((5, 6), (7, 8)), ((5, 6), (7, 9)), ((5, 6), (4,)), ((5, 6), (7, 8))])
    assert len(tree.nodes) == 3  # 5, 5 6, 5 6 7: last tokens are never read
    assert len(tree.scored) == 2  # behind 5 6 and behind 5 6 7
    assert sorted(tree.tokens) == [5, 6, 7]


@pytest.mark.parametrize(
    ("context", "choice", "expected"),
    [
        ("ab", " c", ([1, 97, 98], [32, 99])),
        ("ab ", "c", ([1, 97, 98], [32, 99])),
        ("", "c", ([2], [99])),
        ("", "\x02c", ([2], [99])),
    ],
)
def test_the_pair_rule_moves_blanks_to_the_choice_and_puts_a_token_before_an_empty_context(context, choice, expected):
    assert bounds.pair(letters, context, choice, 2) == expected


@pytest.mark.parametrize("length", [1, 4, 5, 9, 10, 11, 23])
@pytest.mark.parametrize("limit", [1, 5, 10])
def test_windows_score_every_token_once(length, limit):
    rows = bounds.windows(list(range(100, 100 + length)), 7, limit)
    assert rows[0][0] == 7
    assert max(map(len, rows)) <= limit
    ends = [row[-1] for row in rows]
    assert ends[-1] == (100 + length - 2 if length > 1 else 7)
    scored = len(rows[0]) + sum(min(limit, length - limit * number) for number in range(1, len(rows)))
    assert scored == length


def test_refilled_slots_work_until_the_last_answer_and_no_step_is_wasted():
    lengths = [5, 1, 1, 1, 0, 2]
    live = bounds.live_rows(lengths, slots=2)
    assert sum(live) == sum(lengths)
    assert max(live) == 2
    assert len(live) == 5
    assert bounds.live_rows([]) == []


def made(name: str) -> Workload:
    return MAKERS[name](Maker(words, True, 0.1))


@pytest.mark.parametrize("name", MAKERS)
def test_workloads_are_the_same_each_time_and_survive_their_file(name, tmp_path):
    workload = made(name)
    assert workload.digest == made(name).digest
    assert len({item.id for item in workload.items}) == len(workload.items) > 1
    assert all(item.choices for item in workload.items) is (workload.kind in ("loglikelihood", "classify"))
    path = tmp_path / "requests.jsonl"
    path.write_text(lines(workload.items), encoding="utf-8")
    assert tuple(read(path)) == workload.items


def test_every_workload_with_speed_has_a_target_and_every_target_a_workload():
    assert {target.workload for target in targets.TARGETS} == {name for name in MAKERS if made(name).speed}


ITEM = Item("a", "context", (" one", " two"), 0)
CHOICES = Workload("choices", "", "loglikelihood", (ITEM,))
OURS = [{"logprobs": [-1.0, -2.0], "greedy": [True, False]}]


def nobody(items):
    raise AssertionError("there is no tie to look at")


def gate(theirs, workload=CHOICES, judge=nobody, ours=OURS):
    return parity.compared(workload, ours, theirs, judge, words)


def test_the_gate_holds_for_equal_scores_and_for_the_noise_of_additions():
    verdict = gate([{"logprobs": [-1.00005, -2.0], "greedy": [True, False]}])
    assert verdict.holds
    assert verdict.above_expected == 0
    assert verdict.right == [1, 1]


@pytest.mark.parametrize(
    "theirs",
    [
        {"logprobs": [-1.002, -2.0], "greedy": [True, False]},
        {"logprobs": [float("nan"), -2.0], "greedy": [True, False]},
        {"logprobs": [-1.0], "greedy": [True]},
    ],
)
def test_a_score_that_differs_closes_the_gate(theirs):
    assert not gate([theirs]).holds


def test_no_results_close_the_gate():
    assert not gate([]).holds
    assert not gate([], replace(CHOICES, items=()), ours=[]).holds


def test_another_winner_is_allowed_only_at_a_tie():
    near = [{"logprobs": [-1.0, -1.0001], "greedy": [False, False]}]
    verdict = gate([{"logprobs": [-1.0002, -1.0001], "greedy": [False, False]}], ours=near)
    assert (verdict.flips, verdict.holds) == (1, True)
    far = [{"logprobs": [-1.0, -1.0009], "greedy": [False, False]}]
    assert not gate([{"logprobs": [-1.0009, -1.0], "greedy": [False, False]}], ours=far).holds


@pytest.mark.parametrize(("gap", "holds"), [(1e-5, True), (1e-2, False)])
def test_greedy_may_differ_only_where_the_next_token_is_a_tie(gap, holds):
    theirs = [{"logprobs": [-1.0, -2.0], "greedy": [False, False]}]
    verdict = gate(theirs, judge=lambda items: [{"gaps": [gap, 1.0]} for _ in items])
    assert (verdict.greedy_flips, verdict.holds) == (1, holds)


ANSWER = Workload("answers", "", "generate", (Item("a", "context", max_tokens=3),))
TRUTH = {"text": "the red cat", "steps": ["the", "the red", "the red cat"], "gaps": [4.0, 1e-5, 3.0]}


@pytest.mark.parametrize(
    ("text", "holds"), [("the red cat", True), ("the blue cat", True), ("the red dog", False), ("a red cat", False)]
)
def test_texts_may_part_only_at_a_tie(text, holds):
    other = "the red cat" if text != "the red cat" else "the blue cat"
    assert gate([{"text": other}], ANSWER, lambda items: [TRUTH] * len(items), [{"text": text}]).holds is holds


def timed(ratio: float) -> Measured:
    one = Measured(made("many-choice"), verdict=parity.Verdict(compared=1))
    one.runs = {"vevals": Runs(seconds=[1.0]), "lm-eval": Runs("8", [ratio]), "floor": Runs(seconds=[0.9])}
    return one


def test_a_target_is_met_at_its_setting_alone():
    one = timed(12.0)
    one.also["16"] = 14.0
    assert [(row.ratio, row.met) for row in report.judged(one)] == [(14.0, False), (12.0, True)]
    assert report.judged(one)[0].floor_met


def test_without_the_gate_there_is_no_speed():
    one = timed(12.0)
    one.verdict = parity.Verdict(compared=1, faults=["a: -1 against -2"])
    assert [row.ratio for row in report.judged(one)] == [None]
    assert "tools" not in one.record()
    encode, fills = {"causal": letters}, {"causal": [0]}
    assert "12.0" not in json.dumps(report.tables([one], encode, fills))


def test_the_floor_of_choices_reads_each_necessary_token_once(tmp_path):
    folder = type("Folder", (), {"config": {"bos_token_id": 1}})()
    workload = Workload("choices", "", "loglikelihood", (Item("a", "context", (" one", " on", " two")),))
    plan, bound = (make(workload, folder, letters, []) for make in (plans.floor_plan, plans.necessary))
    assert sum(map(len, plan["rows"])) == bound.tokens == len("context") + 1 + len(" o n") + len("tw") - 1
    assert sum(plan["heads"]) == bound.head_rows


def driven(tmp_path: Path, *more: str) -> tuple[int, str, dict[str, dict]]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    path = tmp_path / "out.json"
    small = ["--model", "tiny", "--scale", "0.03", "--threads", "1", "--rounds", "1", "--json", str(path)]
    command = [sys.executable, str(ROOT / "tests" / "perf"), *small, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert path.is_file(), done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    return done.returncode, done.stdout, {row["name"]: row for row in found["workloads"]}


def test_a_wrong_score_gives_no_speed_and_a_failing_exit(tmp_path):
    names = ["many-choice", "endings-0shot"]
    status, shown, rows = driven(tmp_path, "--workload", *names, "--tools", "vevals", "--spoil", "endings-0shot")
    assert status == 1
    assert "no speed: e0, choice 0" in shown
    assert "tools" not in rows["endings-0shot"] and not rows["endings-0shot"]["parity"]["holds"]
    right = rows["many-choice"]
    assert right["parity"]["holds"] and right["compared_with"] == "one request at a time"
    counts = right["tools"]["vevals"]["counts"]
    assert counts["tokens"] >= right["necessary"]["tokens"] > 0
    assert counts["head_rows"] >= right["necessary"]["head_rows"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("names", [[name for name in MAKERS if name.startswith(one)] for one in ("gen", "b", "c")])
def test_tiny_models_score_and_write_what_the_peers_do(tmp_path, names):
    pytest.importorskip("lm_eval")
    status, shown, rows = driven(tmp_path, "--workload", *names)
    assert status == 0, shown
    for row in rows.values():
        assert row["parity"]["holds"]
        assert row["compared_with"] in ("lm-eval", "pipeline")
        assert {"vevals", "floor"} < set(row["tools"])
