"""Every benchmark that ships passes its check; public ones from the mirror of pinned files."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest
from bundled import BUNDLED, LOCK, digest, locked

from vevals import check, runner
from vevals.benchmark import Benchmark
from vevals.metrics.facts import entries, occurs, plain
from vevals.models import load_model
from vevals.registry import open_registry
from vevals.store import Store

REGISTRY = open_registry()
NAMES = REGISTRY.names()
PUBLIC = [name for name in NAMES if name not in BUNDLED]
PUBLIC_SIZES = {
    "customer_service/banking77": 3080,
    "customer_service/crosswoz_reply": 500,
    "customer_service/fineva_finance_intent": 71,
    "customer_service/fineva_insurance_intent": 71,
    "customer_service/nlupp_banking": 104,
    "education/gsm8k": 1319,
    "finance/fineva_sentiment": 71,
    "finance/tatqa_arithmetic": 718,
    "legal/lawbench_charges": 500,
    "legal/lawbench_consultation": 500,
    "legal/lawbench_damages": 500,
    "legal/lawbench_topic": 500,
    "legal/legalbench_hearsay": 5,
    "medical/medqa": 1273,
    "medical/mts_dialog": 200,
    "medical/pubmedqa": 500,
    "question_answering/cmrc2018": 3219,
    "question_answering/nq_open": 3610,
    "sentiment/tweeteval": 12284,
    "summarization/csl_title": 1000,
    "summarization/dialogsum": 500,
    "translation/wmt22_en_zh": 2037,
}
SIX = {"customer_service", "summarization", "sentiment", "medical", "legal"}  # code, the sixth, is to come
GENERATED = ("fact_score", "fact_strict", "chrf")
NOT_BALANCED = {"customer_service/intent", "customer_service/intent_zh"}  # out of scope is larger; their cards say why
CHOICES = [name for name in BUNDLED if REGISTRY.get(name).spec.chance and REGISTRY.get(name).extractor.name != "json"]


def is_generated(benchmark: Benchmark) -> bool:
    return benchmark.metrics[0].name in GENERATED


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_benchmark_needs_no_repair(name: str) -> None:
    benchmark = REGISTRY.get(name)
    report = check.problems(benchmark)
    assert [finding.text for finding in report.findings if finding.repair] == []
    smaller = is_generated(benchmark) or name == "finance/table_text"
    assert report.samples >= (60 if smaller else 120)


def test_no_question_stands_in_two_bundled_sets() -> None:
    assert check.across({name: REGISTRY.get(name).samples for name in BUNDLED}) == []


@pytest.mark.parametrize("name", BUNDLED)
def test_labels_and_positions_are_balanced(name: str) -> None:
    samples = REGISTRY.get(name).samples
    counts = check.labels(samples)
    if counts and name not in NOT_BALANCED and all(len(sample.target) == 1 for sample in samples):
        assert max(counts.values()) <= 1.5 * sum(counts.values()) / len(counts)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("model", ["fake:majority", "fake:random"])
def test_guessing_gets_what_chance_says(name: str, model: str, tmp_path: Path) -> None:
    """Within 3.3 standard errors of guessing, which one set in a thousand leaves by chance."""
    benchmark = REGISTRY.get(name)
    with Store(str(tmp_path / "v.db")) as store:
        result = runner.run(benchmark, load_model(model), store)
    share, n = result.estimates[0][1].value, len(benchmark.samples)
    replies = Counter(benchmark.ideal(sample) for sample in benchmark.samples)
    expected = max(replies.values()) / n if model == "fake:majority" else benchmark.spec.chance
    assert benchmark.metrics[0].name == "accuracy"
    assert abs(share - expected) <= 3.3 * math.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("name", BUNDLED)
def test_ids_are_short_unique_and_numbered(name: str) -> None:
    ids = [sample.id for sample in REGISTRY.get(name).samples]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z]{2}-\d{3}", one) for one in ids)
    assert len({one[:2] for one in ids}) == 1


@pytest.mark.parametrize("name", BUNDLED)
def test_questions_and_answers_change_only_with_the_version(name: str) -> None:
    benchmark = REGISTRY.get(name)
    message = f"{name} changed: raise its version, then run: python tests/bundled.py"
    assert locked()[name] == {"version": benchmark.spec.version, "rows": digest(benchmark)}, message


def test_the_lock_names_no_other_benchmarks() -> None:
    assert sorted(locked()) == sorted(BUNDLED), f"run: python tests/bundled.py (it writes {LOCK.name})"


@pytest.mark.parametrize("name", [name for name in BUNDLED if "facts" in REGISTRY.get(name).samples[0].fields])
def test_every_reference_holds_every_fact_and_nothing_forbidden(name: str) -> None:
    benchmark = REGISTRY.get(name)
    forbidden = next(metric.options["forbidden"] for metric in benchmark.metrics if metric.name.startswith("fact_"))
    for sample in benchmark.samples:
        for reference in map(plain, sample.target):
            assert [entry for entry in entries(sample, "facts") if not occurs(entry, reference)] == [], sample.id
            unwanted = entries(sample, forbidden) if forbidden in sample.fields else ()
            assert [entry for entry in unwanted if occurs(entry, reference)] == [], sample.id


@pytest.mark.parametrize("domain", sorted(SIX))
def test_a_vertical_has_bundled_benchmarks_in_english_and_chinese(domain: str) -> None:
    languages = [REGISTRY.get(name).spec.language for name in BUNDLED if name.startswith(f"{domain}/")]
    assert ("en",) in languages and ("zh",) in languages


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_benchmark_needs_no_repair(mirror: Path, name: str) -> None:
    report = check.problems(REGISTRY.get(name))
    assert [finding.text for finding in report.findings if finding.repair] == []
    assert report.samples == PUBLIC_SIZES[name]


def test_every_suite_names_benchmarks_that_exist() -> None:
    suites = REGISTRY.suites
    assert {"demo", "quick", "core", "safety", "zh", "bundled", *SIX} <= set(suites)
    assert set(suites["bundled"].benchmarks) == set(BUNDLED)
    assert {name.split("/")[0] for name in suites["core"].benchmarks} == SIX
    assert all("zh" in REGISTRY.get(name).spec.language for name in suites["zh"].benchmarks)
    assert all(name in BUNDLED for suite in suites.values() for name in suite.benchmarks)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_card(name: str) -> None:
    folder = REGISTRY.get(name).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert len(card) > 400 and "icence" in card
    assert (folder.parent / "README.md").is_file()
    assert f"`{folder.name}`" in (folder.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_card_says_how_it_was_checked_how_long_it_is_and_carries_a_canary(name: str) -> None:
    card = (REGISTRY.get(name).folder / "README.md").read_text(encoding="utf-8")
    assert "PENDING" not in card and re.search(r"(solved|translated) (a second time|once more|again)", card)
    assert re.search(r"median", card, re.IGNORECASE) and re.search(r"[Rr]eading level", card)
    assert f"canary: vevals {name} " in card and "CC-BY-4.0" in card
