"""Where vevals keeps things on this machine: the cache (may be deleted at any time) and the settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``VEVALS_CACHE``, else ``vevals`` in the system's place for caches. It may not exist yet."""
    if named := os.environ.get("VEVALS_CACHE"):
        return Path(named).expanduser()
    return _system_folder("LOCALAPPDATA", "XDG_CACHE_HOME", ".cache") / "vevals"


def config_folder() -> Path:
    """``VEVALS_CONFIG``, else ``vevals`` in the system's place for settings. It may not exist yet."""
    if named := os.environ.get("VEVALS_CONFIG"):
        return Path(named).expanduser()
    return _system_folder("APPDATA", "XDG_CONFIG_HOME", ".config") / "vevals"


def _system_folder(windows: str, xdg: str, home: str) -> Path:
    variable = windows if sys.platform == "win32" else xdg
    named = os.environ.get(variable)
    return Path(named) if named and Path(named).is_absolute() else Path.home() / home
