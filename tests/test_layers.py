"""Imports point down, and each foreign library has its place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "vevals"
LAYERS = [
    {"types", "errors"},
    {"engine", "statistics", "catalogue", "extract", "prompt", "canonical", "display", "places"},
    {"metrics", "models", "store", "data", "spec"},
    {"evidence", "prices", "usage"},
    {"benchmark", "registry", "board", "check", "compare", "gate", "licences", "provenance", "harness"},
    {"runner", "session", "runsets", "flips", "release", "planning", "extend", "rescore", "api"},
    {"cli", "__main__", "pytest_plugin"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HOMES = {
    "torch": {"engine", "models"},
    "transformers": {"engine", "models"},
    "sqlalchemy": {"store"},
    "pydantic": {"spec", "gate"},
    "yaml": {"spec"},
    "jinja2": {"prompt", "engine"},
    "typer": {"cli"},
    "rich": {"cli"},
    "jmespath": {"data"},
    "datasets": {"data", "harness"},
    "lm_eval": {"harness"},
    "tqdm": {"harness"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if node.module == "vevals":
                found += [f"vevals.{name.name}" for name in node.names]
    return found


def test_every_module_has_a_layer() -> None:
    assert {part_of(path) for path in modules()} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_libraries_stay_in_their_place(path: Path) -> None:
    own = part_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "vevals" and len(parts) > 1 and own != "__init__":
            other = parts[1]
            assert other == own or other not in LEVEL or LEVEL[other] <= LEVEL[own], f"{own} imports {other}"
        if parts[0] in HOMES:
            assert own in HOMES[parts[0]], f"{own} imports {parts[0]}"


HEAVY = ("torch", "transformers", "pandas", "sklearn", "scipy", "numpy", "sqlalchemy", "pydantic")


@pytest.mark.parametrize("statement", ["import vevals", "import vevals.cli"])
def test_importing_vevals_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_those_of_the_documentation() -> None:
    import vevals

    documented = ["VevalsError", "__version__", "leaderboard", "list_benchmarks", "load_benchmark", "load_model", "run"]
    assert sorted(vevals.__all__) == documented
    assert all(getattr(vevals, name) is not None for name in vevals.__all__)
    with pytest.raises(AttributeError):
        _ = vevals.load_everything
