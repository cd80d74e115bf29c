"""Every benchmark that ships passes its check; public ones from the mirror of pinned files."""

from __future__ import annotations

from pathlib import Path

import pytest

from vevals import check
from vevals.registry import open_registry

NAMES = open_registry().names()
BUNDLED = [name for name in NAMES if isinstance(open_registry().get(name).spec.data, str)]
PUBLIC = [name for name in NAMES if name not in BUNDLED]
PUBLIC_SIZES = {
    "customer_service/banking77": 3080,
    "education/gsm8k": 1319,
    "legal/lawbench_charges": 500,
    "legal/lawbench_damages": 500,
    "legal/lawbench_topic": 500,
    "medical/medqa": 1273,
    "medical/pubmedqa": 500,
    "question_answering/cmrc2018": 3219,
    "sentiment/tweeteval": 12284,
    "summarization/dialogsum": 500,
}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_benchmark_needs_no_repair(name: str) -> None:
    report = check.problems(open_registry().get(name))
    assert [finding.text for finding in report.findings if finding.repair] == []
    assert report.samples >= 60


def test_every_domain_of_the_first_release_has_a_bundled_benchmark() -> None:
    domains = {name.split("/")[0] for name in BUNDLED}
    assert domains >= {"customer_service", "summarization", "sentiment", "medical", "legal"}


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_benchmark_needs_no_repair(mirror: Path, name: str) -> None:
    report = check.problems(open_registry().get(name))
    assert [finding.text for finding in report.findings if finding.repair] == []
    assert report.samples == PUBLIC_SIZES[name]


def test_every_suite_names_benchmarks_that_exist() -> None:
    suites = open_registry().suites
    assert {"demo", "bundled"} <= set(suites)
    assert set(suites["bundled"].benchmarks) == set(BUNDLED)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_card(name: str) -> None:
    folder = open_registry().get(name).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert len(card) > 400 and "icence" in card
    assert (folder.parent / "README.md").is_file()


def test_support_dialogue_references_hold_their_facts_and_no_distractor() -> None:
    for sample in open_registry().get("summarization/support_dialogue").samples:
        for reference in sample.target:
            text = reference.casefold()
            assert all(any(form.casefold() in text for form in forms) for forms in sample.fields["facts"]), sample.id
            assert not any(form.casefold() in text for form in sample.fields["distractors"]), sample.id
