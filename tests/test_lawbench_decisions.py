"""Three real models on five tasks of LawBench: board, comparison and gate say what the paired evidence supports.

The recorded outputs of GPT-4, GPT-3.5 and Qwen-7B-chat go the way of a user: ``vevals run`` with ``replay:`` models,
then ``leaderboard``, ``compare``, ``baseline set``, ``gate check`` and ``gate verify``. What they must say is stated in
tables here and computed again from the raw outputs, by LawBench's own rules and without any statistics of vevals:
McNemar's exact test, a score interval from the numerically restricted likelihood, Student's t, Holm of statsmodels.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.cells import cell_len
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from vevals.cli import app
from vevals.registry import open_registry

pytestmark = pytest.mark.shared

Scores = Mapping[tuple[str, str], np.ndarray]
"""(benchmark, model) -> (500,) values of the rows in official order."""

MODELS = {"gpt-4": "GPT4", "gpt-3.5": "GPT-3.5-turbo-0613", "qwen-7b-chat": "qwen-7b-chat-hf"}
GPT4, GPT35, QWEN = MODELS
MARGIN = 0.03


@dataclass(frozen=True)
class Task:
    """One task of LawBench. ``published``: the authors' scores of the three models; ``base``: a shipped benchmark."""

    number: str
    rows: str
    published: tuple[float, float, float]
    base: str = ""
    chance: float = 0.0


TASKS = {
    "legal/cases": Task("3-6", "3-6_case_analysis", (0.486, 0.274, 0.268), chance=0.25),
    "legal/charges": Task("3-3", "3-3_charge_prediction", (0.419867, 0.355210, 0.406705), "legal/lawbench_charges"),
    "legal/damages": Task("3-7", "3-7_damages_calculation", (0.776, 0.612, 0.420), "legal/lawbench_damages"),
    "legal/knowledge": Task("1-2", "1-2_knowledge_qa", (0.552, 0.360, 0.340), chance=0.25),
    "legal/topic": Task("2-4", "2-4_issue_topic", (0.440, 0.412, 0.350), "legal/lawbench_topic", 0.05),
}
GRADED = "legal/charges"
"""The task whose values are not only right or wrong."""

CHOICE_YAML = """
title: LawBench {number}
version: 1
language: [zh]
data: data.jsonl
columns: {{id: _id, input: question, target: "after(before(replace(answer, '：', ':'), '。'), ':')"}}
choices: [A, B, C, D]
prompt: "{{{{ instruction }}}}{{{{ input }}}}"
answer: {{letter: {{rule: only}}}}
metrics: [accuracy]
chance: 0.25
license: Apache-2.0
source: LawBench
"""


# -- the store, made as a user makes it ----------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().split("\n") if line]


def recorded(shared: Path, task: Task) -> list[dict[str, Any]]:
    return rows_of(shared / "data" / "replay" / f"lawbench_{task.number}_predictions.jsonl")


def shipped(task: Task) -> dict[str, Any]:
    """The shipped benchmark over local rows with ids of their own, under LawBench's own rule and first metric only."""
    document = yaml.safe_load(open_registry().get(task.base).path.read_text(encoding="utf-8"))
    document["data"] = "data.jsonl"
    document["columns"]["id"] = "_id"
    document["metrics"] = document["metrics"][:1]
    if document["answer"] == "labels":
        document["answer"] = {"labels": {"rule": "only"}}
    return dict(document)


def write_benchmarks(folder: Path, shared: Path) -> None:
    for name, task in TASKS.items():
        place = folder / name
        place.mkdir(parents=True)
        shutil.copy(shared / "data" / "legal" / f"lawbench_{task.rows}.jsonl", place / "data.jsonl")
        text = yaml.safe_dump(shipped(task), allow_unicode=True) if task.base else CHOICE_YAML.format(**vars(task))
        (place / "benchmark.yaml").write_text(text.lstrip(), encoding="utf-8")


