"""The marker ``vevals_gate`` in real pytest sessions, over a real store of finished runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vevals

pytest_plugins = ["pytester"]

BENCHMARK = """
title: Capitals
version: 1
data: data.csv
columns: {id: id, input: question, target: capital}
prompt: "{{ input }}"
answer: whole
metrics: [accuracy]
license: CC0-1.0
source: written for this test
"""
POLICY = """
schema: vevals.gate/v1
name: capitals-release
ledger: optional
checks:
  - {{id: floor, select: {{benchmark: geography/capitals, metric: {metric}}}, at_least: {floor}, severity: block}}
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that is always right and one that is always wrong, 100 samples each."""
    folder = tmp_path_factory.mktemp("evidence")
    home = folder / "benchmarks" / "geography" / "capitals"
    home.mkdir(parents=True)
    (home / "benchmark.yaml").write_text(BENCHMARK, encoding="utf-8")
    rows = "".join(f"{number},Capital of country {number}?,City {number}\n" for number in range(100))
    (home / "data.csv").write_text(f"id,question,capital\n{rows}", encoding="utf-8")
    benchmark = vevals.load_benchmark("geography/capitals", folders=[folder / "benchmarks"])
    for model in ("fake:oracle", "fake:empty"):
        vevals.run(benchmark, model, db=folder / "vevals.db")
    return folder / "vevals.db"


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A place for pytest sessions that load the plugin by name alone, installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (pytester.path / "gates").mkdir()
    return pytester


def judged(
    session: pytest.Pytester, database: Path, model: str, floor: float = 0.8, metric: str = "accuracy"
) -> pytest.RunResult:
    """A session of one marked test that tells its body and the verdict that it is given."""
    policy = POLICY.format(floor=floor, metric=metric)
    (session.path / "gates" / "release.yaml").write_text(policy, encoding="utf-8")
    session.makepyfile(
        f"""
        import pytest

        @pytest.mark.vevals_gate("gates/release.yaml", candidate={model!r}, db={str(database)!r})
        def test_release(vevals_verdict):
            print("body ran on", vevals_verdict.candidate["name"], vevals_verdict.exit_code)
        """
    )
    return session.runpytest_inprocess("-p", "vevals.pytest_plugin", "--strict-markers", "-s")


def test_a_passed_gate_runs_the_body_with_the_verdict(session: pytest.Pytester, database: Path) -> None:
    result = judged(session, database, "fake:oracle")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*body ran on fake:oracle 0*"])


def test_a_failed_gate_fails_the_test_with_its_lines(session: pytest.Pytester, database: Path) -> None:
    result = judged(session, database, "fake:empty")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "FAIL  capitals-release, fake:empty: 1 blocking check: 1 FAIL",
            "floor · geography/capitals* (block)",
            "    FAIL  0.0% (90% 0.0–3.0), 100 samples: below 80% (Holm p < 0.001)",
        ]
    )
    result.stdout.no_fnmatch_line("*body ran*")


def test_too_little_evidence_is_an_error_not_a_failure(session: pytest.Pytester, database: Path) -> None:
    result = judged(session, database, "fake:oracle", floor=0.99)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["INCONCLUSIVE  capitals-release*", "*cannot tell for a floor of 99%*"])
    result.stdout.no_fnmatch_line("*body ran*")


def test_an_invalid_gate_is_an_error_that_says_why(session: pytest.Pytester, database: Path) -> None:
    result = judged(session, database, "fake:oracle", metric="acuracy")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["INVALID  capitals-release*", "*acuracy*"])


def test_a_candidate_without_runs_is_an_error_in_one_sentence(session: pytest.Pytester, database: Path) -> None:
    result = judged(session, database, "fake:majority")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the release gate cannot be decided: *fake:majority*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        (
            'vevals_gate("gates/release.yaml")',
            "*the marker vevals_gate*missing*'candidate'*; write vevals_gate(policy,*",
        ),
        ('vevals_gate("gates/release.yaml", "m", model="x")', "*the marker vevals_gate*unexpected*'model'*"),
        ('vevals_gate("gates/none.yaml", "m")', "the release gate cannot be decided: *none.yaml*"),
    ],
)
def test_a_marker_that_cannot_be_read_is_an_error(session: pytest.Pytester, marker: str, told: str) -> None:
    session.makepyfile(f"import pytest\n\n@pytest.mark.{marker}\ndef test_release():\n    print('body ran')\n")
    result = session.runpytest_inprocess("-p", "vevals.pytest_plugin", "-s")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*body ran*")


def test_other_tests_are_left_alone_and_the_fixture_asks_for_its_marker(session: pytest.Pytester) -> None:
    session.makepyfile("def test_plain():\n    pass\n\n\ndef test_fixture(vevals_verdict):\n    pass\n")
    result = session.runpytest_inprocess("-p", "vevals.pytest_plugin")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the fixture vevals_verdict needs the marker*"])


def test_the_plugin_loads_nothing_that_a_session_without_gates_would_wait_for() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import vevals.pytest_plugin; "
        "print(sorted(set(sys.modules) - before - {'vevals', 'vevals.pytest_plugin'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    assert not [name for name in ("numpy", "scipy", "pydantic", "sqlalchemy", "yaml", "vevals.gate") if name in loaded]
