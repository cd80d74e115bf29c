"""What the documents show works: every Python block runs, every command and file they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {"list", "show", "check", "new", "run", "leaderboard", "samples", "data"}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_python_of_the_documents_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    code = blocks(ROOT / "docs" / "python.md", "python")
    for block in code:
        exec(compile(block, "docs/python.md", "exec"), names)
    out = capsys.readouterr().out
    assert len(code) >= 5
    assert "medical/triage" in out and "accuracy: 0." in out and "did you mean 'medical/triage'" in out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_links_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"```\n(.*?)```", text, flags=re.DOTALL))
    commands = re.findall(r"^vevals ([a-z]+)", fenced, flags=re.MULTILINE) + re.findall(r"`vevals ([a-z]+)", text)
    assert [command for command in commands if command not in COMMANDS] == []
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (path.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_key_of_the_yaml_is_documented() -> None:
    from vevals.spec import Spec

    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in Spec.model_fields if f"`{name}`" not in text] == []


def test_every_extractor_and_setting_is_documented() -> None:
    from vevals import extract
    from vevals.models.hf import Settings

    answers = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    ours = [name for name in extract.names() if extract.get(name).fn.__module__.startswith("vevals.")]
    assert [name for name in ours if f"| `{name}` |" not in answers] == []
    models = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in Settings.__dataclass_fields__ if f"`{name}`" not in models] == []
