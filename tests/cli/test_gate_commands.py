"""``vevals gate`` and ``vevals baseline`` as a release pipeline calls them: exit codes, files, and what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from folders import write_benchmark
from rich.cells import cell_len

CITIES = ("Paris", "Rome", "Oslo")
ROWS = [
    {"id": f"c-{n:03d}", "input": f"Question {n} about {CITIES[n % 3]}?", "target": CITIES[n % 3], "level": "ab"[n % 2]}
    for n in range(164)
]
GOOD, SAME, BAD = (f"fake:noisy?accuracy={share}&seed={seed}" for share, seed in ((0.97, 1), (0.97, 2), (0.6, 3)))
POLICY = """
schema: vevals.gate/v1
name: capitals
baseline: {ref: prod}
checks:
  - {id: same, select: {metric: accuracy}, no_worse_than: {baseline: true, margin: 0.10}}
  - {id: levels, select: {metric: accuracy}, for_each: [level], at_least: 0.5, severity: warn}
"""


def vevals(*arguments: str, code: int = 0, **environment: str) -> str:
    """Run the command; the exit code is asserted. Returns both outputs."""
    env = {**os.environ, "COLUMNS": "80", **environment}
    command = [sys.executable, "-m", "vevals", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=300)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with three models' runs, a baseline and a policy."""
    folder = tmp_path_factory.mktemp("release")
    write_benchmark(folder / "benchmarks", "code/capitals", rows=ROWS)
    (folder / "gate.yaml").write_text(POLICY, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    models = [word for model in (GOOD, SAME, BAD) for word in ("--model", model)]
    vevals("run", *models, "--benchmark", "code/capitals", "--quiet")
    assert "set" in vevals("baseline", "set", "prod", GOOD, "--reason", "first release", "--by", "me")
    yield folder
    os.chdir(before)


def test_the_exit_code_is_the_verdict(place: Path) -> None:
    green = vevals("gate", "check", SAME, "--policy", "gate.yaml")
    assert green.startswith("PASS  capitals, fake:noisy?accuracy=0.97&seed=2 against")
    red = vevals("gate", "check", BAD, "--policy", "gate.yaml", code=1)
    assert "worse by more than 10 points (Holm p < 0.001)" in " ".join(red.split())
    tight = place / "tight.yaml"
    tight.write_text(POLICY.replace("0.10", "0.02"), encoding="utf-8")
    assert "cannot tell for a 2-point margin" in " ".join(
        vevals("gate", "check", SAME, "--policy", "tight.yaml", code=3).split()
    )
    typo = place / "nothing.yaml"
    typo.write_text(POLICY.replace("{metric: accuracy}, no", "{domain: medicla}, no"), encoding="utf-8")
    assert "selects nothing" in " ".join(vevals("gate", "check", SAME, "--policy", "nothing.yaml", code=4).split())


def test_wrong_usage_is_never_a_verdict(place: Path) -> None:
    wrong = place / "wrong.yaml"
    wrong.write_text(POLICY.replace("severity: warn", "severty: warn"), encoding="utf-8")
    said = vevals("gate", "check", SAME, "--policy", "wrong.yaml", code=2)
    assert said == "Error: wrong.yaml:7: unknown key 'severty'; did you mean 'severity'?\n"
    assert "No such option" in vevals("gate", "check", SAME, "--polcy", "gate.yaml", code=2)
    assert "no finished runs are called 'sane'" in vevals("gate", "check", "sane", "--policy", "gate.yaml", code=2)
    assert "missing.yaml" in vevals("gate", "check", SAME, "--policy", "missing.yaml", code=2)
    assert "no check 'sme'" in vevals("gate", "explain", _digest(), "sme", code=2)


def _digest() -> str:
    return str(json.loads(vevals("gate", "log", "--json"))[0]["digest"])


def test_every_output_is_written_and_well_formed(place: Path) -> None:
    names = {"json": "v.json", "junit": "j.xml", "sarif": "s.sarif", "markdown": "m.md", "attest": "a.json"}
    options = [word for option, name in names.items() for word in (f"--{option}", f"out/{name}")]
    vevals("gate", "check", BAD, "--policy", "gate.yaml", *options, code=1)
    out = place / "out"
    verdict = json.loads((out / "v.json").read_text(encoding="utf-8"))
    assert (verdict["state"], verdict["exit_code"], verdict["schema"]) == ("FAIL", 1, "vevals.verdict/v1")
    suites = ET.parse(out / "j.xml").getroot()
    assert int(suites.get("failures", "0")) >= 1
    result = json.loads((out / "s.sarif").read_text(encoding="utf-8"))["runs"][0]["results"][0]
    region = result["locations"][0]["physicalLocation"]
    assert (region["artifactLocation"]["uri"], region["region"]["startLine"]) == ("gate.yaml", 6)
    markdown = (out / "m.md").read_text(encoding="utf-8")
    assert markdown.startswith("## FAIL") and "broke" in markdown and "c-0" in markdown
    statement = json.loads((out / "a.json").read_text(encoding="utf-8"))
    assert statement["predicate"]["result"] == "FAILED"
    assert statement["subject"][0]["digest"]["sha256"] == verdict["candidate"]["digest"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names.values())


def test_a_verdict_is_verified_and_explained(place: Path) -> None:
    vevals("gate", "check", BAD, "--policy", "gate.yaml", "--json", "v.json", code=1)
    assert "the same to the last digit" in " ".join(vevals("gate", "verify", "v.json").split())
    forged = (place / "v.json").read_text(encoding="utf-8").replace('"state": "FAIL"', '"state": "PASS"')
    (place / "forged.json").write_text(forged, encoding="utf-8")
    assert "was changed" in vevals("gate", "verify", "forged.json", code=1)
    assert "not in this store" in " ".join(_elsewhere(place).split())
    said = vevals("gate", "explain", "v.json", "same", "--flips", "2")
    assert "method: Tango and plus-2" in said and "estimand" in said and said.count("  is  ") == 2


def _elsewhere(place: Path) -> str:
    vevals("run", "--model", GOOD, "--benchmark", "code/capitals", "--limit", "2", "--quiet", "--db", "other.db")
    return vevals("gate", "verify", str(place / "v.json"), "--db", "other.db", code=4)


def test_the_plan_says_before_a_model_is_loaded_that_164_items_cannot_pass_one_point(place: Path) -> None:
    one = place / "one.yaml"
    one.write_text(POLICY.replace("0.10", "0.01"), encoding="utf-8")
    said = vevals("gate", "plan", "one.yaml", "--benchmark", "code/*", code=3)
    told = "code/capitals (164) cannot pass a 1-point no-regression check: it needs 299 at the least"
    assert told in " ".join(said.split())
    assert "passes the blocking check in 0%" in said
    plan = json.loads(vevals("gate", "plan", "gate.yaml", "--benchmark", "code/*", "--json"))
    assert plan["exit_code"] == 0 and 0.9 < plan["joint_power"] < 1
    pilot = vevals("gate", "plan", "gate.yaml", "--pilot", SAME)
    assert "flips as in the pilot" in pilot
    vacuous = place / "vacuous.yaml"
    vacuous.write_text(POLICY.replace("0.10}}", "0.10}, severity: warn}"), encoding="utf-8")
    assert "decides nothing" in vevals("gate", "plan", "vacuous.yaml", "--benchmark", "code/*", code=4)


def test_a_model_against_itself_and_the_ledger_are_printed(place: Path) -> None:
    vevals("run", "--model", GOOD, "--benchmark", "code/capitals", "--again", "--quiet")
    runs = [line.split()[0] for line in vevals("leaderboard", "--runs").splitlines() if "seed=1" in line]
    said = vevals("gate", "aa", runs[0], runs[-1], "--policy", "gate.yaml")
    assert "Without a change, in 1,000 draws: PASS" in said
    ledger = vevals("gate", "log", "capitals")
    assert "FAIL" in ledger and "PASS" in ledger
    assert "me first release" in " ".join(vevals("baseline", "log", "prod").split())
    assert "no baseline is called 'dev'" in vevals("baseline", "log", "dev", code=2)


def test_gate_run_runs_what_is_missing_and_judges(place: Path) -> None:
    new = "fake:noisy?accuracy=0.98&seed=9"
    said = vevals("gate", "run", new, "--policy", "gate.yaml", "--benchmark", "code/capitals", "--quiet")
    assert said.startswith("PASS")
    again = vevals("gate", "run", new, "--policy", "gate.yaml", "--benchmark", "code/capitals", "--quiet")
    assert said.splitlines()[-1] == again.splitlines()[-1]  # the same verdict


def test_a_reader_that_stops_reading_does_not_change_the_verdict(place: Path) -> None:
    command = f'"{sys.executable}" -m vevals gate check "{SAME}" --policy gate.yaml'
    script = f"{command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    if Path("/dev/full").exists():
        full = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
        assert (full.returncode, full.stderr) == (2, "Error: the output cannot be written: No space left on device\n")


def test_limits_written_as_points_are_told_by_plan_and_gate(place: Path) -> None:
    for name, before, after in (("floor", "at_least: 0.5", "at_least: 80"), ("wide", "margin: 0.10", "margin: 3")):
        text = POLICY.replace(before, after).replace("severity: warn", "severity: block")
        (place / f"{name}.yaml").write_text(text, encoding="utf-8")
        plan = " ".join(vevals("gate", "plan", f"{name}.yaml", "--benchmark", "code/*", code=3).split())
        told = " ".join(vevals("gate", "check", SAME, "--policy", f"{name}.yaml", code=4).split())
        for said in (plan, told):
            assert "write 0.8 for 80%" in said or "write 0.03 for 3 points" in said


def test_the_schema_for_editors_is_that_of_the_documentation(place: Path) -> None:
    documented = json.loads((ROOT / "docs" / "gate-v1.schema.json").read_text(encoding="utf-8"))
    assert json.loads(vevals("gate", "schema")) == documented


def test_no_printed_line_is_wider_than_the_terminal(place: Path) -> None:
    printed = [
        vevals("gate", "check", BAD, "--policy", "gate.yaml", code=1),
        vevals("gate", "plan", "gate.yaml", "--benchmark", "code/*"),
        vevals("gate", "explain", _digest()),
        vevals("gate", "log"),
        vevals("baseline", "log", "prod"),
    ]
    assert max(cell_len(line) for text in printed for line in text.splitlines()) <= 80


@pytest.mark.parametrize(("candidate", "code", "state"), [(SAME, 0, "PASS"), (BAD, 1, "FAIL")])
def test_the_action_judges_with_the_real_command(place: Path, candidate: str, code: int, state: str) -> None:
    action = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "action.yml").read_text(encoding="utf-8"))
    (step,) = action["runs"]["steps"]
    command = place / "bin" / "vevals"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vevals "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    files = {name: str(place / f"{name}-{code}") for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    inputs = {"CANDIDATE": candidate, "POLICY": "gate.yaml", "BASELINE": "", "DB": "", "ARGS": ""}
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **files, **inputs, "PATH": path}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert f"state={state}\nexit_code={code}" in Path(files["GITHUB_OUTPUT"]).read_text(encoding="utf-8")
    assert Path(files["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8").startswith(f"## {state}")
