"""The command line as a user meets it: a real process in an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from databases import answers
from folders import LETTER_YAML, ROWS, write_benchmark


def vevals(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the current folder; the exit code is asserted."""
    done = subprocess.run(
        [sys.executable, "-m", "vevals", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80", **environment},
        timeout=300,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def place(workplace: Path) -> Path:
    write_benchmark(workplace / "benchmarks")
    return workplace


RUN = ("run", "--benchmark", "test/capitals")


def test_list_shows_benchmarks_suites_models_and_metrics(place: Path) -> None:
    assert "test/capitals" in vevals("list").stdout
    assert "demo" in vevals("list", "suites").stdout
    assert "hf:NAME" in vevals("list", "models").stdout
    assert "macro_f1" in vevals("list", "metrics").stdout


def test_list_as_json_has_items_licence_and_fingerprint(place: Path) -> None:
    records = {record["benchmark"]: record for record in json.loads(vevals("list", "--json").stdout)}
    mine = records["test/capitals"]
    assert (mine["items"], mine["licence"], mine["domain"], len(mine["fingerprint"])) == (24, "CC-BY-4.0", "test", 64)
    assert records["medical/triage"]["items"] >= 60


def test_show_prints_the_prompt_as_a_model_sees_it(place: Path) -> None:
    out = vevals("show", "test/capitals").stdout
    assert "[user]\nQuestion 0 about Paris?" in out and "A. Paris" in out


def test_check_is_green_for_a_good_benchmark_and_red_for_a_bad_one(place: Path) -> None:
    assert vevals("check", "test/capitals").stdout.startswith("ok ")
    rows = [*ROWS, {**ROWS[0], "id": "copy"}]
    write_benchmark(place / "benchmarks", "test/copies", rows=rows)
    out = vevals("check", "test/*", code=1).stdout
    assert "REPAIR  test/copies" in out and "1 exact duplicates: c-00 = copy" in out
    assert "1 of 2 benchmarks need repair" in out


def test_run_prints_a_board_that_fits_80_columns(place: Path) -> None:
    done = vevals(*RUN, "--model", "fake:majority", "--model", "fake:oracle")
    assert "33% (18–53)" in done.stdout and "100.0%" not in done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "results/vevals.db" in done.stdout
    assert (place / "results" / "vevals.db").is_file()


def test_run_again_is_answered_from_the_store(place: Path) -> None:
    first = json.loads(vevals(*RUN, "--model", "fake:random", "--json", "--quiet").stdout)
    again = vevals(*RUN, "--model", "fake:random", "--json")
    second = json.loads(again.stdout)
    assert (first[0]["asked"], second[0]["asked"]) == (24, 0)
    assert first[0]["estimates"] == second[0]["estimates"]
    assert "all from the store" in again.stderr


def test_json_carries_interval_denominators_outcomes_and_provenance(place: Path) -> None:
    [record] = json.loads(vevals(*RUN, "--model", "fake:empty", "--json", "-q").stdout)
    estimate = record["estimates"][0]
    assert (estimate["metric"], estimate["value"], estimate["scored"], estimate["total"]) == ("accuracy", 0.0, 24, 24)
    assert 0.0 == estimate["low"] < estimate["high"] < 0.2
    assert record["outcomes"]["accuracy"] == {"empty": 24}
    assert set(record["provenance"]) >= {"vevals", "python", "platform", "packages", "git"}


def test_failures_end_with_exit_code_1_and_are_counted(place: Path) -> None:
    done = vevals(*RUN, "--model", "fake:flaky", code=1)
    assert re.search(r"\d+ samples have no score", done.stdout)
    assert "no overall score: 67% of test/capitals" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("markdown", "| model | overall"),
        ("csv", "model,benchmark,metric,value"),
        ("json", "[\n  {"),
        ("table", "Leader"),
    ],
)
def test_the_leaderboard_is_printed_in_every_form(place: Path, form: str, start: str) -> None:
    vevals(*RUN, "--model", "fake:random", "-q")
    assert vevals("leaderboard", "--format", form).stdout.startswith(start)


def test_samples_show_what_was_asked_and_answered(place: Path) -> None:
    [record] = json.loads(vevals(*RUN, "--model", "fake:majority", "--json", "-q").stdout)
    out = vevals("samples", record["run"], "--limit", "2").stdout
    assert "Question 0 about Paris?" in out and out.count("asked") == 2
    assert vevals("samples", record["run"], "--outcome", "failed").stdout.count("asked") == 0
    assert "no outcome is called 'bad'" in vevals("samples", record["run"], "--outcome", "bad", code=2).stderr


