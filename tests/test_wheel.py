"""The built wheel works in a clean environment, from an empty folder, and says what an extra is for."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a clean environment with nothing but the wheel and its core dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, timeout=600)
    venv.create(folder / "env", with_pip=True)
    bin_folder = folder / "env" / "bin"
    [wheel] = folder.glob("vevals-*.whl")
    install = [str(bin_folder / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, timeout=900)
    return bin_folder


def vevals(installed: Path, place: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run([installed / "vevals", *arguments], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_carries_benchmarks_suites_and_template(installed: Path, workplace: Path) -> None:
    records = json.loads(vevals(installed, workplace, "list", "--json"))
    assert {"medical/triage", "customer_service/banking77"} <= {record["benchmark"] for record in records}
    assert "demo" in vevals(installed, workplace, "list", "suites")
    vevals(installed, workplace, "new", "shop/returns")
    assert "ok " in vevals(installed, workplace, "check", "shop/returns")


def test_a_suite_runs_and_a_leaderboard_is_printed(installed: Path, workplace: Path) -> None:
    run = vevals(installed, workplace, "run", "--suite", "demo", "-m", "fake:majority", "-m", "fake:random", "-q")
    assert "Leaderboard" in run and (workplace / "results" / "vevals.db").is_file()
    assert "fake:majority" in vevals(installed, workplace, "leaderboard", "--suite", "demo", "--format", "markdown")


def test_a_missing_extra_is_one_sentence_with_the_command(installed: Path, workplace: Path) -> None:
    (workplace / "model").mkdir()
    (workplace / "model" / "config.json").write_text("{}", encoding="utf-8")
    (workplace / "model" / "model.safetensors").write_bytes(b"")
    out = vevals(installed, workplace, "run", "-m", "hf:model", "-b", "medical/triage", code=2)
    assert "hf: models needs the extra 'hf': pip install 'vevals[hf]'" in out
