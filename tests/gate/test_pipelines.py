"""The GitHub action and the GitLab job: their shell steps, run as a runner runs them, beside a stand-in command."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from gate import verdicts

from vevals.gate import outputs
from vevals.gate.verdict import State, Verdict

ACTION = ROOT / ".github" / "actions" / "gate" / "action.yml"
TEMPLATE = ROOT / ".gitlab" / "vevals-gate.yml"
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
KINDS = {"--json": "json", "--junit": "junit", "--sarif": "sarif", "--markdown": "markdown"}
STAND_IN = """#!{python}
import json, pathlib, shutil, sys
here = pathlib.Path({here!r})
(here / "argv.json").write_text(json.dumps(sys.argv[1:]))
for option, name in {kinds!r}.items():
    if (here / name).is_file():
        shutil.copy(here / name, sys.argv[sys.argv.index(option) + 1])
sys.exit(int((here / "code").read_text()))
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a pipeline step left behind."""

    code: int
    argv: list[str]
    stated: dict[str, str]
    summary: str
    files: Path


@dataclass(frozen=True, slots=True)
class Runner:
    """A place with the command on its path, in which steps run."""

    folder: Path

    def judged(self, verdict: Verdict | None, code: int) -> None:
        """Let the command end with ``code`` and, where there is a verdict, write its real outputs."""
        place = self.folder / "command"
        (place / "code").write_text(str(code))
        if verdict is not None:
            written = {
                "json": outputs.verdict_json(verdict),
                "junit": outputs.junit(verdict),
                "sarif": outputs.sarif(verdict),
                "markdown": outputs.markdown(verdict),
            }
            for name, text in written.items():
                (place / name).write_text(text, encoding="utf-8")

    def run(self, shell: tuple[str, ...], script: str, env: Mapping[str, str]) -> Ended:
        """Run a step's script in the work folder."""
        step, stated, summary = (self.folder / name for name in ("step.sh", "output", "summary"))
        step.write_text(script, encoding="utf-8")
        work = self.folder / "work"
        path = f"{self.folder / 'command'}{os.pathsep}{os.environ['PATH']}"
        paths = {"PATH": path, "GITHUB_OUTPUT": str(stated), "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run([*shell, str(step)], cwd=work, env={**paths, **env}, check=False, capture_output=True)
        argv = json.loads((self.folder / "command" / "argv.json").read_text())
        told = [stated, work / "vevals-gate" / "gate.env"]
        pairs = [line.split("=", 1) for path in told if path.is_file() for line in path.read_text().splitlines()]
        text = summary.read_text("utf-8") if summary.is_file() else ""
        return Ended(done.returncode, argv, dict(pairs), text, work / "vevals-gate")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A runner whose ``vevals`` copies what ``judged`` prepared to where its options say."""
    (tmp_path / "work").mkdir()
    place = tmp_path / "command"
    place.mkdir()
    command = place / "vevals"
    command.write_text(STAND_IN.format(python=sys.executable, here=str(place), kinds=KINDS), encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return Runner(tmp_path)


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(ACTION.read_text("utf-8"))
    return found


def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text("utf-8"))[".vevals-gate"]
    return found


def on_github(runner: Runner, **inputs: str) -> Ended:
    """Run the action's step with the inputs as its environment says, and defaults for the others."""
    (step,) = action()["runs"]["steps"]
    values = {name: entry.get("default", "") for name, entry in action()["inputs"].items()}
    values |= {"candidate": "cand-7", "policy": "gates/release.yaml", **inputs}
    env = {}
    for name, expression in step["env"].items():
        assert expression.startswith("${{ inputs.")
        env[name] = values[expression.removeprefix("${{ inputs.").removesuffix(" }}")]
    return runner.run(BASH, step["run"], env)


def on_gitlab(runner: Runner, shell: tuple[str, ...] = BASH, **variables: str) -> Ended:
    """Run the job's script with its variables."""
    env = {"VEVALS_CANDIDATE": "cand-7", "VEVALS_POLICY": "gates/release.yaml", **variables}
    return runner.run(shell, "\n".join(job()["script"]), env)


CASES = [
    (verdicts.green(), 0),
    (verdicts.red(), 1),
    (verdicts.verdict(verdicts.comparison(State.INCONCLUSIVE)), 3),
    (verdicts.verdict(verdicts.comparison(State.INVALID)), 4),
]


@pytest.mark.parametrize(("verdict", "code"), CASES, ids=lambda value: str(value) if isinstance(value, int) else "")
def test_the_action_hands_on_exit_code_state_summary_and_files(runner: Runner, verdict: Verdict, code: int) -> None:
    assert verdict.exit_code == code
    runner.judged(verdict, code)
    ended = on_github(runner)
    assert ended.code == code
    assert ended.stated == {
        "state": verdict.state.value,
        "exit_code": str(code),
        "digest": verdict.digest,
        "files": "vevals-gate",
    }
    assert ended.summary == outputs.markdown(verdict)
    kept = {path.name for path in ended.files.iterdir()}
    assert kept == {"verdict.json", "junit.xml", "verdict.sarif", "verdict.md"}
    assert (ended.files / "junit.xml").read_text("utf-8") == outputs.junit(verdict)


@pytest.mark.parametrize("shell", [BASH, ("sh", "-e")], ids=["bash", "sh"])
@pytest.mark.parametrize(("verdict", "code"), CASES, ids=lambda value: str(value) if isinstance(value, int) else "")
def test_the_gitlab_job_hands_on_exit_code_state_and_report(
    runner: Runner, verdict: Verdict, code: int, shell: tuple[str, ...]
) -> None:
    runner.judged(verdict, code)
    ended = on_gitlab(runner, shell)
    assert ended.code == code
    assert ended.stated == {
        "VEVALS_GATE_STATE": verdict.state.value,
        "VEVALS_GATE_EXIT_CODE": str(code),
        "VEVALS_GATE_DIGEST": verdict.digest,
    }
    reports = job()["artifacts"]["reports"]
    work = ended.files.parent
    assert (work / reports["junit"]).read_text("utf-8") == outputs.junit(verdict)
    assert (work / reports["dotenv"]).is_file()
    assert job()["artifacts"]["when"] == "always"


@pytest.mark.parametrize("code", [2, 70])
def test_without_a_verdict_nothing_old_is_mistaken_for_one(runner: Runner, code: int) -> None:
    runner.judged(verdicts.green(), 0)
    assert on_github(runner).stated["state"] == "PASS"
    for name in KINDS.values():
        (runner.folder / "command" / name).unlink()
    (runner.folder / "output").unlink()
    (runner.folder / "summary").unlink()
    runner.judged(None, code)
    ended = on_github(runner)
    assert ended.code == code
    assert (ended.stated["state"], ended.stated["digest"]) == ("", "")
    assert f"exit code {code} and reached no verdict" in ended.summary
    assert list(ended.files.iterdir()) == []
    (runner.folder / "output").unlink()
    gitlab = on_gitlab(runner)
    assert (gitlab.code, gitlab.stated["VEVALS_GATE_STATE"]) == (code, "")


FILES = [
    *("--json", "vevals-gate/verdict.json", "--junit", "vevals-gate/junit.xml"),
    *("--sarif", "vevals-gate/verdict.sarif", "--markdown", "vevals-gate/verdict.md"),
]


def test_the_command_is_called_with_what_was_asked(runner: Runner) -> None:
    runner.judged(verdicts.green(), 0)
    plain = ["gate", "check", "--policy=gates/release.yaml", *FILES]
    assert on_github(runner).argv == [*plain, "--", "cand-7"]
    assert on_gitlab(runner).argv == [*plain, "--", "cand-7"]
    more = on_github(runner, baseline="prod", db="r.db", args="--attest  a.json\n  --markdown-bytes 900")
    options = ["--attest", "a.json", "--markdown-bytes", "900"]
    assert more.argv == [*plain, "--baseline=prod", "--db=r.db", *options, "--", "cand-7"]
    gitlab = on_gitlab(runner, VEVALS_BASELINE="prod", VEVALS_ARGS="--attest  a.json")
    assert gitlab.argv == [*plain, "--baseline=prod", "--attest", "a.json", "--", "cand-7"]


ATTACKS = ["$(touch pwned)", "`touch pwned`", "x; touch pwned", "' || touch pwned #", "--help", "a b * \\", "x\ny=z"]


@pytest.mark.parametrize("text", ATTACKS)
def test_an_input_is_never_read_as_shell_or_as_an_option(runner: Runner, text: str) -> None:
    runner.judged(verdicts.green(), 0)
    (runner.folder / "work" / "file").touch()
    ended = on_github(runner, candidate=text, policy=text, baseline=text, db=text, args=text)
    assert ended.code == 0
    assert ended.argv[-2:] == ["--", text]
    assert f"--policy={text}" in ended.argv
    assert f"--baseline={text}" in ended.argv
    assert ended.argv[-2 - len(text.split()) : -2] == text.split()
    gitlab = on_gitlab(runner, VEVALS_CANDIDATE=text, VEVALS_POLICY=text, VEVALS_BASELINE=text, VEVALS_ARGS=text)
    assert gitlab.argv[-2:] == ["--", text]
    assert gitlab.argv[-2 - len(text.split()) : -2] == text.split()
    assert not list(runner.folder.rglob("pwned"))


def test_a_verdict_cannot_smuggle_outputs_into_the_pipeline(runner: Runner) -> None:
    text = '\n  "state": "PASS",\nstate=PASS\n  "digest": "0"'
    red = verdicts.verdict(verdicts.comparison(State.FAIL, name=text, reason=text), reasons=(text,), actor=text)
    runner.judged(red, 1)
    ended = on_github(runner)
    assert ended.stated["state"] == "FAIL"
    assert ended.stated["digest"] == red.digest


def test_no_expression_stands_inside_a_script() -> None:
    for step in action()["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    assert "${{" not in TEMPLATE.read_text("utf-8")


def test_every_input_is_used_and_every_output_is_set(runner: Runner) -> None:
    (step,) = action()["runs"]["steps"]
    assert {f"${{{{ inputs.{name} }}}}" for name in action()["inputs"]} == set(step["env"].values())
    runner.judged(verdicts.green(), 0)
    stated = set(on_github(runner).stated)
    assert {entry["value"] for entry in action()["outputs"].values()} == {
        f"${{{{ steps.{step['id']}.outputs.{name} }}}}" for name in stated
    }


def test_a_softened_gate_is_green_but_tells_its_state(runner: Runner) -> None:
    softened = replace(verdicts.verdict(verdicts.comparison(State.INCONCLUSIVE)), exit_state=State.PASS)
    runner.judged(softened, softened.exit_code)
    ended = on_github(runner)
    assert (ended.code, ended.stated["state"]) == (0, "INCONCLUSIVE")
