"""How results are printed: one console, tables that fit 80 columns, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vevals import display
from vevals.board import Board, Entry, Row
from vevals.runner import Result
from vevals.store import RunRow
from vevals.types import Outcome

LONGEST_CELL = 600
WIDEST_MODEL = 30
SCORE_WIDTH = 20
MOST_TRUNCATED = 0.02


def console() -> Console:
    """Standard output; no markup is read, so that no text can style itself."""
    return Console(markup=False, highlight=False, soft_wrap=False)


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


def print_board(board: Board, heading: str) -> None:
    """The leaderboard: models with their overall score, then every benchmark with all models."""
    out = console()
    out.print(heading, style="bold")
    out.print(_overall(board))
    _print_benchmarks(board, out)
    for line in _warnings(board):
        out.print(cell(line), style="yellow")
    if board.left_out:
        out.print(f"\n{board.left_out} runs over other samples or versions are left out ('vevals leaderboard --runs').")
    weights = ", ".join(f"{name} {weight:g}" for name, weight in board.weights.items())
    out.print(
        f"\noverall: chance = 0, perfect = 100; mean over domains, weights: {weights}.\n"
        "Brackets: 95% intervals. Two models whose intervals overlap are not told apart here.",
        style="dim",
    )


def _warnings(board: Board) -> list[str]:
    """Where the token limit cut off so many replies that the score measures the limit."""
    cut: dict[str, list[str]] = {}
    for row in board.rows:
        for name, entry in row.cells.items():
            if entry.outcomes.get(Outcome.truncated, 0) > MOST_TRUNCATED * entry.estimate.total:
                cut.setdefault(row.model, []).append(name)
    return [
        f"\n{model}: more than {100 * MOST_TRUNCATED:.0f}% of the replies were cut off on {', '.join(names)}; "
        "such a score measures the token limit."
        for model, names in cut.items()
    ]


def _overall(board: Board) -> Table:
    made = table("model", "overall", "tokens in/out", "model time", right=("tokens in/out", "model time"))
    for row in board.rows:
        score = row.overall
        shown = display.points(score.value, score.low, score.high) if score else row.problem
        made.add_row(cell(row.model), shown, _tokens(row), display.duration(row.seconds))
    return made


def _tokens(row: Row) -> str:
    """Tokens of this model's own work, with the number of answers that came from the store's cache instead."""
    cached = row.tokens("cached")
    if cached and cached == row.tokens("present"):
        return f"{cached:,} cached"
    spent = f"{row.tokens('input_tokens'):,}/{row.tokens('output_tokens'):,}"
    return f"{spent} +{cached:,} cached" if cached else spent


def _print_benchmarks(board: Board, out: Console) -> None:
    """A heading and a small table for each benchmark, all with the same column widths."""
    width = min(WIDEST_MODEL, max(len(row.model) for row in board.rows))
    for name in board.benchmarks:
        rows = [row for row in board.rows if name in row.cells]
        rows.sort(key=lambda row: _worst_last(row.cells[name].estimate.value))
        if not rows:
            continue
        entry = rows[0].cells[name]
        chance = f", chance {100 * entry.chance:.0f}%" if entry.chance else ""
        chance += f", first {entry.part[0]} rows only" if entry.part[0] else ""
        out.print(Text.assemble(("\n" + name, "bold"), (f"  {entry.metric}{chance}", "dim")))
        made = Table.grid(padding=(0, 2, 0, 0))
        made.add_column(width=width, overflow="fold")
        made.add_column(width=SCORE_WIDTH)
        made.add_column(overflow="fold")
        for row in rows:
            made.add_row(*_score_cells(row, row.cells[name]))
        out.print(made)


def _worst_last(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def _score_cells(row: Row, entry: Entry) -> tuple[Text, str, str]:
    rows = f"{entry.estimate.scored} of {entry.estimate.total} scored"
    why = entry.estimate.method if math.isnan(entry.estimate.low) else ""
    parts = [rows, display.outcomes(dict(entry.outcomes)), display.whatever(entry.estimate), why]
    notes = ", ".join(filter(None, parts))
    return cell(row.model), display.percent(entry.estimate), notes


def print_runs(runs: Sequence[RunRow]) -> None:
    """All runs of the store, a line each."""
    made = table("run", "benchmark", "model", "samples", "state")
    for run in runs:
        made.add_row(run.key[:8], run.benchmark, cell(run.title), _selection(run), run.status.name)
    console().print(made)


def _selection(run: RunRow) -> str:
    if run.limit:
        return f"first {run.limit}"
    return f"{run.draw} drawn, seed {run.seed}" if run.draw else f"all {run.total}"


def print_samples(run: RunRow, metric: str, rows: Sequence[dict[str, Any]]) -> None:
    """Samples of a run, a block each: what was wanted, what came, how it was judged."""
    out = console()
    out.print(cell(f"run {run.key[:8]}: {run.benchmark} · {run.model} · {metric or 'not scored yet'}"), style="bold")
    for row in rows:
        value = "" if row["value"] is None else f" {row['value']:.3g}"
        out.print(cell(f"\n{row['id']}: {row['outcome'] or 'open'}{value} {row['note']}"), style="bold")
        out.print(cell(f"  asked   {row['request']['messages'][-1]['content']}"))
        out.print(cell(f"  target  {' | '.join(row['target'])}"))
        out.print(cell(f"  answer  {row['answer'] if row['answer'] is not None else '(none)'}"))
        out.print(cell(f"  reply   {_reply(row)}"))
    if not rows:
        out.print("no such samples")


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
