"""What the documents show works: every Python block runs, every command, option, policy and file they name exists."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from conftest import ROOT
from typer.testing import CliRunner

from vevals.cli import app
from vevals.gate.policy import load_policy, parse_policy, policy_schema
from vevals.gate.terms import LONGEST_WAIVER, RESERVED, Policy
from vevals.gate.verdict import State

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md"))]
PROGRAM = typer.main.get_command(app)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?vevals +(.*)$", flags=re.MULTILINE)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of a document that are marked as ``language``; "" is plain text."""
    return [text for mark, text in FENCE.findall(path.read_text(encoding="utf-8")) if mark == language]


def words(line: str) -> list[str]:
    """Words of a command line, without its comment and its quotes."""
    return [word.strip("'\"") for word in line.partition("  #")[0].split()]


def commands(path: Path) -> Iterator[list[str]]:
    """Every ``vevals ...`` of a document, in a block or between backticks."""
    text = path.read_text(encoding="utf-8")
    for line in [*COMMAND.findall("\n".join(blocks(path, ""))), *re.findall(r"`vevals ([^`]+)`", FENCE.sub("", text))]:
        yield words(line)


def mistakes(command: list[str]) -> list[str]:
    """Words that are no command, and options that the command does not have."""
    place: Any = PROGRAM
    rest = list(command)
    while hasattr(place, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in place.commands:
            return [rest[0]]
        place, rest = place.commands[rest[0]], rest[1:]
    known = {option for parameter in place.params for option in parameter.opts} | {"-h", "--help"}
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [option for option in options if option not in known]


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the program, in this process."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})
    return done.exit_code, done.stdout


def test_the_python_of_the_documents_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    code = blocks(DOCS / "python.md", "python")
    for block in code:
        exec(compile(block, "docs/python.md", "exec"), names)
    out = capsys.readouterr().out
    assert len(code) >= 5
    assert "medical/triage" in out and "accuracy: 0." in out and "did you mean 'medical/triage'" in out


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_commands_options_and_links_exist(path: Path) -> None:
    assert {" ".join(command): wrong for command in commands(path) if (wrong := mistakes(command))} == {}
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_links_to_headings_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert [one for one in re.findall(r"\]\(#([^)]+)\)", text) if one not in anchors] == []


def test_the_check_of_commands_finds_mistakes() -> None:
    assert mistakes(["gate", "chekc", "x"]) == ["chekc"]
    assert mistakes(["gate", "check", "x", "--polcy", "p.yaml"]) == ["--polcy"]
    assert mistakes(words("gate check 'a?chat=no' --policy=p.yaml  # --nonsense")) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_key_of_the_yaml_is_documented() -> None:
    from vevals.spec import Spec

    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in Spec.model_fields if f"`{name}`" not in text] == []


def test_every_extractor_and_setting_is_documented() -> None:
    from vevals import extract
    from vevals.models.hf import Settings

    answers = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    ours = [name for name in extract.names() if extract.get(name).fn.__module__.startswith("vevals.")]
    assert [name for name in ours if f"| `{name}` |" not in answers] == []
    models = (DOCS / "models.md").read_text(encoding="utf-8")
    assert [name for name in Settings.__dataclass_fields__ if f"`{name}`" not in models] == []


# -- gates -----------------------------------------------------------------------------------------------------------


OTHERWISE = {
    "comparability.must_match": "all seven",
    "budget.stop_early": "false",
    "no_worse_than.baseline": "true",
}
"""Defaults that the document writes in other words than Python."""


def policies() -> list[tuple[str, str]]:
    """Every policy that a document shows, and the file of the example."""
    shown = [
        (path.name, block) for path in DOCUMENTS for block in blocks(path, "yaml") if "schema: vevals.gate" in block
    ]
    return [*shown, ("release.yaml", (DOCS / "example" / "gates" / "release.yaml").read_text(encoding="utf-8"))]


