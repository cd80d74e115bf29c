"""How results are printed: one console, tables that fit 80 columns, and JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vevals import display
from vevals.errors import VevalsError
from vevals.runner import Result
from vevals.store import RunRow

LONGEST_CELL = 600


class _Plain(Console):
    """A console that leaves it to the command what a reader who stops reading means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output; no markup is read, so that no text can style itself."""
    return _Plain(markup=False, highlight=False, soft_wrap=False)


@contextmanager
def to_the_reader() -> Iterator[None]:
    """Print what is inside; a reader that stops reading (``| head``) does not change how the command ends.

    Raises:
        VevalsError: the output cannot be written for another reason.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise VevalsError(f"the output cannot be written: {error.strerror}") from error


def print_json(value: Any) -> None:
    """One JSON document on standard output; what has no JSON form (NaN) is null."""
    print(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """A plain table. ``right``: columns that are aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(columns):
        side: Literal["left", "right"] = "right" if name in right else "left"
        made.add_column(name, justify=side, overflow="fold", header_style="dim", no_wrap=place == 0)
    return made


def cell(text: str) -> Text:
    """``text`` from outside (a model, a data file): visible escapes, no styling, cut when it is very long."""
    shown = display.visible(text)
    if len(shown) > LONGEST_CELL:
        shown = f"{shown[:LONGEST_CELL]} … {len(shown) - LONGEST_CELL} more characters"
    return Text(shown)


def print_runs(runs: Sequence[RunRow]) -> None:
    """All runs of the store, a line each."""
    made = table("run", "benchmark", "model", "samples", "state")
    for run in runs:
        made.add_row(run.key[:8], run.benchmark, cell(run.title), _selection(run), run.status.name)
    console().print(made)


def _selection(run: RunRow) -> str:
    if run.limit:
        return f"first {run.limit}"
    return f"{run.draw} drawn, seed {run.seed}" if run.draw else f"all {run.samples}"


def print_samples(run: RunRow, metric: str, rows: Sequence[dict[str, Any]]) -> None:
    """Samples of a run, a block each: what was wanted, what came, how it was judged."""
    out = console()
    out.print(cell(f"run {run.key[:8]}: {run.benchmark} · {run.model} · {metric or 'not scored yet'}"), style="bold")
    for row in rows:
        value = "" if row["value"] is None else f" {row['value']:.3g}"
        out.print(cell(f"\n{row['id']}: {row['outcome'] or 'open'}{value} {row['note']}"), style="bold")
        out.print(cell(f"  asked   {_asked(row['request'])}"))
        out.print(cell(f"  target  {' | '.join(row['target'])}"))
        out.print(cell(f"  answer  {row['answer'] if row['answer'] is not None else '(none)'}"))
        out.print(cell(f"  reply   {_reply(row)}"))
    if not rows:
        out.print("no such samples")


def _asked(request: dict[str, Any]) -> str:
    """The last message, or the plain text in its place (of several, one a choice, the first)."""
    messages, prompts = request["messages"], request.get("prompts") or [""]
    return str(messages[-1]["content"] if messages else prompts[0])


def _reply(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"failed: {row['error']}"
    if row["logprobs"]:
        return ", ".join(f"{choice}: {value:.2f}" for choice, value in row["logprobs"].items())
    return str(row["text"])


def result_record(result: Result) -> dict[str, Any]:
    """A run as ``--json`` prints it."""
    run = result.run
    estimates = [
        {
            "metric": name,
            "value": e.value,
            "low": e.low,
            "high": e.high,
            "scored": e.scored,
            "total": e.total,
            "method": e.method,
        }
        for name, e in result.estimates
    ]
    outcomes = {name: {o.name: n for o, n in counts.items()} for name, counts in result.outcomes.items()}
    return {
        "run": run.key[:8],
        "key": run.key,
        "benchmark": run.benchmark,
        "fingerprint": run.fingerprint,
        "model": run.model,
        "limit": run.limit,
        "draw": run.draw,
        "seed": run.seed,
        "repeats": run.repeats,
        "attempt": run.attempt,
        "digest": run.digest,
        "total": run.total,
        "asked": result.asked,
        "estimates": estimates,
        "outcomes": outcomes,
        "usage": dict(result.usage),
        "seconds": round(run.seconds, 3),
        "provenance": dict(run.provenance),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
