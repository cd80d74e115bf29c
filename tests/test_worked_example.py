"""docs/example.md with the real model, from ``vevals run`` to a green and a red pipeline.

It takes 24 samples instead of 100, and a policy fit for so few: no floor, no topics, 90% confidence and a margin of 16
points, which leaves room for one answer that half precision turns on another machine. The seed picks a draw of which
two examples break many.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from typer.testing import CliRunner

from vevals.cli import app

pytestmark = [pytest.mark.model, pytest.mark.slow]

BENCHMARK = "support/order_number"
HALF = "smollm2?dtype=bfloat16"
POLICY = """
schema: vevals.gate/v1
name: shop-mail
baseline: {ref: prod}
statistics: {confidence: 0.90, min_samples: 24}
comparability: {must_match: [dataset, generation, scorer, harness]}
checks:
  - {id: no-regression, select: {metric: score}, no_worse_than: {baseline: true, margin: 0.16}}
"""


def vevals(*arguments: str, code: int = 0) -> str:
    """Run the program in this process, which loads the libraries once; the exit code is asserted."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == code, f"{arguments}: exit {done.exit_code}\n{done.output}\n{done.exception!r}"
    return done.stdout


def run(*arguments: str) -> dict[str, float]:
    """Scores by model, of 24 samples."""
    printed = vevals("run", "-b", BENCHMARK, "--draw", "24", "--seed", "49", "--quiet", "--json", *arguments)
    return {one["model"]: one["estimates"][0]["value"] for one in json.loads(printed)}


def pipeline(folder: Path, candidate: str) -> tuple[int, dict[str, str], str]:
    """The step of the GitHub action as a runner runs it: exit code, outputs, and the summary of the step."""
    action = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "action.yml").read_text(encoding="utf-8"))
    program = folder / "bin" / "vevals"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vevals "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    files = {"GITHUB_OUTPUT": folder / "output.txt", "GITHUB_STEP_SUMMARY": folder / "summary.md"}
    for path in files.values():
        path.write_text("", encoding="utf-8")
    inputs = {"CANDIDATE": candidate, "POLICY": "gates/release.yaml", "BASELINE": "", "DB": "", "ARGS": ""}
    env = {**os.environ, **inputs, **{name: str(path) for name, path in files.items()}}
    env["PATH"] = f"{program.parent}{os.pathsep}{env['PATH']}"
    shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", action["runs"]["steps"][0]["run"]]
    done = subprocess.run(shell, env=env, capture_output=True, text=True, check=False, timeout=300)
    stated, summary = (path.read_text(encoding="utf-8") for path in files.values())
    return done.returncode, dict(line.split("=", 1) for line in stated.splitlines()), summary


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_half_precision_gets_a_green_pipeline_and_a_shorter_prompt_a_red_one(smollm2: str, workplace: Path) -> None:
    shutil.copytree(ROOT / "docs" / "example", workplace, dirs_exist_ok=True)
    (workplace / "gates" / "release.yaml").write_text(POLICY, encoding="utf-8")
    plan = vevals("gate", "plan", "gates/release.yaml", "-b", BENCHMARK, "--samples", "24")
    assert "An unchanged model passes the blocking check" in plan

    scores = run("-m", smollm2, "-m", HALF)
    assert scores[smollm2] > 0.8
    assert "1 benchmark" in vevals("baseline", "set", "prod", smollm2, "--reason", "in production")

    printed = vevals("gate", "check", HALF, "--policy", "gates/release.yaml")
    assert printed.startswith(f"PASS  shop-mail, {HALF} against baseline:prod: 1 blocking check: 1 PASS")
    code, stated, summary = pipeline(workplace, HALF)
    assert (code, stated["state"], stated["exit_code"]) == (0, "PASS", "0")
    assert summary.startswith("## PASS")

    benchmark = workplace / "benchmarks" / BENCHMARK / "benchmark.yaml"
    text = benchmark.read_text(encoding="utf-8")
    benchmark.write_text(text.replace("count: 3", "count: 2"), encoding="utf-8")
    run("-m", smollm2, "--label", "two-examples")

    printed = vevals(
        "gate", "check", "two-examples", "--policy", "gates/release.yaml", "--json", "verdict.json", code=1
    )
    assert printed.startswith("FAIL  shop-mail, two-examples against baseline:prod: 1 blocking check: 1 FAIL")
    assert "worse by" in printed and "24 samples" in printed
    code, stated, summary = pipeline(workplace, "two-examples")
    assert (code, stated["state"], stated["exit_code"]) == (1, "FAIL", "1")
    assert summary.startswith("## FAIL")

    assert "is  B-77120" in vevals("gate", "explain", "verdict.json", "no-regression")
    assert "the same to the last" in vevals("gate", "verify", "verdict.json")
