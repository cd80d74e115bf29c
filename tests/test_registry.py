"""Where benchmarks are found, and what happens when a name exists twice or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import write_benchmark

from vevals.errors import BenchmarkError
from vevals.registry import Registry, open_registry

SUITES = """
mini:
  title: A small one
  benchmarks: [{benchmark: a/one, draw: 5}, b/*]
  weights: {b: 3}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/one", "a/two", "b/three", "_template", ".hidden/x"):
        write_benchmark(tmp_path / "root", name)
    (tmp_path / "root" / "suites.yaml").write_text(SUITES.lstrip(), encoding="utf-8")
    return tmp_path / "root"


def test_names_are_paths_and_hidden_folders_are_left_out(root: Path) -> None:
    assert Registry((root,)).names() == ["a/one", "a/two", "b/three"]


@pytest.mark.parametrize("pattern", ["a/*", "a", "a/"])
def test_a_pattern_or_a_bare_domain_selects(root: Path, pattern: str) -> None:
    assert Registry((root,)).names([pattern]) == ["a/one", "a/two"]


def test_an_unknown_name_suggests_the_nearest(root: Path) -> None:
    with pytest.raises(BenchmarkError, match="no benchmark is called 'a/onne'; did you mean 'a/one'"):
        Registry((root,)).names(["a/onne"])


def test_a_name_that_exists_twice_is_an_error_that_shows_both(root: Path, tmp_path: Path) -> None:
    other = write_benchmark(tmp_path / "other", "a/one")
    registry = Registry((root, tmp_path / "other"))
    with pytest.raises(BenchmarkError) as caught:
        registry.get("a/one")
    assert str(root / "a/one") in str(caught.value) and str(other) in str(caught.value)
    assert registry.get("a/two").name == "a/two"


def test_a_suite_brings_draws_and_weights(root: Path) -> None:
    suite = Registry((root,)).suite("mini")
    assert suite.draws == {"a/one": 5, "b/three": None}
    assert suite.weights == {"a": 1.0, "b": 3.0}


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("x:\n  title: t\n  benchmarks: [c/none]\n", "suites.yaml:1: suite 'x': no benchmark is called 'c/none'"),
        ("x:\n  title: t\n  benchmark: [a/one]\n", "suites.yaml:3: unknown key 'benchmark'"),
        ("x:\n  title: t\n  benchmarks: [a/one]\n  weights: {b: 1}\n", "weighs the domain 'b'"),
    ],
)
def test_a_mistake_in_a_suite_names_file_and_line(root: Path, yaml: str, sentence: str) -> None:
    (root / "suites.yaml").write_text(yaml, encoding="utf-8")
    with pytest.raises(BenchmarkError) as caught:
        _ = Registry((root,)).suites
    assert sentence in str(caught.value)


def test_packaged_local_and_given_folders_are_searched_together(workplace: Path, root: Path) -> None:
    write_benchmark(workplace / "benchmarks", "mine/here")
    names = open_registry([root]).names()
    assert {"mine/here", "a/one", "medical/triage"} <= set(names)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="there is no such folder"):
        open_registry([tmp_path / "nowhere"])


def test_an_installed_package_brings_benchmarks(
    tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_benchmark(tmp_path / "plugin" / "questions", "theirs/one")
    info = tmp_path / "plugin" / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[vevals.benchmarks]\ntheirs = theirs_package:FOLDER\n", encoding="utf-8")
    module = f"FOLDER = {str(tmp_path / 'plugin' / 'questions')!r}\n"
    (tmp_path / "plugin" / "theirs_package.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    assert open_registry().get("theirs/one").samples[0].id == "c-00"
