"""Where the cache and the settings lie is the user's choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from vevals.places import cache_folder, config_folder


def test_our_own_variable_wins_then_the_systems_then_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VEVALS_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "vevals"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "vevals"


def test_a_relative_system_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VEVALS_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_folder() == tmp_path / ".config" / "vevals"
