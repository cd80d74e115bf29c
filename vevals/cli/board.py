"""How a leaderboard is printed: tables that fit the terminal, 80 columns and up; a wider one shows more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vevals import display
from vevals.board import Board, Entry, Row, SliceScore, formats
from vevals.board.slices import FEWEST
from vevals.cli.output import cell, console, table
from vevals.types import Outcome

WIDE = 120
WIDEST_MODEL = 30
SCORE_WIDTH = 20
MOST_TRUNCATED = 0.02
CHOICE = "◆"

Show = Callable[[Row], str]


def print_board(board: Board, heading: str) -> None:
    """The leaderboard: models with rank and overall score, then every benchmark with all models."""
    out = console()
    out.print(cell(heading), style="bold")
    out.print(_overall(board, out.width >= WIDE))
    _print_benchmarks(board, out)
    for line in _warnings(board):
        out.print(cell(line), style="yellow")
    if board.left_out:
        out.print(f"\n{board.left_out} runs over other samples or versions are left out ('vevals leaderboard --runs').")
    out.print(cell("\n" + "\n".join(formats.notes(board))), style="dim")


def print_slices(scores: Sequence[SliceScore], heading: str) -> None:
    """A block for each benchmark: all models on each value of the slice; values with few samples in one line."""
    out = console()
    out.print(cell(heading), style="bold")
    for name in dict.fromkeys(score.benchmark for score in scores):
        found = [score for score in scores if score.benchmark == name]
        out.print(Text.assemble(("\n" + name, "bold"), (f"  {found[0].metric} by {found[0].field}", "dim")))
        out.print(_slice_table(found))
        small = {score.value: score.samples for score in found if not score.estimate}
        if small:
            listed = ", ".join(f"{value} {samples}" for value, samples in small.items())
            out.print(cell(f"fewer than {FEWEST} samples: {listed}"), style="dim")
    out.print("\nBrackets: 95% intervals, each for itself: among many slices some stand out by chance.", style="dim")


def _slice_table(scores: Sequence[SliceScore]) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(max_width=WIDEST_MODEL, overflow="fold")
    made.add_column(max_width=WIDEST_MODEL, overflow="fold")
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    last = ""
    for score in scores:
        value = score.value if score.value != last else ""
        last = score.value
        if score.estimate is not None:
            rows = f"{score.estimate.scored} of {score.estimate.total} scored"
            made.add_row(cell(value), cell(score.model), display.score(score.estimate, score.ends), rows)
    return made


def _overall(board: Board, wide: bool) -> Table:
    columns = _columns(board, wide)
    made = table("rank", "tier", "model", "overall", *columns, right=tuple(columns))
    for row in board.rows:
        tier = row.standing.tier if row.standing else ""
        mark = f" {CHOICE}" if row.standing and row.standing.choice else ""
        shown = (show(row) for show in columns.values())
        made.add_row(formats.ranks(row), tier, cell(row.model + mark), formats.overall_text(row), *shown)
    return made


def _columns(board: Board, wide: bool) -> dict[str, Show]:
    """What stands beside the score: what is known of cost and speed; with room, also the totals behind them."""
    columns: dict[str, Show] = {}
    if any(row.usd_per_1k_samples is not None for row in board.rows):
        columns["usd/1,000" if wide else "usd/1k"] = formats.usd
    if any(row.seconds_per_sample is not None for row in board.rows):
        columns["seconds/sample" if wide else "s/sample"] = formats.pace
    if wide:
        columns["tokens in/out"] = _tokens
        columns["model time"] = lambda row: display.duration(row.seconds)
        if any(row.standing and row.standing.lead_share is not None for row in board.rows):
            columns["leads"] = formats.lead
    return columns


def _tokens(row: Row) -> str:
    """Tokens of this model's own work, with the number of answers that came from the store's cache instead."""
    if "present" not in (key for entry in row.cells.values() for key in entry.usage):
        return formats.UNKNOWN
    cached = row.tokens("cached")
    if cached and cached == row.tokens("present"):
        return f"{cached:,} cached"
    if not row.tokens("input_tokens") and not row.tokens("output_tokens"):
        return formats.UNKNOWN
    spent = f"{row.tokens('input_tokens'):,}/{row.tokens('output_tokens'):,}"
    return f"{spent} +{cached:,} cached" if cached else spent


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


def _print_benchmarks(board: Board, out: Console) -> None:
    """A heading and a small table for each benchmark, all with the same column widths."""
    width = min(WIDEST_MODEL, max(len(row.model) for row in board.rows))
    for name in board.benchmarks:
        rows = [row for row in board.rows if name in row.cells]
        rows.sort(key=lambda row: _worst_last(row.cells[name]))
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


def _worst_last(entry: Entry) -> float:
    value = entry.estimate.value if entry.best >= entry.worst else -entry.estimate.value
    return math.inf if math.isnan(value) else -value


def _score_cells(row: Row, entry: Entry) -> tuple[Text, str, str]:
    rows = f"{entry.estimate.scored} of {entry.estimate.total} scored"
    why = entry.estimate.method if math.isnan(entry.estimate.low) else ""
    parts = [rows, display.outcomes(dict(entry.outcomes)), display.whatever(entry.estimate), why]
    notes = ", ".join(filter(None, parts))
    return cell(row.model), display.score(entry.estimate, (entry.worst, entry.best)), notes
