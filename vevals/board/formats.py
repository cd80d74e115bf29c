"""A board as text and tables for other programs: pandas, records, CSV, Markdown, and the sentences that explain it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vevals.board.entries import Entry
from vevals.board.slices import FEWEST, SliceScore
from vevals.board.spending import SPENDING
from vevals.board.table import DRAWS, SCORE, Board, Row
from vevals.canonical import finite
from vevals.display import number, percent, points
from vevals.types import Estimate, Outcome

if TYPE_CHECKING:
    import pandas

UNKNOWN = "–"
SEVERAL = 3
SPENT = dict(zip(SPENDING.values(), ("cost", "speed"), strict=True))


def to_frame(board: Board) -> pandas.DataFrame:
    """One row a model: its overall score and standing, then one column a benchmark (not rescaled).

    Columns: ``model, overall, low, high, rank_low, rank_high, tier, lead_share, usd_per_1k_samples,
    seconds_per_sample, choice, problem``; ranks are whole numbers, or missing without an overall score.
    """
    import pandas

    records = []
    for row in board.rows:
        overall = row.overall or Estimate(math.nan, math.nan, math.nan, 0, 0, "")
        scores = {name: row.cells[name].estimate.value if name in row.cells else math.nan for name in board.benchmarks}
        bounds = {"overall": overall.value, "low": overall.low, "high": overall.high}
        records.append({"model": row.model, **bounds, **_standing(row), "problem": row.problem, **scores})
    frame = pandas.DataFrame(records)
    whole = {"rank_low": "Int64", "rank_high": "Int64", "choice": "boolean"}
    real = dict.fromkeys(("lead_share", "usd_per_1k_samples", "seconds_per_sample"), "float64")
    return frame.astype({**whole, **real})


def to_records(board: Board) -> list[dict[str, Any]]:
    """One record a model and benchmark, plus one with ``benchmark: overall``: for CSV and JSON."""
    records = []
    for row in board.rows:
        overall = row.overall or Estimate(math.nan, math.nan, math.nan, 0, 0, "")
        standing = {**_standing(row), "problem": row.problem}
        records.append({**_record(row.model, "overall", "rescaled mean", overall), **standing})
        for name in board.benchmarks:
            if name in row.cells:
                records.append(_cell_record(row.model, row.cells[name]))
    return records


def slice_records(scores: Sequence[SliceScore]) -> list[dict[str, Any]]:
    """One record a benchmark, value of the slice and model; values with too few samples have no score."""
    records = []
    for score in scores:
        estimate = score.estimate or Estimate(math.nan, math.nan, math.nan, 0, 0, "too few samples")
        named = {"slice": score.field, "slice_value": score.value, "samples": score.samples}
        records.append({**_record(score.model, score.benchmark, score.metric, estimate), **named})
    return records


def to_csv(board: Board) -> str:
    """``to_records`` as CSV."""
    return csv_of(to_records(board))


def csv_of(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV; a cell that a spreadsheet would take for a formula gets a leading quote."""
    import csv
    import io

    out = io.StringIO()
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in record.items()} for record in flat)
    return out.getvalue()


