"""The gate over a real store: which runs count, what is recorded, and that a verdict can be recomputed anywhere."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from folders import LETTER_YAML, write_benchmark

from vevals import extend, release, rescore, runsets, session
from vevals.errors import StoreError, VevalsError
from vevals.gate import outputs
from vevals.gate.policy import parse_policy
from vevals.gate.terms import Policy
from vevals.gate.verdict import State, digest_of
from vevals.models import load_model
from vevals.registry import Registry
from vevals.release import Checked
from vevals.runner import Silent, Slice
from vevals.store import RunRow, open_store
from vevals.types import ErrorKind, FinishReason, Request, Response

CITIES = ("Paris", "Rome", "Oslo")
ROWS = [
    {"id": f"c-{n:03d}", "input": f"Question {n} about {CITIES[n % 3]}?", "target": CITIES[n % 3], "level": "ab"[n % 2]}
    for n in range(240)
]
GOOD, SAME, BAD = (f"fake:noisy?accuracy={share}&seed={seed}" for share, seed in ((0.97, 1), (0.97, 2), (0.7, 3)))
POLICY = """
schema: vevals.gate/v1
name: capitals
baseline: {{ref: prod}}
{head}
checks:
  - {{id: same, select: {{metric: accuracy}}, no_worse_than: {{baseline: true, margin: {margin}}}}}
{tail}
"""


def policy(margin: float = 0.1, head: str = "", tail: str = "") -> Policy:
    return parse_policy(POLICY.format(margin=margin, head=head, tail=tail), "gate.yaml")


class Place:
    """A store with a benchmark of 240 questions, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        write_benchmark(folder, rows=ROWS)
        self.registry = Registry((folder,))
        self.store = open_store(str(folder / "results.db"))

    def run(self, model: str | Any = GOOD, **part: Any) -> RunRow:
        one = load_model(model) if isinstance(model, str) else model
        selection = session.select(self.registry, None, ["*"], Slice(**part))
        (result,) = session.run_all(selection, [one], self.store, Silent())
        return result.run

    def baseline(self, model: str = GOOD) -> None:
        self.run(model)
        release.set_baseline(self.store, "prod", runsets.load(self.store, model), "me", "first")

    def judge(self, candidate: str = SAME, rules: Policy | None = None, **more: Any) -> Checked:
        return release.judge(self.store, rules or policy(), candidate, **more)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEVALS_CONFIG", str(tmp_path / "config"))
    made = Place(tmp_path)
    yield made
    made.store.close()


# -- which runs stand for a model ----------------------------------------------------------------------------------


def test_a_run_set_is_called_by_title_label_keys_or_baseline(place: Place) -> None:
    run = place.run(label="nightly")
    place.run(SAME)
    release.set_baseline(place.store, "prod", runsets.load(place.store, SAME), "me", "why")
    for name in (f"{GOOD} [nightly]", "nightly", run.key[:8]):
        assert [one.key for one in runsets.load(place.store, name).runs] == [run.key]
    assert runsets.load(place.store, "baseline:prod").runs[0].model == SAME
    with pytest.raises(StoreError, match="no finished runs are called 'nightli'; did you mean 'nightly'"):
        runsets.load(place.store, "nightli")


def test_first_rows_are_never_evidence_and_a_draw_is(place: Place) -> None:
    place.baseline()
    place.run(SAME, limit=50)
    checked = place.judge()
    assert checked.verdict.exit_code == 4
    assert "--limit" in checked.verdict.instances[0].reason
    place.run(SAME, draw=100)
    (instance,) = place.judge().verdict.instances
    assert instance.n == 100


def test_the_longest_of_nested_draws_counts_and_others_are_ambiguous(place: Place) -> None:
    for draw in (50, 80):
        place.run(draw=draw)
    assert runsets.load(place.store, GOOD).runs[0].draw == 80
    place.run(draw=60, seed=5)
    assert "ambiguous" in runsets.load(place.store, GOOD).problems["test/capitals"]
    place.run()
    assert runsets.load(place.store, GOOD).runs[0].draw is None