def test_hostile_output_cannot_steer_the_terminal(place: Path) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07 [bold]x[/bold] \u202e evil \x00"
    rows = [json.dumps({"id": row["id"], "text": hostile}) for row in ROWS]
    (place / "out.jsonl").write_text("\n".join(rows), encoding="utf-8")
    done = vevals(*RUN, "--model", "replay:out.jsonl", "--json", "-q")
    run = json.loads(done.stdout)[0]["run"]
    out = vevals("samples", run).stdout
    assert "\\x1b[2J" in out and "\\u202e" in out and "[bold]x[/bold]" in out
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", out)


ONE_SENTENCE = [
    (("run", "--model", "fake:oracle"), "say what to run: --suite NAME or --benchmark PATTERN"),
    (("run", "-m", "fake:oracle", "-b", "test/capitols"), "did you mean 'test/capitals'"),
    (("run", "-m", "fake:oracle", "-s", "demmo"), "no suite is called 'demmo'; did you mean 'demo'"),
    (("run", "-m", "hf:no/where/here", "-b", "test/capitals"), "there is no such folder"),
    (("run", "-m", "fake:oracle", "-b", "test/capitals", "--limit", "2", "--draw", "2"), "not both"),
    (("run", "-m", "fake:oracle", "-b", "test/capitals", "--db", "/proc/x/v.db"), "cannot be made"),
    (("samples", "ffff"), "there are no results here yet"),
    (("leaderboard",), "there are no results here yet"),
    (("show", "nothing/here"), "no benchmark is called 'nothing/here'"),
    (("list", "--benchmarks", "nowhere"), "there is no such folder of benchmarks"),
    (("new", "Bad Name"), "is no name for a benchmark"),
]