def vevals(*arguments: str, code: int = 0) -> str:
    """What the command prints at 80 columns; the exit code is asserted."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "80"})
    assert done.exit_code == code, f"exit {done.exit_code}\n{done.output}"
    return done.stdout


@pytest.fixture(scope="module")
def place(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose results database holds the fifteen runs, and two baselines."""
    folder = tmp_path_factory.mktemp("lawbench")
    write_benchmarks(folder / "benchmarks", shared)
    lines = [json.dumps(row, ensure_ascii=False) for task in TASKS.values() for row in recorded(shared, task)]
    (folder / "recorded.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = "replay:recorded.jsonl?id=data_id&text=prediction&where=model=='{}'&name={}"
    models = [word for name, said in MODELS.items() for word in ("--model", spec.format(said, name))]
    wanted = [word for name in TASKS for word in ("--benchmark", name)]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VEVALS_DB", raising=False)
        patch.setenv("VEVALS_CONFIG", str(folder / "config"))
        vevals("run", "--quiet", *models, *wanted)
        for name in (GPT4, GPT35):
            vevals("baseline", "set", f"was-{name}", name, "--reason", "for a test", "--by", "tester")
    signal.signal(signal.SIGTERM, before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the store as the current one."""
    monkeypatch.chdir(place)
    return place


# -- the same from the raw outputs, by other means -----------------------------------------------------------------


def letters(output: str, gold: str) -> float:
    """1-2 and 3-6: of A to D, exactly the gold letter occurs."""
    match = re.search(r"[:：]\s*([ABCD])", gold)
    assert match
    return float({letter for letter in "ABCD" if letter in output} == {match[1]})


def amount(output: str, gold: str) -> float:
    """3-7: the gold amount is among the numbers."""
    wanted, *_ = re.findall(r"\d+(?:\.\d+)?", gold)
    return float(float(wanted) in {float(one) for one in re.findall(r"\d+(?:\.\d+)?", output)})


def official_rules() -> dict[str, Callable[[str, str], float]]:
    topics, charges = (shipped(TASKS[name])["choices"] for name in ("legal/topic", GRADED))

    def topic(output: str, gold: str) -> float:
        return float({name for name in topics if name in output} == {gold})

    def charge(output: str, gold: str) -> float:
        wanted = set(gold.split(":")[1].split(";"))
        found = {name for name in charges if name in output}
        return 2 * len(wanted & found) / (len(wanted) + len(found))

    return {
        "legal/cases": letters,
        GRADED: charge,
        "legal/damages": amount,
        "legal/knowledge": letters,
        "legal/topic": topic,
    }


@pytest.fixture(scope="module")
def scores(shared: Path) -> Scores:
    found = {}
    for name, rule in official_rules().items():
        rows = recorded(shared, TASKS[name])
        for model, said in MODELS.items():
            mine = [row for row in rows if row["model"] == said]
            assert [row["index"] for row in mine] == list(range(500))
            found[name, model] = np.array([rule(row["prediction"], row["refr"]) for row in mine])
    return found


@dataclass(frozen=True)
class Paired:
    """a minus b on 500 rows: flips, mean, two-sided p of no difference."""

    d: np.ndarray
    graded: bool

    @property
    def fixed(self) -> int:
        return int((self.d > 0).sum())

    @property
    def broke(self) -> int:
        return int((self.d < 0).sum())

    @property
    def mean(self) -> float:
        return float(self.d.mean())

    @property
    def error(self) -> float:
        return float(stats.sem(self.d))

    @property
    def p(self) -> float:
        if self.graded:
            return float(stats.ttest_1samp(self.d, 0.0).pvalue)
        return float(mcnemar([[0, self.fixed], [self.broke, 0]], exact=True).pvalue)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's t where values are graded; else all differences that the score test does not reject."""
        if self.graded:
            low, high = stats.ttest_1samp(self.d, 0.0).confidence_interval(confidence)
            return float(low), float(high)
        z = float(stats.norm.ppf((1 + confidence) / 2))
        low = optimize.brentq(lambda delta: self.score(delta) - z, -0.9, self.mean)
        high = optimize.brentq(lambda delta: self.score(delta) + z, self.mean, 0.9)
        return float(low), float(high)

    def score(self, delta: float) -> float:
        """Score statistic of "the difference is delta"; the share of losses maximises the likelihood numerically."""
        n, b, c = len(self.d), self.fixed, self.broke

        def unlikely(q: float) -> float:
            return -(b * log(q + delta) + c * log(q) + (n - b - c) * log(1 - 2 * q - delta))

        bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
        q = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * delta) / sqrt(n * (2 * q + delta - delta**2))


def paired(scores: Scores, name: str, a: str, b: str) -> Paired:
    return Paired(scores[name, a] - scores[name, b], graded=name == GRADED)


def finding_of(low: float, high: float) -> str:
    if high < 0:
        return "worse_beyond" if high < -MARGIN else "worse" if low < -MARGIN else "worse_within"
    return "better" if low > 0 else "not_worse" if low >= -MARGIN else "open"


# -- scores and the board ------------------------------------------------------------------------------------------


def test_every_published_score_is_reproduced(here: Path, scores: Scores) -> None:
    records = json.loads(vevals("leaderboard", "--json"))
    found = {(one["benchmark"], one["model"]): one for one in records if one["benchmark"] != "overall"}
    assert len(found) == 15
    for (name, model), one in found.items():
        published = TASKS[name].published[list(MODELS).index(model)]
        assert round(one["value"], 6) == round(float(scores[name, model].mean()), 6) == published, (name, model)
        assert (one["scored"], one["total"], one["chance"]) == (500, 500, TASKS[name].chance)


EVERYTHING = tuple(TASKS)
RANKS = {
    EVERYTHING: {GPT4: (1, 1), GPT35: (2, 2), QWEN: (3, 3)},
    ("legal/cases",): {GPT4: (1, 1), GPT35: (2, 3), QWEN: (2, 3)},
    ("legal/charges",): {GPT4: (1, 2), QWEN: (1, 2), GPT35: (3, 3)},
    ("legal/damages",): {GPT4: (1, 1), GPT35: (2, 2), QWEN: (3, 3)},
    ("legal/knowledge",): {GPT4: (1, 1), GPT35: (2, 3), QWEN: (2, 3)},
    ("legal/topic",): {GPT4: (1, 2), GPT35: (1, 2), QWEN: (3, 3)},
}


def own_ranks(scores: Scores, names: tuple[str, ...]) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Ranks that the tests of all pairs leave open, and overall scores with chance at 0, all tasks of equal weight."""
    scale = {name: 1 / (1 - TASKS[name].chance) for name in names}
    overall = {
        model: float(np.mean([(scores[name, model].mean() - TASKS[name].chance) * scale[name] for name in names]))
        for model in MODELS
    }
    pairs = list(combinations(sorted(MODELS, key=lambda model: -overall[model]), 2))
    p = []
    for a, b in pairs:
        found = [paired(scores, name, a, b) for name in names]
        total = sum(one.mean * scale[name] for one, name in zip(found, names, strict=True))
        error = sqrt(sum((one.error * scale[name]) ** 2 for one, name in zip(found, names, strict=True)))
        p.append(found[0].p if len(names) == 1 else float(2 * stats.norm.sf(abs(total) / error)))
    apart = [pair for pair, clear in zip(pairs, multipletests(p, 0.05, "holm")[0], strict=True) if clear]
    ranks = {
        model: (1 + sum(worse == model for _, worse in apart), 3 - sum(better == model for better, _ in apart))
        for model in MODELS
    }
    return ranks, overall


@pytest.mark.parametrize("names", RANKS, ids=lambda names: names[0] if len(names) == 1 else "everything")
def test_the_board_ranks_as_far_as_the_paired_tests_go(here: Path, scores: Scores, names: tuple[str, ...]) -> None:
    only = [] if names == EVERYTHING else ["--benchmark", names[0]]
    records = [one for one in json.loads(vevals("leaderboard", *only, "--json")) if one["benchmark"] == "overall"]
    ranks, overall = own_ranks(scores, names)
    assert ranks == RANKS[names]
    assert {one["model"]: (one["rank_low"], one["rank_high"]) for one in records} == ranks
    assert [one["model"] for one in records] == sorted(MODELS, key=lambda model: -overall[model])
    for one in records:
        assert one["value"] == pytest.approx(overall[one["model"]], abs=1e-9)
    tiers = {one["model"]: one["tier"] for one in records}
    for a, b in combinations(MODELS, 2):
        assert (tiers[a] == tiers[b]) == (ranks[a] == ranks[b])


def test_the_printed_board_puts_gpt4_first_and_fits_80_columns(here: Path) -> None:
    lines = vevals("leaderboard").splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    table = [line.split() for line in lines[2:5]]
    assert [row[:3] for row in table] == [["1", "A", GPT4], ["2", "B", GPT35], ["3", "C", QWEN]]
    topic = [line.split() for line in vevals("leaderboard", "--benchmark", "legal/topic").splitlines()[2:5]]
    assert [row[:3] for row in topic] == [["1–2", "A", GPT4], ["1–2", "A", GPT35], ["3", "B", QWEN]]


# -- comparisons ---------------------------------------------------------------------------------------------------

FINDINGS = {
    (GPT4, GPT35): ("better", "better", "better", "better", "not_worse"),
    (GPT35, GPT4): ("worse_beyond", "worse_beyond", "worse_beyond", "worse_beyond", "open"),
    (GPT4, QWEN): ("better", "not_worse", "better", "better", "better"),
    (GPT35, QWEN): ("open", "worse", "better", "open", "better"),
}


@pytest.mark.parametrize(("a", "b"), FINDINGS)
def test_compare_finds_what_an_independent_test_finds(here: Path, scores: Scores, a: str, b: str) -> None:
    said = json.loads(vevals("compare", a, b, "--json"))["benchmarks"]
    assert [one["benchmark"] for one in said] == list(TASKS)
    for one, stated in zip(said, FINDINGS[a, b], strict=True):
        found, own = one["changes"][0]["difference"], paired(scores, one["benchmark"], a, b)
        low, high = own.interval(0.95)
        assert finding_of(low, high) == stated == found["finding"], one["benchmark"]
        assert (found["n"], found["fixed"], found["broke"]) == (500, own.fixed, own.broke)
        assert found["value"] == pytest.approx(own.mean, abs=1e-9)
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-3 if own.graded else 1e-6)
        assert found["p"] == pytest.approx(own.p, rel=0.1 if own.graded else 1e-6)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_compare_says_in_words_what_is_clear_and_what_is_not(here: Path) -> None:
    out = vevals("compare", GPT35, GPT4)
    assert max(cell_len(line) for line in out.splitlines()) <= 80
    words = flat(out)
    assert "legal/damages number_match, 500 samples A 61% (57–65) B 77.6% (73.7–81.0)" in words
    assert "−16 points (−21 to −12): worse by more than 3 points; 20 fixed, 102 broke" in words
    assert "−2.8 points (−6.1 to +0.4): cannot tell for a 3-point margin" in words
    assert words.count("worse by more than 3 points") == 5 and words.count("cannot tell") == 1
    assert "legal, 5 benchmarks, 2,500 samples −13.2 points (−15.1 to −11.3): worse by more than 3 points" in words


def test_without_a_margin_nobody_can_tell_which_is_better_on_topics(here: Path) -> None:
    words = flat(vevals("compare", GPT4, GPT35, "--margin", "0"))
    assert words.count(": better") == 5
    assert "+2.8 points (−0.4 to +6.1): cannot tell for a 0-point margin" in words


# -- the gate ------------------------------------------------------------------------------------------------------

POLICY_YAML = """
schema: vevals.gate/v1
name: legal-release
baseline: {{ref: was-{baseline}}}
checks:
  - {{id: no-regression, select: {{benchmark: [{names}]}}, no_worse_than: {{baseline: true, margin: 0.03}}}}
"""


@dataclass(frozen=True)
class Gate:
    """A release decision: who against whom on which tasks, what it must say of each task, and the exit code."""

    candidate: str
    baseline: str
    states: Mapping[str, str]
    state: str
    code: int


GATES = [
    Gate(GPT35, GPT4, {**dict.fromkeys(TASKS, "FAIL"), "legal/topic": "INCONCLUSIVE"}, "FAIL", 1),
    Gate(GPT4, GPT35, dict.fromkeys(TASKS, "PASS"), "PASS", 0),
    Gate(QWEN, GPT35, dict.fromkeys(("legal/cases", "legal/knowledge"), "INCONCLUSIVE"), "INCONCLUSIVE", 3),
    Gate(GPT35, GPT4, {"legal/topic": "INCONCLUSIVE"}, "INCONCLUSIVE", 3),
]


def own_states(scores: Scores, gate: Gate) -> dict[str, str]:
    """PASS by the lower end of the 90% interval; FAIL by Holm over all tasks, with the normal test."""
    found = {name: paired(scores, name, gate.candidate, gate.baseline) for name in gate.states}
    p = [float(stats.norm.cdf((one.mean + MARGIN) / one.error)) for one in found.values()]
    failed = multipletests(p, 0.05, "holm")[0]
    passed = [one.interval(0.9)[0] >= -MARGIN for one in found.values()]
    return {
        name: "PASS" if good else "FAIL" if bad else "INCONCLUSIVE"
        for name, good, bad in zip(found, passed, failed, strict=True)
    }


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.candidate}-after-{gate.baseline}-{gate.state}")
def test_the_gate_decides_and_a_copied_database_gives_the_same_digest(
    here: Path, tmp_path: Path, scores: Scores, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, written = tmp_path / "policy.yaml", tmp_path / "verdict.json"
    policy.write_text(POLICY_YAML.format(baseline=gate.baseline, names=", ".join(gate.states)).lstrip())
    out = vevals("gate", "check", gate.candidate, "--policy", str(policy), "--json", str(written), code=gate.code)
    verdict = json.loads(written.read_text(encoding="utf-8"))
    assert own_states(scores, gate) == gate.states
    assert {one["benchmark"]: one["state"] for one in verdict["instances"]} == gate.states
    assert verdict["state"] == gate.state
    assert flat(out).startswith(f"{gate.state} legal-release, {gate.candidate} against baseline:was-{gate.baseline}:")
    assert ("cannot tell for a 3-point margin" in flat(out)) == ("INCONCLUSIVE" in gate.states.values())

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(here / "results" / "vevals.db", elsewhere / "copy.db")
    monkeypatch.chdir(elsewhere)
    again = vevals("gate", "verify", str(written), "--db", "copy.db", code=0)
    assert again.startswith(f"verdict {verdict['digest'][:12]}: ") and "the same" in again
