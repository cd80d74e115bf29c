"""``vevals compare`` on a real store: its sentences, the answers that changed, what it refuses, and its JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import LETTER_YAML, write_benchmark
from rich.cells import cell_len
from typer import Exit

from vevals.cli.compare import compare
from vevals.cli.runs import run
from vevals.compare import ComparisonError
from vevals.errors import StoreError, VevalsError

CITIES = ("Paris", "Rome", "Oslo")
ROWS = [
    {"id": f"c-{number:03d}", "input": f"Question {number} about {city}?", "target": city, "level": level}
    for number, (city, level) in enumerate([(city, level) for level in ("easy", "hard") for city in CITIES] * 20)
]
ACCURACY_YAML = LETTER_YAML.replace(", macro_f1", "")
WHOLE_YAML = LETTER_YAML.replace(
    "answer: letter\nmetrics: [accuracy, macro_f1]", "answer: whole\nmetrics: [exact_match]"
)
WHOLE_YAML = WHOLE_YAML.replace("choices: [Paris, Rome, Oslo]\n", "").replace("\n  {{ choices }}\n", "")
HOSTILE = "\x1b[31mred\x1b[0m \u202egnihsif [bold]no markup[/bold]\n\nsecond line\r" + "很长的回答" * 60 + "x" * 300
Print = Callable[..., str]


def vevals(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in the current folder; the exit code is asserted."""
    command = [sys.executable, "-m", "vevals", *arguments]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def whole_row(number: int) -> dict[str, Any]:
    target = "\x1b]0;title\x07right" if number == 0 else f"right {number}"
    return {
        "id": f"w-{number:02d}",
        "input": f"Say {number}.",
        "target": target,
        "level": "one\x1b[2J" if number else "two",
    }


