"""Hub data sets: the library's own loader on a directory of this machine, which needs no network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vevals.data import DataSpec, HubSource, fetch, load, verify
from vevals.errors import DataError

ROOT = Path(__file__).parents[1]


COMMIT, NEWER = "a" * 40, "b" * 40


def write(folder: Path, name: str, count: int) -> None:
    (folder / name).mkdir()
    rows = [{"text": f"text {i}", "label": i % 2, "tags": [{"n": i}], "day": f"2024-01-0{i + 1}"} for i in range(count)]
    (folder / name / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    write(tmp_path, "reviews", 5)
    return tmp_path


def as_if_fetched(folder: Path, commit: str, count: int) -> None:
    """Leave in the library's cache what it keeps of ``someone/reviews`` at ``commit``: its own files, moved there."""
    import datasets

    write(folder, f"reviews_{count}", count)
    made = datasets.load_dataset(str(folder / f"reviews_{count}"), split="test")
    kept = Path(made.cache_files[0]["filename"]).parent
    target = folder / "cache" / "someone___reviews" / "default" / "0.0.0" / commit
    target.parent.mkdir(parents=True, exist_ok=True)
    kept.rename(target)
    for file in target.glob("*.arrow"):
        file.rename(target / "reviews-test.arrow")
    info = json.loads((target / "dataset_info.json").read_text())
    info |= {"dataset_name": "reviews", "config_name": "default"}
    info["splits"]["test"]["dataset_name"] = "reviews"
    (target / "dataset_info.json").write_text(json.dumps(info))


def test_a_directory_is_read_without_a_revision(folder: Path) -> None:
    spec = DataSpec({}, hub=HubSource("reviews", None, "test"))
    rows = load(spec, folder)
    assert (len(rows), rows.names) == (5, ("text", "label", "tags", "day"))
    assert rows[3] == {"text": "text 3", "label": 1, "tags": [{"n": 3}], "day": "2024-01-04T00:00:00"}
    assert rows.where(3) == "reviews test: row 4"
    assert all(file.is_file() for file in fetch(spec, folder))
    assert verify(spec, folder) == []


def test_an_expression_selects_rows_of_a_hub_data_set(folder: Path) -> None:
    rows = load(DataSpec({}, "[?label == `1`]", HubSource("reviews", None, "test")), folder)
    assert [row["text"] for row in rows] == ["text 1", "text 3"]


def test_a_name_without_a_revision_that_is_no_directory_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="needs its revision"):
        load(DataSpec({}, hub=HubSource("someone/reviews", None, "test")), folder)


def test_a_split_that_is_not_there_is_one_sentence(folder: Path) -> None:
    with pytest.raises(DataError, match="reviews validation: the data set cannot be loaded"):
        load(DataSpec({}, hub=HubSource("reviews", None, "validation")), folder)


def test_a_pinned_data_set_that_was_fetched_before_is_read_without_a_network(folder: Path) -> None:
    as_if_fetched(folder, COMMIT, 3)
    rows = load(DataSpec({}, hub=HubSource("someone/reviews", None, "test", COMMIT)), folder)
    assert [row["text"] for row in rows] == ["text 0", "text 1", "text 2"]


def test_rows_of_another_revision_are_never_used_instead(folder: Path) -> None:
    as_if_fetched(folder, NEWER, 4)
    with pytest.raises(DataError, match=f"are not of the revision {COMMIT}"):
        load(DataSpec({}, hub=HubSource("someone/reviews", None, "test", COMMIT)), folder)


def test_a_directory_is_not_taken_for_a_pinned_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=f"are not of the revision {COMMIT}"):
        load(DataSpec({}, hub=HubSource("reviews", None, "test", COMMIT)), folder)


def test_a_pinned_data_set_that_is_not_here_is_an_error_at_once_when_offline(folder: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match=r"someone/reviews test: the data set cannot be loaded: .*Offline"):
        load(DataSpec({}, hub=HubSource("someone/reviews", None, "test", COMMIT)), folder)
    assert time.monotonic() - began < 5.0


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from pathlib import Path; from vevals.data import *; from vevals.errors import MissingExtra\n"
        "try: load(DataSpec({}, hub=HubSource('reviews', None, 'test')), Path(sys.argv[1]))\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "hub: data needs the extra 'hub': pip install 'vevals[hub]'", done.stderr


def test_importing_the_module_loads_no_heavy_library() -> None:
    code = "import sys, vevals.data; print([m for m in ('datasets', 'numpy', 'pandas', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
