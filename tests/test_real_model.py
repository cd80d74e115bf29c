"""The embedded language model through the whole product: killed, resumed, and equal to an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from databases import answers

pytestmark = pytest.mark.model


def command(benchmark: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "vevals", "run", "-m", "smollm2", "-b", benchmark, "--json", "-q", *more]


def finished(benchmark: str, *more: str) -> dict[str, object]:
    done = subprocess.run(command(benchmark, *more), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    return dict(record)


def killed_after(path: Path, count: int, job: subprocess.Popen[bytes]) -> int:
    """Kill ``job`` with signal 9 as soon as ``count`` answers are committed; returns how many are."""
    for _ in range(6000):
        if answers(path) >= count or job.poll() is not None:
            break
        time.sleep(0.05)
    assert job.poll() is None, "the run ended before it could be killed"
    job.kill()
    job.wait()
    return answers(path)


@pytest.mark.parametrize(("benchmark", "draw"), [("sentiment/reviews", "40"), ("medical/triage", "24")])
def test_kill_9_then_the_same_command_gives_the_numbers_of_an_undisturbed_run(
    smollm2: str, workplace: Path, benchmark: str, draw: str
) -> None:
    path = workplace / "results" / "vevals.db"
    arguments = ("--draw", draw)
    job = subprocess.Popen(command(benchmark, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = killed_after(path, 4, job)
    resumed = finished(benchmark, *arguments)
    assert resumed["asked"] == int(draw) - kept
    undisturbed = finished(benchmark, *arguments, "--db", str(workplace / "other.db"))
    assert undisturbed["asked"] == int(draw)
    assert resumed["estimates"] == undisturbed["estimates"]
    assert resumed["outcomes"] == undisturbed["outcomes"]


@pytest.mark.shared
def test_banking77_from_the_mirror_runs_and_is_answered_from_the_store_again(
    smollm2: str, mirror: Path, workplace: Path
) -> None:
    first = finished("customer_service/banking77", "--limit", "4")
    again = finished("customer_service/banking77", "--limit", "4")
    assert (first["asked"], again["asked"]) == (4, 0)
    assert first["estimates"] == again["estimates"]
    more = finished("customer_service/banking77", "--limit", "6")
    assert more["usage"]["cached"] == 4  # type: ignore[index]


def test_the_model_is_better_than_nothing_at_summaries(smollm2: str, workplace: Path) -> None:
    record = finished("summarization/support_dialogue", "--draw", "2")
    estimate = record["estimates"][0]  # type: ignore[index]
    assert 0.05 < estimate["value"] < 0.6 and estimate["scored"] == 2
    usage = record["usage"]
    assert usage["output_tokens"] > 30 and usage["input_tokens"] > 300  # type: ignore[index]
    assert os.environ.get("VEVALS_DB") is None