def to_markdown(board: Board) -> str:
    """A table of models and a table of models x benchmarks, for a README or a comment."""
    lines = [
        "| model | overall, chance = 0, perfect = 100 | rank | tier | leads | usd per 1,000 | seconds a sample |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in board.rows:
        shown = overall_text(row) + (" ◆" if row.standing and row.standing.choice else "")
        standing = (ranks(row), row.standing.tier if row.standing else UNKNOWN, lead(row))
        lines.append(f"| {' | '.join((_cell(row.model), shown, *standing, usd(row), pace(row)))} |")
    lines += ["", "| benchmark | model | score | samples |", "|---|---|---|---|"]
    for name in board.benchmarks:
        for row in board.rows:
            if name in row.cells:
                cell = row.cells[name]
                rows = f"{cell.estimate.scored}/{cell.estimate.total}"
                lines.append(f"| {name} ({cell.metric}) | {_cell(row.model)} | {percent(cell.estimate)} | {rows} |")
    return "\n".join([*lines, "", "  \n".join(notes(board))]) + "\n"


def slice_markdown(scores: Sequence[SliceScore]) -> str:
    """A table of benchmark, value of the slice, model and score."""
    lines = [f"| benchmark | {_cell(scores[0].field)} | model | score | samples |", "|---|---|---|---|---|"]
    for score in scores:
        shown = percent(score.estimate) if score.estimate else f"fewer than {FEWEST} samples"
        named = f"{score.benchmark} ({score.metric}) | {_cell(score.value)} | {_cell(score.model)}"
        lines.append(f"| {named} | {shown} | {score.samples} |")
    return "\n".join(lines) + "\n"


def notes(board: Board) -> list[str]:
    """What a reader must know to read the board: one sentence each."""
    weights = ", ".join(f"{name} {weight:g}" for name, weight in board.weights.items())
    lines = [
        f"overall: chance = 0, perfect = 100; mean over domains, weights: {weights}.",
        "Brackets: 95% intervals.",
        _rank_note(board),
        sensitivity(board),
        _choice_note(board),
        _untested_note(board),
        _spending_note(board),
    ]
    return [line for line in lines if line]


def sensitivity(board: Board) -> str:
    """How often each model leads whatever the domains weigh; empty with one domain or one model."""
    known = [(row.standing.lead_share, row.model) for row in board.ranked if row.standing]
    leaders = sorted(((share, name) for share, name in known if share), reverse=True)
    if not leaders:
        return ""
    (share, name), *others = leaders
    parts = [f"{name} leads in {_share(share)} of {DRAWS:,} draws of domain weights"]
    parts += [f"{name} in {_share(share)}" for share, name in others[:SEVERAL]]
    if len(others) > SEVERAL:
        parts.append(f"others in {_share(sum(share for share, _ in others[SEVERAL:]))}")
    return f"With any weights: {', '.join(parts)}."


def ranks(row: Row) -> str:
    """``2``, ``1–4``, or a dash without an overall score."""
    if row.standing is None:
        return UNKNOWN
    low, high = row.standing.rank_low, row.standing.rank_high
    return str(low) if low == high else f"{low}–{high}"


def overall_text(row: Row) -> str:
    """``12.3 (8.1 to 16.5)``, or why there is none."""
    return points(row.overall.value, row.overall.low, row.overall.high) if row.overall else row.problem


def lead(row: Row) -> str:
    """``83%`` of the weightings, or a dash."""
    return UNKNOWN if row.standing is None or row.standing.lead_share is None else _share(row.standing.lead_share)


def usd(row: Row) -> str:
    """US dollars for 1,000 samples with two digits that count, or a dash."""
    return UNKNOWN if row.usd_per_1k_samples is None else _two_digits(row.usd_per_1k_samples)


def pace(row: Row) -> str:
    """Seconds a sample with two digits that count, or a dash."""
    return UNKNOWN if row.seconds_per_sample is None else _two_digits(row.seconds_per_sample)


def _rank_note(board: Board) -> str:
    if len(board.ranked) < 2:
        return ""
    low, high = max(((row.standing.rank_low, row.standing.rank_high) for row in board.ranked if row.standing), key=_gap)
    example = f"{low}–{high}" if low < high else str(low)
    return (
        f"Rank {example} of {len(board.ranked)}: every place that the data leave open, from paired tests of all pairs "
        "on the same samples (Holm, 5%). Equal sets of ranks share a tier letter."
    )


def _gap(ranks: tuple[int, int]) -> int:
    return ranks[1] - ranks[0]


def _choice_note(board: Board) -> str:
    spent = [SPENT[name] for name in board.dimensions if name != SCORE]
    if not spent:
        return ""
    things = " and ".join([", ".join([SCORE, *spent[:-1]]), spent[-1]])
    return f"◆: no other model is as good in {things} and certainly better in one of them."


def _untested_note(board: Board) -> str:
    names = [row.model for row in board.ranked if not row.tested]
    if not names or len(board.ranked) < 2:
        return ""
    return f"Without samples there is no paired test, so nothing tells these from the others: {', '.join(names)}."


def _spending_note(board: Board) -> str:
    known = any(row.usd_per_1k_samples is not None or row.seconds_per_sample is not None for row in board.rows)
    return (
        "Cost and speed: without answers that came from the store; – where not known for all benchmarks."
        if known
        else ""
    )


def _share(share: float) -> str:
    if 0 < share < 0.005:
        return "under 1%"
    return "over 99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def _two_digits(amount: float) -> str:
    if amount == 0:
        return "0"
    return number(amount, max(0, 1 - math.floor(math.log10(abs(amount)))))


def _standing(row: Row) -> dict[str, Any]:
    at = row.standing
    return {
        "rank_low": at.rank_low if at else None,
        "rank_high": at.rank_high if at else None,
        "tier": at.tier if at else "",
        "lead_share": at.lead_share if at else None,
        "usd_per_1k_samples": row.usd_per_1k_samples,
        "seconds_per_sample": row.seconds_per_sample,
        "choice": at.choice if at else None,
    }


def _cell_record(model: str, cell: Entry) -> dict[str, Any]:
    extra = {"chance": cell.chance, "run": cell.run[:8], "seconds": round(cell.seconds, 3), **cell.usage}
    counts = {outcome.name: cell.outcomes.get(outcome, 0) for outcome in Outcome}
    return {**_record(model, cell.benchmark, cell.metric, cell.estimate), **extra, "outcomes": counts}


def _record(model: str, benchmark: str, metric: str, estimate: Estimate) -> dict[str, Any]:
    numbers = {name: finite(getattr(estimate, name)) for name in ("value", "low", "high")}
    return {
        "model": model,
        "benchmark": benchmark,
        "metric": metric,
        **numbers,
        "scored": estimate.scored,
        "total": estimate.total,
        "method": estimate.method,
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in record.items() if key != "outcomes"}, **record.get("outcomes", {})}


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