@pytest.mark.parametrize(("arguments", "sentence"), ONE_SENTENCE, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_sentence_and_exit_code_2(place: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = vevals(*arguments, code=2)
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ") and len(done.stderr.strip().splitlines()) == 1
    assert not (place / "results").exists()


def test_an_unknown_option_is_a_usage_error(place: Path) -> None:
    assert "--modle" in vevals("run", "--modle", "x", code=2).stderr


def test_new_copies_a_template_that_passes_its_check(workplace: Path) -> None:
    vevals("new", "shop/returns")
    assert (workplace / "benchmarks" / "shop" / "returns" / "data.csv").is_file()
    assert vevals("check", "shop/returns").stdout.startswith("ok ")
    vevals("run", "-b", "shop/returns", "-m", "fake:majority", "-q")
    assert "exists already" in vevals("new", "shop/returns", code=2).stderr


def test_restricted_data_asks_for_consent_once(place: Path) -> None:
    write_benchmark(place / "benchmarks", "test/nc", LETTER_YAML + "license_terms: non-commercial use only\n")
    run = ("run", "-b", "test/nc", "-m", "fake:majority", "-q")
    assert "non-commercial use only; if that fits your use" in vevals(*run, code=2).stderr
    vevals(*run, "--accept-license")
    vevals(*run)


def test_ctrl_c_saves_everything_and_says_how_to_go_on(place: Path) -> None:
    command = [sys.executable, "-m", "vevals", *RUN, "--model", "fake:oracle?seconds=0.2"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_answers(place / "results" / "vevals.db", 3)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130
    assert re.search(r"Stopped\. test/capitals · fake:oracle: \d+ of 24 answers are saved\.", err)
    assert "The same command goes on from there." in err and "Traceback" not in err
    [record] = json.loads(vevals(*RUN, "--model", "fake:oracle?seconds=0", "--json", "-q").stdout)
    assert record["asked"] < 24 and record["estimates"][0]["value"] == 1.0


def test_kill_9_in_the_middle_loses_nothing_and_asks_nothing_twice(place: Path) -> None:
    command = [sys.executable, "-m", "vevals", *RUN, "--model", "fake:oracle?seconds=0.15"]
    asked = 0
    for _ in range(3):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        asked = _wait_for_answers(place / "results" / "vevals.db", asked + 3)
        job.kill()
        job.wait()
    kept = answers(place / "results" / "vevals.db")
    [record] = json.loads(vevals(*RUN, "--model", "fake:oracle", "--json", "-q").stdout)
    assert kept >= asked and record["asked"] == 24 - kept
    [undisturbed] = json.loads(
        vevals(*RUN, "--model", "fake:oracle", "--json", "-q", "--db", str(place / "other.db")).stdout
    )
    assert record["estimates"] == undisturbed["estimates"]
    assert _digest(place / "results" / "vevals.db") == _digest(place / "other.db")


def _wait_for_answers(path: Path, count: int) -> int:
    for _ in range(600):
        found = answers(path)
        if found >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {count} answers within 30 s")


def _digest(path: Path) -> bytes:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as raw:
        return bytes(raw.execute("SELECT digest FROM runs").fetchone()[0])


def test_a_full_disk_is_one_sentence_and_loses_no_committed_answer(place: Path) -> None:
    vevals(*RUN, "--model", "fake:oracle", "-q", "--draw", "5")
    size = (place / "results" / "vevals.db").stat().st_size
    code = (
        "import resource, sys; size = int(sys.argv.pop(1)); resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "from vevals.cli import main; main()"
    )
    long = "the same long wish, again and again; " * 4000
    rows = [{**row, "input": f"{row['input']} {index} {long[index:]}"} for index, row in enumerate(ROWS)]
    write_benchmark(place / "benchmarks", "test/large", rows=rows)
    command = ["run", "-b", "test/large", "-m", "fake:oracle", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(size), *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: results/vevals.db: ") and "make room" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    vevals(*command)
    assert answers(place / "results" / "vevals.db") == 29


def test_a_database_of_a_newer_version_is_refused(place: Path) -> None:
    import sqlite3
    from contextlib import closing

    vevals(*RUN, "--model", "fake:oracle", "-q")
    with closing(sqlite3.connect(place / "results" / "vevals.db")) as raw, raw:
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    err = vevals("leaderboard", code=2).stderr
    assert "schema version 99" in err and "upgrade vevals" in err


def test_the_same_run_twice_at_a_time_is_refused(place: Path) -> None:
    command = [sys.executable, "-m", "vevals", *RUN, "--model", "fake:oracle?seconds=0.2"]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_answers(place / "results" / "vevals.db", 1)
        assert "is being written by another process" in vevals(*RUN, "--model", "fake:oracle", code=2).stderr
    finally:
        job.kill()
        job.wait()


def test_help_names_every_command_and_the_exit_codes() -> None:
    out = " ".join(vevals("--help").stdout.split())
    for name in ("list", "show", "check", "new", "run", "leaderboard", "samples", "data", "130 interrupted"):
        assert name in out


def test_a_wrong_hash_refuses_to_run(place: Path) -> None:
    url = "https://example.com/at/a/commit/data.jsonl"
    mirrored = place / "mirror" / "example.com" / "at" / "a" / "commit" / "data.jsonl"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_text('{"input": "other bytes", "target": "A"}\n', encoding="utf-8")
    yaml = LETTER_YAML.replace("data: data.jsonl", f"data: {{url: '{url}', sha256: {'ab' * 32}}}")
    write_benchmark(place / "benchmarks", "test/pinned", yaml)
    mirror = {"VEVALS_MIRROR": str(place / "mirror"), "VEVALS_OFFLINE": "1"}
    err = vevals("run", "-b", "test/pinned", "-m", "fake:oracle", code=2, **mirror).stderr
    assert "its sha256 is" in err and "ab" * 32 in err and len(err.strip().splitlines()) == 1
    assert "ab" * 32 in vevals("data", "verify", "test/pinned", code=1, **mirror).stdout


def test_without_a_network_one_sentence_says_which_file_to_put_where(place: Path) -> None:
    url = "https://example.com/at/a/commit/data.jsonl"
    yaml = LETTER_YAML.replace("data: data.jsonl", f"data: {{url: '{url}', sha256: {'ab' * 32}}}")
    write_benchmark(place / "benchmarks", "test/pinned", yaml)
    err = vevals("run", "-b", "test/pinned", "-m", "fake:oracle", code=2, VEVALS_OFFLINE="1").stderr
    assert url in err and "example.com/at/a/commit/data.jsonl and set VEVALS_MIRROR" in err
    out = vevals("check", "test/*", code=1, VEVALS_OFFLINE="1").stdout
    assert "absent  test/pinned: its data is not here" in out and "1 of 2 were not checked" in out
    assert "1 files here" not in vevals("data", "fetch", "test/pinned", code=1, VEVALS_OFFLINE="1").stdout


def test_a_reader_that_stops_reading_is_no_bug(workplace: Path) -> None:
    """As with ``| head``: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "vevals", "list", "metrics"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        assert asked.stdout is not None and asked.stderr is not None
        asked.stdout.close()
        assert (asked.stderr.read(), asked.wait(60)) == ("", 141)
