"""The leaderboard on a terminal: nothing is cut off at 80 columns, and a wide one shows more."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from boards import scored
from folders import write_benchmark
from rich.cells import cell_len
from typer.testing import CliRunner

from vevals.board import Board, build, by_slice
from vevals.cli import app
from vevals.cli.board import print_board, print_slices
from vevals.errors import BenchmarkError, StoreError
from vevals.prices import Price, Prices
from vevals.types import Outcome

LONG = "hf:some-organisation/A-Model-With-A-Very-Long-Name-That-Does-Not-End-32B-Instruct-2507"
WIDE_LETTERS = "模型" * 30
NAMES = ("smollm2", LONG, WIDE_LETTERS, "esc\x1b[2Jape")
SLICES = [{"language": "de"}] * 60 + [{"language": "en" * 30}] * 36 + [{"language": "fr"}] * 4
PRICES = Prices({"*": Price(1.0, 2.0, 0.0, "2026-01-01")})


def board(names: Sequence[str] = NAMES) -> Board:
    usage = {"present": 100, "input_tokens": 1_234_567, "output_tokens": 89_012, "cached": 7}
    entries = [
        scored(name, model, 90 - 15 * place, 100, slices=SLICES, tokens=100, seconds=1.5 + place)
        for place, model in enumerate(names)
        for name in ("medical/triage", "legal/a_benchmark_with_a_name_that_is_long")
    ]
    entries = [replace(entry, usage=usage, seconds=7200.0) for entry in entries]
    cut = replace(entries[0], outcomes={Outcome.scored: 90, Outcome.truncated: 10})
    return build([cut, *entries[1:], scored("medical/triage", "gap", 50, 100)], {}, prices=PRICES)


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_board(board(), "Leaderboard of everything")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal_whatever_the_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    lines = printed(capsys, monkeypatch, columns)
    print_slices(by_slice(board(), "language"), "Leaderboard of everything, by language")
    lines += capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines) <= columns
    joined = "".join("".join(lines).split())
    assert "\x1b" not in joined and "\\x1b[2J" in joined


def test_80_columns_show_rank_tier_score_cost_and_speed_in_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 80)
    assert lines[1].split() == ["rank", "tier", "model", "overall", "usd/1k", "s/sample"]
    assert lines[2].split() == ["1", "A", "smollm2", "◆", "90.0", "(84.7", "to", "93.2)", "0.10", "1.5"]
    assert "…" not in "".join(lines)
    text = " ".join(" ".join(lines).split())
    assert "incomplete 1/2, no overall" in text and "Rank 1 of 4: every place that the data leave open" in text
    assert "With any weights: smollm2 leads in 100% of 2,000 draws of domain weights." in text
    assert "more than 2% of the replies were cut off on medical/triage" in text


def test_a_wide_terminal_shows_tokens_time_and_how_often_a_model_leads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 160)
    assert lines[1].split() == [
        *("rank", "tier", "model", "overall", "usd/1,000", "seconds/sample"),
        *("tokens", "in/out", "model", "time", "leads"),
    ]
    assert lines[2].split()[-9:] == ["1.5", "2,469,134/178,024", "+14", "cached", "4", "h", "00", "min", "100%"]


def test_costs_that_nobody_knows_have_no_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_board(build([scored("a/x", "m", 5, 10)], {}), "Leaderboard")
    assert capsys.readouterr().out.splitlines()[1].split() == ["rank", "tier", "model", "overall"]


def test_slices_stand_below_each_other_and_small_ones_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_slices(by_slice(board(["one", "two"]), "language"), "By language")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    start = lines.index("medical/triage accuracy by language")
    assert lines[start + 1 : start + 4] == [
        "de one 100.0% (94.0–100.0) 60 of 60 scored",
        "two 100.0% (94.0–100.0) 60 of 60 scored",
        f"{'en' * 15} one 83% (68–92) 36 of 36 scored",
    ]
    assert "fewer than 10 samples: fr 4" in lines


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Results of two models on two benchmarks of two domains."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("test/capitals", "trial/capitals"):
        write_benchmark(folder / "benchmarks", name)
    path = str(folder / "vevals.db")
    models = ("-m", "fake:oracle", "-m", "fake:majority")
    call("run", "-b", "*/capitals", "--benchmarks", str(folder / "benchmarks"), *models, "-q", "--db", path)
    return path


def call(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_store_ranks_on_its_samples(db: str) -> None:
    records = json.loads(call("leaderboard", "--db", db, "--json"))
    overall = {record["model"]: record for record in records if record["benchmark"] == "overall"}
    assert [
        (overall[f"fake:{name}"]["rank_low"], overall[f"fake:{name}"]["tier"]) for name in ("oracle", "majority")
    ] == [
        (1, "A"),
        (2, "B"),
    ]
    assert overall["fake:oracle"]["lead_share"] == 1.0
    assert len({record["run"] for record in records if record["benchmark"] != "overall"}) == 4


def test_a_domain_or_a_pattern_narrows_the_board(db: str) -> None:
    for narrowed in (("--domain", "trial"), ("--benchmark", "tri*")):
        records = json.loads(call("leaderboard", "--db", db, "--json", *narrowed))
        assert {record["benchmark"] for record in records} == {"overall", "trial/capitals"}
    with pytest.raises(BenchmarkError, match="no finished run of 'nowhere'; there are runs of test/capitals, trial/c"):
        call("leaderboard", "--db", db, "--domain", "nowhere")
    with pytest.raises(BenchmarkError, match="give --domain or --benchmark, not both"):
        call("leaderboard", "--db", db, "--domain", "trial", "--benchmark", "tri*")


def test_a_slice_is_printed_in_every_form(db: str) -> None:
    by = ("leaderboard", "--db", db, "--by", "level", "-b", "test/capitals")
    assert "Leaderboard of test/capitals, by level" in call(*by)
    records = json.loads(call(*by, "--json"))
    assert [(r["slice_value"], r["model"], r["value"], r["samples"]) for r in records[:2]] == [
        ("easy", "fake:oracle", 1.0, 12),
        ("easy", "fake:majority", pytest.approx(1 / 3), 12),
    ]
    assert [row["slice_value"] for row in csv.DictReader(io.StringIO(call(*by, "-f", "csv")))][2:] == ["hard", "hard"]
    assert "| test/capitals (accuracy) | hard | fake:oracle | 100% (76–100) | 12 |" in call(*by, "-f", "markdown")
    with pytest.raises(BenchmarkError, match="the slice 'colour'; there is level"):
        call("leaderboard", "--db", db, "--by", "colour")


def test_a_price_list_adds_the_cost_of_answers_given_now(db: str, workplace: Path) -> None:
    (workplace / "prices.yaml").write_text("'fake:*': {usd_per_million_input: 1, date: 2026-01-01}\n", encoding="utf-8")
    assert "usd/1k" in call("leaderboard", "--db", db).splitlines()[1]


def test_a_store_without_finished_runs_says_so(workplace: Path) -> None:
    with pytest.raises(StoreError, match="no results here yet"):
        call("leaderboard")