def keys(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key of a policy that holds a value, as the document writes it (``statistics.seed``), and its default."""
    for name, value in node["properties"].items():
        part = value.get("items", value).get("$ref")
        if part is None:
            yield name, value.get("default")
        else:
            inner = keys(schema, schema["$defs"][part.rpartition("/")[2]])
            yield from ((f"{name}.{key}".removeprefix("checks."), default) for key, default in inner)


def rows(text: str) -> dict[str, str]:
    """First cell -> second cell of all table rows."""
    found = re.findall(r"^\| (`[^|]+) \| ([^|]*)\|", text, flags=re.MULTILINE)
    return {name: default.strip() for cell, default in found for name in re.findall(r"`([^`]+)`", cell)}


def test_policies_that_are_shown_can_be_loaded() -> None:
    loaded = [parse_policy(text, name) for name, text in policies()]
    assert len(loaded) >= 5 and all(isinstance(one, Policy) for one in loaded)
    assert load_policy(DOCS / "example" / "gates" / "release.yaml").text == policies()[-1][1]


def test_every_key_of_a_policy_is_documented_with_its_default() -> None:
    text = (DOCS / "gates.md").read_text(encoding="utf-8")
    documented, found = rows(text), dict(keys(policy_schema(), policy_schema()))
    inside = ("select.", "errors.", "judge.", "contamination.", "waivers.")
    assert [key for key in found if not key.startswith(inside) and key not in documented] == []
    assert [key for key in found if key.startswith(inside) and not re.search(rf"\b{key.split('.')[1]}\b", text)] == []
    defaults = {key: str(default) for key, default in found.items() if default is not None and key in documented}
    told = {key: documented[key].strip("`") for key in defaults}
    assert len(told) >= 10 and told == {**defaults, **OTHERWISE}


def test_reserved_metrics_states_and_the_longest_waiver_are_documented() -> None:
    text = (DOCS / "gates.md").read_text(encoding="utf-8")
    assert [name for name in RESERVED if f"`{name}`" not in text] == []
    codes = {State.PASS: 0, State.FAIL: 1, State.INCONCLUSIVE: 3, State.INVALID: 4}
    assert [
        state for state, code in codes.items() if not re.search(rf"^\| {state} \|.*\| {code} \|$", text, re.M)
    ] == []
    assert f"{LONGEST_WAIVER.days} days" in text


def test_the_numbers_of_samples_are_those_that_the_plan_computes() -> None:
    from vevals.statistics.paired import margin_floor
    from vevals.statistics.power import needed_at_truth_zero

    text = (DOCS / "gates.md").read_text(encoding="utf-8")
    margins = (0.01, 0.02, 0.03, 0.05, 0.10)
    least = [margin_floor(margin, 0.05) for margin in margins]
    assert f"| least samples | {' | '.join(map(str, least))} |" in text
    for power in (0.80, 0.95):
        needed = [
            max(floor or 0, needed_at_truth_zero(0.10, m, 0.05, power)) for m, floor in zip(margins, least, strict=True)
        ]
        assert f"| to pass in {100 * power:.0f}% | {' | '.join(f'{n:,}' for n in needed)} |" in text


def test_the_schema_for_editors_is_the_one_that_the_program_prints() -> None:
    code, printed = run("gate", "schema")
    assert code == 0
    assert json.loads(printed) == json.loads((DOCS / "gate-v1.schema.json").read_text(encoding="utf-8"))


def test_the_prices_that_are_shown_can_be_read(workplace: Path) -> None:
    from vevals.prices import load_prices

    [block] = [one for one in blocks(DOCS / "gates.md", "yaml") if "usd_per_hour" in one]
    (workplace / "prices.yaml").write_text(block, encoding="utf-8")
    prices = load_prices()
    assert prices.usd("smollm2 [one-example]", 0, 0, 3600) == pytest.approx(0.40)
    assert prices.usd("gpt-x", 1e6, 1e6, 0) == pytest.approx(0.75)
    assert prices.of("other") is None


def test_pipelines_that_are_shown_use_what_the_action_and_the_job_have() -> None:
    shown = [yaml.safe_load(block) for block in blocks(DOCS / "example.md", "yaml")]
    action = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "action.yml").read_text(encoding="utf-8"))
    [workflow] = [one for one in shown if "jobs" in one]
    steps = workflow["jobs"]["gate"]["steps"]
    [gate] = [step for step in steps if "/.github/actions/gate@" in step.get("uses", "")]
    assert set(gate["with"]) <= set(action["inputs"])
    used = re.findall(r"steps\.gate\.outputs\.(\w+)", json.dumps(steps))
    assert used and set(used) <= set(action["outputs"])
    job = (ROOT / ".gitlab" / "vevals-gate.yml").read_text(encoding="utf-8")
    [lab] = [one for one in shown if "release-gate" in one]
    assert [name for name in lab["release-gate"]["variables"] if name not in job] == []
    assert lab["release-gate"]["extends"] in yaml.safe_load(job)


# -- the worked example ----------------------------------------------------------------------------------------------


@pytest.fixture
def example(workplace: Path) -> Path:
    """A copy of docs/example to work in."""
    shutil.copytree(DOCS / "example", workplace, dirs_exist_ok=True)
    return workplace


def transcript(command: str) -> list[str]:
    """The lines that docs/example.md shows for a command."""
    shown = "\n".join(blocks(DOCS / "example.md", ""))
    [text] = re.findall(rf"^\$ {re.escape(command)}\n(.*?)(?=^\$ |\Z)", shown, flags=re.MULTILINE | re.DOTALL)
    return [line for line in str(text).splitlines() if line not in ("", "...")]


def test_the_example_of_the_page_is_the_one_in_the_folder(example: Path) -> None:
    shown = blocks(DOCS / "example.md", "yaml")
    assert (example / "benchmarks/support/order_number/benchmark.yaml").read_text(encoding="utf-8") in shown
    assert (example / "gates/release.yaml").read_text(encoding="utf-8") in shown
    code, printed = run("check", "support/order_number")
    assert code == 0 and "100 samples" in printed


@pytest.mark.parametrize(("policy", "margin", "code"), [("release", "0.10", 0), ("tight", "0.02", 3)])
def test_the_plans_of_the_example_are_what_is_printed(example: Path, policy: str, margin: str, code: int) -> None:
    path = example / "gates" / "release.yaml"
    text = path.read_text(encoding="utf-8").replace("margin: 0.10", f"margin: {margin}")
    (example / "gates" / f"{policy}.yaml").write_text(text, encoding="utf-8")
    ended, printed = run("gate", "plan", f"gates/{policy}.yaml", "-b", "support/order_number")
    lines = [line.rstrip() for line in printed.splitlines()]
    assert ended == code
    assert [line for line in transcript(f"vevals gate plan gates/{policy}.yaml") if line not in lines] == []