def test_two_models_under_one_label_are_ambiguous(place: Place) -> None:
    place.run(GOOD, label="x")
    place.run(SAME, label="x")
    assert "several models" in runsets.load(place.store, "x").problems["test/capitals"]
    with pytest.raises(StoreError, match="cannot be a baseline"):
        release.set_baseline(place.store, "prod", runsets.load(place.store, "x"), "me", "why")


def test_the_current_version_of_a_benchmark_stands_before_an_older_one(place: Place, tmp_path: Path) -> None:
    place.run()
    write_benchmark(tmp_path, yaml=LETTER_YAML.replace("version: 1", "version: 2"), rows=ROWS)
    place.registry = Registry((tmp_path,))
    newer = place.run()
    assert [run.key for run in runsets.load(place.store, GOOD).runs] == [newer.key]


# -- the verdict and its record ------------------------------------------------------------------------------------


def test_a_verdict_is_recorded_once_for_the_same_evidence(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    first, second = place.judge(), place.judge()
    assert first.verdict.state is State.PASS
    assert (first.verdict.digest, first.verdict.attempt) == (second.verdict.digest, 1)
    assert [row.digest for row in place.store.verdicts()] == [first.verdict.digest]
    assert place.store.check_chain(digest_of) == []


def test_a_worse_model_fails_and_the_flips_have_their_texts(place: Place) -> None:
    place.baseline()
    place.run(BAD)
    checked = place.judge(BAD)
    (instance,) = checked.verdict.instances
    assert checked.verdict.exit_code == 1
    assert instance.broke is not None and instance.broke > 40
    flips = release.flips_of(place.store, checked.verdict, None, 5)
    assert len(flips) == 5
    assert all(one.direction == "broke" and one.baseline == one.target != one.candidate for one in flips)


def test_without_baseline_the_policy_is_invalid_or_its_comparison_is_skipped(place: Place) -> None:
    place.run(SAME)
    assert place.judge().verdict.exit_code == 4
    floor = "  - {id: floor, select: {metric: accuracy}, at_least: 0.5}"
    first = POLICY.replace("{{ref: prod}}", "{{ref: prod, on_missing: skip_relative}}")
    rules = parse_policy(first.format(margin=0.1, head="", tail=floor), "gate.yaml")
    assert place.judge(rules=rules).verdict.exit_code == 0


def test_the_baseline_log_only_grows_and_an_old_entry_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.baseline()
    release.set_baseline(place.store, "prod", runsets.load(place.store, GOOD), "me", "again")
    assert [row.reason for row in place.store.baselines("prod")] == ["first", "again"]
    place.run(SAME)
    rules = parse_policy(
        POLICY.replace("{{ref: prod}}", "{{ref: prod, max_age_days: 30}}").format(margin=0.1, head="", tail=""),
        "g.yaml",
    )
    assert place.judge(rules=rules).verdict.exit_code == 0
    monkeypatch.setattr(release, "DAY", release.DAY // 10**9)
    assert "days old" in place.judge(rules=rules).verdict.reasons[0]


def test_a_policy_that_selects_a_suite_takes_its_benchmarks(place: Place, tmp_path: Path) -> None:
    benchmarks = tmp_path
    (benchmarks / "suites.yaml").write_text("release: {title: R, benchmarks: [test/capitals]}\n", encoding="utf-8")
    place.baseline()
    place.run(SAME)
    text = POLICY.replace("metric: accuracy", "suite: release, metric: accuracy").format(margin=0.1, head="", tail="")
    checked = place.judge(rules=parse_policy(text, "g.yaml"), folders=[benchmarks])
    assert checked.verdict.exit_code == 0
    assert release.verify(place.store, checked.verdict).exit_code == 0


# -- trying again --------------------------------------------------------------------------------------------------


def test_a_luckier_second_attempt_is_pooled_with_the_first_and_judged_at_half_the_error_rate(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    first = place.judge().verdict.instances[0]
    place.run(SAME, again=True)
    second = place.judge()
    (instance,) = second.verdict.instances
    assert (second.verdict.attempt, instance.alpha, instance.repeats) == (2, 0.025, 1)
    values = [run.attempt for run in runsets.load(place.store, SAME).runs]
    assert values == [1, 2]
    assert instance.estimate != first.estimate


def test_naming_only_the_second_attempt_does_not_hide_the_first(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    place.judge()
    again = place.run(SAME, again=True)
    checked = place.judge(again.key[:8])
    assert checked.verdict.attempt == 2
    assert len(checked.verdict.candidate["runs"]) == 2
    assert checked.tried == "2 attempts by 1 fingerprint on this policy in 30 days"


def test_five_retries_halve_the_error_rate_each_time(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    alphas = [place.judge().verdict.instances[0].alpha]
    for _ in range(4):
        place.run(SAME, again=True)
        alphas.append(place.judge().verdict.instances[0].alpha)
    assert alphas == [0.05, 0.025, 0.0125, 0.00625, 0.003125]
    assert sum(alphas) < 0.1


class Recovering:
    """A model that cannot answer two questions at first, and can later."""

    def __init__(self) -> None:
        self.model = load_model(GOOD)
        self.name, self.identity, self.answers_by_id = "recovering", {"kind": "recovering"}, True
        self.down = True

    def introduce(self, samples: Sequence[Any], ideals: Sequence[str]) -> None:
        self.model.introduce(samples, ideals)  # type: ignore[attr-defined]

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        for response in self.model.generate(requests):
            if self.down and response.id in ("c-000", "c-001"):
                reason, kind = FinishReason.error, ErrorKind.timeout
                yield Response(response.id, error="no answer in time", error_kind=kind, finish_reason=reason)
            else:
                yield response

    def close(self) -> None:
        self.model.close()


def test_asking_failed_rows_again_after_a_verdict_is_no_second_attempt(place: Place) -> None:
    place.baseline()
    model = Recovering()
    failed = place.run(model)
    rules = policy(head="statistics: {errors: {max_rate: 0.001}}")
    assert "have no value" in place.judge("recovering", rules).verdict.instances[0].reason
    model.down = False
    mended = place.run(model)
    assert mended.key != failed.key and mended.parent == failed.digest
    verdict = place.judge("recovering", rules).verdict
    assert (verdict.attempt, verdict.state) == (1, State.PASS)


def test_a_model_cannot_be_tried_under_another_label(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    one = place.judge().verdict
    place.run(SAME, label="lucky")
    other = place.judge("lucky").verdict
    assert (other.attempt, other.candidate["digest"]) == (1, one.candidate["digest"])


# -- recomputing ---------------------------------------------------------------------------------------------------


def copied(place: Place, name: str = "copy.db") -> str:
    """The database as another machine gets it."""
    target = place.store.path.with_name(name)
    with closing(sqlite3.connect(place.store.path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return str(target)


def test_a_verdict_is_recomputed_to_the_last_digit_from_a_copy_of_the_store(place: Place, tmp_path: Path) -> None:
    place.baseline()
    place.run(SAME)
    tail = "  - {id: f1, select: {metric: macro_f1}, no_worse_than: {baseline: true, margin: 0.1}, severity: warn}\n"
    verdict = place.judge(rules=policy(tail=tail)).verdict
    file = tmp_path / "elsewhere" / "verdict.json"
    file.parent.mkdir()
    file.write_text(outputs.verdict_json(verdict), encoding="utf-8")
    database = copied(place)
    shutil.move(database, file.with_name("copy.db"))
    shutil.rmtree(tmp_path / "test")  # the benchmarks are not needed
    with open_store(str(file.with_name("copy.db")), create=False) as store:
        found = release.verify(store, *release.read(store, str(file)))
        assert (found.exit_code, found.recomputed) == (0, verdict.digest)
        assert release.verify(store, *release.read(store, verdict.digest[:10])).exit_code == 0


CHANGES = {
    "UPDATE scores SET value = 1 - value, outcome = 0 WHERE run_id = 2 AND sample_no < 3": "scores of the candidate",
    "UPDATE responses SET answer = 'Rome' WHERE run_id = 2 AND sample_no = 0": "its answers were changed",
}


@pytest.mark.parametrize(("statement", "told"), CHANGES.items(), ids=["a score", "an answer"])
def test_changed_evidence_is_noticed(place: Place, statement: str, told: str) -> None:
    place.baseline()
    place.run(SAME)
    verdict = place.judge().verdict
    database = copied(place)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement).rowcount
        connection.commit()
    with open_store(database, create=False) as store:
        found = release.verify(store, verdict)
    assert found.exit_code == 1
    assert any(told in text for text in found.differences)


def test_a_changed_verdict_and_missing_evidence_are_told_apart(place: Place, tmp_path: Path) -> None:
    place.baseline()
    place.run(BAD)
    text = outputs.verdict_json(place.judge(BAD).verdict)
    forged = tmp_path / "forged.json"
    forged.write_text(text.replace('"state": "FAIL"', '"state": "PASS"'), encoding="utf-8")
    assert release.verify(place.store, *release.read(place.store, str(forged))).exit_code == 1
    honest = tmp_path / "honest.json"
    honest.write_text(text, encoding="utf-8")
    with open_store(str(tmp_path / "empty.db")) as empty:
        found = release.verify(empty, *release.read(empty, str(honest)))
    assert found.exit_code == 4 and "not in this store" in found.missing[0]
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")
    with pytest.raises(VevalsError, match=r"broken\.json: this is no verdict"):
        release.read(place.store, str(broken))


def test_the_ledger_cannot_be_rewritten(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    place.judge()
    with closing(sqlite3.connect(place.store.path)) as connection:
        for statement in ("UPDATE verdicts SET state = 'PASS'", "DELETE FROM verdicts", "DELETE FROM baselines"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                connection.execute(statement)


# -- more samples, other scorers, the same model twice -------------------------------------------------------------

ANYTIME = (
    "statistics: {method: anytime, min_samples: 20}\non_inconclusive: extend\nbudget: {max_samples: %d, stop_early: %s}"
)


def extended(place: Place, rules: Policy, model: str = SAME, draw: int | None = None) -> Checked:
    plan = extend.Plan(place.registry, None, ("*",), draw)
    return extend.run_and_judge(place.store, rules, model, plan, None, Silent())


def test_an_early_stop_asks_only_as_many_samples_as_it_needs(place: Place) -> None:
    place.baseline()
    checked = extended(place, policy(0.3, ANYTIME % (240, "true")))
    (instance,) = checked.verdict.instances
    assert (checked.verdict.state, checked.verdict.attempt) == (State.PASS, 1)
    assert 20 < instance.n < 200
    assert release.verify(place.store, checked.verdict).exit_code == 0


def test_the_budget_ends_an_extension_that_stays_open(place: Place) -> None:
    place.baseline()
    checked = extended(place, policy(0.005, ANYTIME % (120, "false")), draw=40)
    (instance,) = checked.verdict.instances
    assert (checked.verdict.state, instance.n) == (State.INCONCLUSIVE, 120)
    assert [row.attempt for row in place.store.verdicts()] == [1]


def test_money_that_may_not_be_spent_ends_an_extension_and_needs_a_price(place: Place, tmp_path: Path) -> None:
    place.baseline()
    rules = policy(0.005, (ANYTIME % (240, "false")).replace("max_samples: 240", "max_usd: 0.001"))
    with pytest.raises(VevalsError, match="needs the price of"):
        extended(place, rules, draw=40)
    prices = f'"{SAME}": {{usd_per_million_input: 2, date: 2026-01-01}}\n'
    (tmp_path / "prices.yaml").write_text(prices, encoding="utf-8")
    checked = extended(place, rules, draw=40)
    (instance,) = checked.verdict.instances
    assert checked.verdict.state is State.INCONCLUSIVE
    assert 40 <= instance.n < 240


def test_verdicts_that_rest_on_rescored_runs_are_told(place: Place, tmp_path: Path) -> None:
    place.baseline()
    old = place.run(SAME)
    place.judge()
    loose = LETTER_YAML.replace("metrics: [accuracy, macro_f1]", "metrics: [accuracy]")
    write_benchmark(tmp_path, yaml=loose, rows=ROWS)
    (benchmark,) = Registry((tmp_path,)).find()
    pairs = {run.digest: rescore.rescore(place.store, run, benchmark) for run in place.store.runs()}
    assert all(new is not None for new in pairs.values())
    replaced = {old: new.digest for old, new in pairs.items() if new is not None}
    (moved,) = release.moved(place.store, replaced)
    assert (moved.old.state, moved.state, moved.problem) == ("PASS", "PASS", "")
    (half,) = release.moved(place.store, {old.digest: replaced[old.digest]})
    assert half.state == "INVALID"  # the scorers of the two sides differ now


def test_a_model_against_itself_passes_as_often_as_the_plan_says(place: Place) -> None:
    one = place.run(GOOD)
    other = place.run(GOOD, again=True)
    verdict, rates = release.against_itself(place.store, policy(0.1), one.key[:8], other.key[:8])
    assert verdict.state is State.PASS
    assert rates.shares[State.PASS] > 0.95 and not rates.defective
    _, strict = release.against_itself(place.store, policy(0.011), one.key[:8], other.key[:8])
    assert strict.shares[State.PASS] < 0.5
    assert (rates.exit_code(0.95), strict.exit_code(0.95)) == (0, 3)
    assert place.store.verdicts() == []
    place.run(BAD)
    with pytest.raises(StoreError, match="are not runs of the same model"):
        release.against_itself(place.store, policy(), GOOD, BAD)


def test_provenance_and_actor_are_recorded_but_not_part_of_the_digest(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: Mapping[str, str] = {
        "GITHUB_ACTOR": "octavia",
        "GITHUB_SERVER_URL": "https://ci.example",
        "GITHUB_REPOSITORY": "a/b",
        "GITHUB_RUN_ID": "7",
    }
    for name in ("CI_JOB_URL", "BUILD_URL", *facts):
        monkeypatch.delenv(name, raising=False)
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    place.baseline()
    place.run(SAME)
    verdict = place.judge().verdict
    assert verdict.actor == "octavia"
    assert verdict.provenance["ci"] == "https://ci.example/a/b/actions/runs/7"
    assert replace(verdict, actor="x", provenance={}, times={}).digest == verdict.digest
    assert os.environ["GITHUB_ACTOR"] not in repr(verdict.candidate)


def test_metrics_that_are_gone_leave_the_board_standing(place: Place) -> None:
    run = place.run()
    assert runsets.has_current_metrics(place.store, run)
    with closing(sqlite3.connect(place.store.path)) as connection:
        connection.execute("UPDATE metrics SET name = 'gone' WHERE name = 'accuracy'")
        connection.commit()
    assert not runsets.has_current_metrics(place.store, run)
    assert len(session.board(place.store).rows) == 1


# -- ways to buy a pass --------------------------------------------------------------------------------------------


def test_the_best_of_several_unjudged_runs_is_judged_with_all_of_them(place: Place) -> None:
    place.baseline()
    runs = [place.run(SAME), *(place.run(SAME, again=True) for _ in range(3))]
    verdict = place.judge(runs[2].key[:8]).verdict
    assert verdict.attempt == 4
    assert verdict.instances[0].alpha == pytest.approx(0.05 / 8)
    assert release.verify(place.store, verdict).exit_code == 0


def test_a_baseline_of_the_same_model_is_no_attempt_of_the_candidate(place: Place) -> None:
    place.baseline()
    place.run(GOOD, again=True)
    again = [run for run in place.store.runs() if run.attempt == 2]
    verdict = place.judge(again[0].key[:8]).verdict
    assert (verdict.attempt, len(verdict.candidate["runs"])) == (1, 1)


def test_looking_at_growing_draws_is_trying_again_unless_the_method_allows_it(place: Place) -> None:
    place.baseline()
    attempts = []
    for draw in (60, 120, None):
        place.run(SAME, draw=draw)
        attempts.append(place.judge().verdict.attempt)
    assert attempts == [1, 2, 3]
    anytime = policy(head="statistics: {method: anytime}")
    assert place.judge(rules=anytime).verdict.attempt == 1


def test_another_name_or_seed_of_the_policy_does_not_reset_the_attempts(place: Place) -> None:
    place.baseline()
    place.run(SAME, draw=60)
    place.judge()
    place.run(SAME)
    renamed = POLICY.replace("name: capitals", "name: other").format(margin=0.1, head="statistics: {seed: 9}", tail="")
    assert place.judge(rules=parse_policy(renamed, "g.yaml")).verdict.attempt == 2


def test_draws_of_other_samples_are_pooled_on_the_union(place: Place) -> None:
    place.baseline()
    place.run(SAME, draw=60, seed=1)
    other = place.run(SAME, draw=60, seed=2)
    (instance,) = place.judge(other.key[:8]).verdict.instances
    assert 60 < instance.n < 121
    assert place.judge(other.key[:8]).verdict.reasons == ()


def test_a_required_ledger_must_be_older_than_the_candidate(place: Place) -> None:
    place.run(SAME)
    place.baseline()
    rules = policy(head="ledger: required")
    assert "requires the ledger" in place.judge(rules=rules).verdict.reasons[0]
    other = f"{SAME}1"
    place.run(other)
    assert place.judge(other, rules).verdict.exit_code == 0


def test_a_baseline_that_cannot_be_had_is_no_first_release(place: Place) -> None:
    place.run(SAME)
    floor = "  - {id: floor, select: {metric: accuracy}, at_least: 0.5}"
    first = POLICY.replace("{{ref: prod}}", "{{ref: prod, on_missing: skip_relative}}")
    rules = parse_policy(first.format(margin=0.1, head="", tail=floor), "gate.yaml")
    assert place.judge(rules=rules).verdict.exit_code == 0
    assert "are called 'nosuch'" in place.judge(rules=rules, baseline="nosuch").verdict.reasons[0]
    assert "the candidate's own runs" in place.judge(rules=rules, baseline=SAME).verdict.reasons[0]


def test_verify_notices_another_policy_under_the_old_text(place: Place) -> None:
    place.baseline()
    place.run(SAME)
    verdict = place.judge().verdict
    forged = replace(verdict, policy={**verdict.policy, "sha256": "0" * 64})
    found = release.verify(place.store, forged)
    assert (found.exit_code, found.differences) == (1, ("policy came out otherwise",))


def test_a_verdict_with_a_problem_and_pooled_set_scores_are_recomputed_alike(place: Place, tmp_path: Path) -> None:
    write_benchmark(tmp_path, "test/other", rows=ROWS)
    place.registry = Registry((tmp_path,))
    for model in (GOOD, SAME):
        for benchmark, part in (("test/capitals", {}), ("test/other", {"limit": 5} if model == SAME else {})):
            selection = session.select(place.registry, None, [benchmark], Slice(**part))
            list(session.run_all(selection, [load_model(model)], place.store, Silent()))
    release.set_baseline(place.store, "prod", runsets.load(place.store, GOOD), "me", "first")
    place.registry = Registry((tmp_path / "none",))
    tail = "  - {id: f1, select: {metric: macro_f1, benchmark: test/capitals}, at_least: 0.5}\n"
    verdict = place.judge(rules=policy(tail=tail)).verdict
    assert any("--limit" in one.reason for one in verdict.instances)
    assert release.verify(place.store, verdict).differences == ()


def test_a_shorter_draw_of_answers_that_are_there_is_judged_whole(place: Place) -> None:
    place.baseline()
    whole = place.run(SAME)
    draw = place.run(SAME, draw=60)
    verdict = place.judge(draw.key[:8]).verdict
    assert (verdict.attempt, verdict.instances[0].n) == (1, 240)
    assert [run["digest"] for run in verdict.candidate["runs"]] == [whole.digest]