def write_recordings(folder: Path) -> None:
    """Outputs of two models for test/whole; the first breaks w-00 with a hostile text."""
    rows = [whole_row(number) for number in range(30)]
    texts = {
        "bad": [HOSTILE, *(row["target"] for row in rows[1:29]), "wrong"],
        "good": [*(row["target"] for row in rows[:29]), "also wrong"],
    }
    for name, said in texts.items():
        lines = [json.dumps({"id": row["id"], "text": text}) for row, text in zip(rows, said, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three benchmarks and a store of finished runs."""
    folder = tmp_path_factory.mktemp("compare")
    write_benchmark(folder / "benchmarks", "test/capitals", ACCURACY_YAML, rows=ROWS)
    write_benchmark(folder / "benchmarks", "test/more", rows=ROWS[:60])
    write_benchmark(folder / "benchmarks", "test/whole", WHOLE_YAML, rows=[whole_row(number) for number in range(30)])
    write_recordings(folder)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VEVALS_DB", raising=False)
        run(["fake:majority", "fake:random", "fake:oracle"], benchmark=["test/capitals", "test/more"], quiet=True)
        with pytest.raises(Exit):
            run(["fake:flaky"], benchmark=["test/capitals"], quiet=True)
        run(["fake:oracle"], benchmark=["test/capitals"], draw=40, label="drawn", quiet=True)
        run(["replay:bad.jsonl?name=bad", "replay:good.jsonl?name=good"], benchmark=["test/whole"], quiet=True)
        other = ACCURACY_YAML.replace("{{ choices }}", "{{ choices }}\n\n  Answer with a letter.")
        write_benchmark(folder / "benchmarks", "test/capitals", other, rows=ROWS)
        run(["fake:oracle"], benchmark=["test/capitals"], label="prompt", quiet=True)
    signal.signal(signal.SIGTERM, before)
    return folder


@pytest.fixture
def shown(filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    """What the command prints, at 80 columns or ``width``."""
    monkeypatch.chdir(filled)

    def call(a: str, b: str, width: int = 80, **options: Any) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        compare(a, b, **options)
        return capsys.readouterr().out

    return call


def flat(text: str) -> str:
    return " ".join(text.split())


def test_each_benchmark_has_its_values_and_one_plain_sentence(shown: Print) -> None:
    out = flat(shown("fake:oracle", "fake:majority"))
    assert out.startswith("Differences are A minus B, with 95% intervals A fake:oracle B fake:majority")
    assert "test/capitals accuracy, 120 samples A 100.0% (96.9–100.0) B 33% (26–42)" in out
    assert "+67 points (+58 to +74): better; 80 fixed, 0 broke p < 0.001, Holm p < 0.001, Tango" in out
    assert "test, 2 benchmarks, 180 samples +67 points" in out
    assert "0 of 4 slices are worse beyond chance" in out


def test_the_second_name_is_what_the_first_is_measured_against(shown: Print) -> None:
    out = flat(shown("fake:majority", "fake:oracle"))
    assert "−67 points (−74 to −58): worse by more than 3 points; 0 fixed, 80 broke" in out
    assert "4 of 4 slices are worse beyond chance" in out and "level easy: test/capitals, 60 samples" in out


def test_every_metric_or_one_can_be_asked_for(shown: Print) -> None:
    out = shown("fake:random", "fake:majority", metric="macro_f1")
    assert "macro_f1, 60 samples" in out and "accuracy" not in out and "BCa" in out
    assert "test/capitals: no metric 'macro_f1'" in out
    both = shown("fake:random", "fake:majority", metric="all")
    assert both.count("accuracy, 60 samples") == both.count("macro_f1, 60 samples") == 1


def test_by_shows_every_value_of_a_slice(shown: Print) -> None:
    out = shown("fake:random", "fake:majority", by="level")
    assert "Slices by level, the worst first" in out
    assert sum(line.startswith("  level ") for line in out.splitlines()) == 4
    with pytest.raises(ComparisonError, match=r"--by levle: no benchmark has such a slice .*; there is level"):
        shown("fake:random", "fake:majority", by="levle")


def test_failed_rows_are_counted_and_open_what_the_difference_could_be(shown: Print) -> None:
    out = flat(shown("fake:flaky", "fake:oracle"))
    body = json.loads(shown("fake:flaky", "fake:oracle", json=True))["benchmarks"][0]["changes"][0]
    lost = body["outcomes"][0]["failed"]
    assert 0 < lost == body["missing"]["candidate"] == 120 - body["difference"]["n"]
    share = f"{100 * lost / 120:.1f}"
    assert f"−{share} to 0.0 points whatever the rows without a value are (A {lost}, B 0)" in out
    assert f"failed {share}% / 0.0%" in out
    assert "Not compared only B has runs of test/more" in out


def test_broken_answers_come_first_with_both_answers(shown: Print) -> None:
    lines = shown("fake:random", "fake:oracle", flips=2).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("Answers that changed in test/capitals")))
    block = [line.split() for line in lines[start + 1 : start + 5]]
    assert block[0][0] == "broke" and block[0][2] == "(level"
    assert [row[0] for row in block[1:]] == ["target", "A", "B"]
    assert block[1][1] == block[3][1] != block[2][1]


def test_hostile_answers_are_shown_as_escapes_within_80_columns(shown: Print) -> None:
    out = shown("bad", "good", flips=3)
    assert "\x1b" not in out and "\u202e" not in out and "\x07" not in out
    assert "\\x1b[31mred" in out and "[bold]no markup[/bold] second line" in out
    assert "1 broke, 0 fixed" in out and max(cell_len(line) for line in out.splitlines()) <= 80
    assert "…" in out and "x" * 100 not in flat(out)


@pytest.mark.parametrize("sides", [("fake:random", "fake:majority"), ("fake:flaky", "fake:random"), ("bad", "good")])
@pytest.mark.parametrize("options", [{"metric": "all"}, {"by": "level", "flips": 5}])
def test_everything_fits_80_columns(shown: Print, sides: tuple[str, str], options: dict[str, Any]) -> None:
    lines = shown(*sides, **options).splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert not [line for line in lines if line != line.rstrip()]


def test_a_wide_window_is_used(shown: Print) -> None:
    narrow, wide = (shown("bad", "good", flips=1, width=width) for width in (80, 160))
    assert max(cell_len(line) for line in wide.splitlines()) > 100
    assert wide.count("很") > narrow.count("很")


def test_a_draw_is_compared_on_the_shared_samples(shown: Print) -> None:
    out = shown("drawn", "fake:majority")
    assert "accuracy, 40 samples" in out
    assert "only the 40 samples that both have (A has 40, B 120)" in out


def test_another_prompt_is_refused_unless_allowed(shown: Print) -> None:
    with pytest.raises(ComparisonError, match=r"test/capitals: the runs differ in prompt \(A: run [0-9a-f]{8}; B: run"):
        shown("prompt", "fake:majority")
    out = shown("prompt", "fake:majority", allow=["prompt"])
    assert "the runs differ in prompt" in out and "better" in out
    with pytest.raises(ComparisonError, match="--allow promt: there is no such part; there is dataset, prompt"):
        shown("prompt", "fake:majority", allow=["promt"])


def test_names_of_no_run_and_runs_of_other_benchmarks_are_refused(shown: Print) -> None:
    with pytest.raises(StoreError, match="no finished runs are called 'fake:orcle'"):
        shown("fake:orcle", "fake:majority")
    with pytest.raises(ComparisonError, match="no benchmark has usable runs on both sides"):
        shown("good", "fake:majority")


def test_json_has_everything_and_no_nan(shown: Print) -> None:
    text = shown("fake:random", "fake:oracle", json=True, flips=1, metric="all")
    body = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    first = body["benchmarks"][0]
    assert (body["candidate"], body["baseline"], body["rule"]["margin"]) == ("fake:random", "fake:oracle", 0.03)
    assert first["benchmark"] == "test/capitals" and [len(keys) for keys in first["runs"]] == [1, 1]
    [score] = first["changes"]
    _, f1 = body["benchmarks"][1]["changes"]
    assert score["difference"]["finding"] == "worse_beyond" and len(score["broke"]) == score["difference"]["broke"]
    assert f1["difference"]["p"] is None and f1["set_level"] is True
    [flip] = body["flips"]["test/capitals"]
    assert (flip["flip"], flip["b"]["value"], flip["a"]["value"]) == ("broke", 1.0, 0.0)


def test_the_margin_is_a_share(shown: Print) -> None:
    with pytest.raises(VevalsError, match=r"write 0\.03 for 3 points"):
        shown("fake:oracle", "fake:majority", margin=3.0)
    assert "worse by more than 10 points" in flat(shown("fake:majority", "fake:oracle", margin=0.1))


def test_the_command_ends_with_0_or_2(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled)
    assert "better" in vevals("compare", "fake:oracle", "fake:majority").stdout
    done = vevals("compare", "fake:oracle", "fake:majority", "--margin", "3", code=2)
    assert done.stderr.startswith("Error: margin 3: ") and len(done.stderr.strip().splitlines()) == 1
    vevals("compare", "fake:oracle", code=2)
