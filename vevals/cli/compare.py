"""``vevals compare``: two models on the same samples, in sentences, with the answers that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vevals.cli.options import Db, Json

if TYPE_CHECKING:
    from rich.console import Console

    from vevals.compare import BenchmarkChange, Change, Comparison, SliceChange
    from vevals.store import Store

Side = Annotated[
    str,
    typer.Argument(help="A model's title, a label, keys of runs with commas between, or baseline:NAME."),
]

SIGNIFICANT = 0.05
WORST_SLICES = 5
ROWS_OF_TEXT = 2
INDENT = 12
SHOWN_MEASURES = {
    "output_tokens.mean": "output tokens",
    "seconds.p50": "median seconds",
    "usd_per_1k_samples": "USD for 1,000",
}


def compare(
    a: Side,
    b: Side,
    margin: Annotated[
        float, typer.Option(help="The loss that would not matter, as a share of the range: 0.03 = 3 points.")
    ] = 0.03,
    metric: Annotated[str, typer.Option(help="Name of a metric, 'score' (each benchmark's own) or 'all'.")] = "score",
    by: Annotated[str | None, typer.Option(help="Show every value of this slice, the worst first.")] = None,
    flips: Annotated[int, typer.Option(min=0, help="Show so many broken and so many fixed answers.")] = 0,
    allow: Annotated[
        list[str] | None, typer.Option(help="Compare although this part differs (prompt, scorer, ...); repeatable.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Compare two models sample by sample.

    A is the candidate, B what it is measured against; differences are A minus B, on the samples that both answered.
    """
    from vevals import compare as comparing
    from vevals import prices, runsets
    from vevals.cli import output
    from vevals.store import open_store

    rule = comparing.Rule(margin=margin, must_match=_must_match(allow or []), metrics=metric)
    with open_store(db, create=False) as store:
        found = comparing.compare(runsets.load(store, a), runsets.load(store, b), rule, prices.load_prices())
        _check_slice(found, by)
        texts = {one.benchmark: list(_flips(store, one, flips)) for one in found.benchmarks} if flips else {}
    if json:
        output.print_json({**found.to_json(), "flips": texts})
        return
    _print(found, by, texts)


def _must_match(allowed: Sequence[str]) -> tuple[str, ...]:
    from vevals.compare import PARTS, ComparisonError

    for part in allowed:
        if part not in PARTS:
            raise ComparisonError(f"--allow {part}: there is no such part; there is {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part not in allowed)


def _check_slice(found: Comparison, by: str | None) -> None:
    from vevals.compare import ComparisonError

    known = sorted({part.field for _, part in _slices(found)})
    if by is not None and by not in known:
        there = f"there is {', '.join(known)}" if known else "there is none"
        raise ComparisonError(f"--by {by}: no benchmark has such a slice with 10 samples or more; {there}")


def _slices(found: Comparison) -> list[tuple[BenchmarkChange, SliceChange]]:
    """All slices, the largest loss first."""
    listed = [(one, part) for one in found.benchmarks for part in one.changes[0].slices]
    return sorted(listed, key=lambda pair: _share(pair[0].changes[0], pair[1]))


def _share(change: Change, part: SliceChange) -> float:
    """Gain as a share of the metric's range, which differs between benchmarks."""
    return change.units.sign * part.difference.value / change.units.span


# --- the answers that changed ---------------------------------------------------------------------------------------


def _flips(store: Store, found: BenchmarkChange, count: int) -> Iterator[dict[str, Any]]:
    """Broken answers first, then fixed ones, the largest change first; both sides with what they answered."""
    change = found.changes[0]
    wanted = [("broke", sample) for sample in change.broke[:count]]
    wanted += [("fixed", sample) for sample in change.fixed[:count]]
    ids = {sample for _, sample in wanted}
    ours, theirs = (_rows(store, keys, change.metric, ids) for keys in found.runs)
    sign = change.units.sign
    for flip, sample in wanted:
        worse, better = (ours, theirs) if flip == "broke" else (theirs, ours)
        low, high = _extreme(worse[sample], -sign), _extreme(better[sample], sign)
        a, b = (low, high) if flip == "broke" else (high, low)
        shown = {"id": sample, "flip": flip, "slices": a["slices"], "target": a["target"]}
        yield {**shown, "a": _answer(a), "b": _answer(b)}


def _rows(store: Store, keys: Sequence[str], metric: str, ids: set[str]) -> dict[str, list[dict[str, Any]]]:
    """All repeats of some samples."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for key in keys:
        for row in store.samples(store.run(key), metric):
            if row["id"] in ids:
                rows.setdefault(row["id"], []).append(row)
    return rows


def _extreme(rows: Sequence[dict[str, Any]], sign: float) -> dict[str, Any]:
    """Of the repeats the one with the highest value (``sign`` 1) or the lowest (-1)."""
    valued = [row for row in rows if row["value"] is not None]
    return max(valued, key=lambda row: float(sign * row["value"])) if valued else rows[0]


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("outcome", "value", "answer", "text")}


# --- printing -------------------------------------------------------------------------------------------------------


def _print(found: Comparison, by: str | None, texts: dict[str, list[dict[str, Any]]]) -> None:
    from vevals.cli.output import cell, console

    out = console()
    out.print("Differences are A minus B, with 95% intervals", style="bold")
    out.print(cell(f"A  {found.candidate}"))
    out.print(cell(f"B  {found.baseline}"))
    for one in found.benchmarks:
        _print_benchmark(out, found, one)
    _print_domains(out, found)
    _print_slices(out, found, by)
    for benchmark, flips in texts.items():
        _print_flips(out, found, benchmark, flips)
    _print_left_out(out, found)


def _say(out: Console, text: str, indent: int = 2, style: str = "", name: str = "") -> None:
    """A text wrapped beside its indentation, in which ``name`` may stand; no line ends in blanks."""
    from rich.text import Text

    from vevals.cli.output import cell

    for place, line in enumerate(cell(text).wrap(out, out.width - indent)):
        line.rstrip()
        before = f"  {name}".ljust(indent) if place == 0 and name else " " * indent
        out.print(Text.assemble(before, line), style=style)


def _print_benchmark(out: Console, found: Comparison, one: BenchmarkChange) -> None:
    from vevals.cli.output import cell

    for place, change in enumerate(one.changes):
        samples = f"{change.difference.n:,} samples"
        repeats = f", {change.repeats[0]} / {change.repeats[1]} repeats" if max(change.repeats) > 1 else ""
        heading = one.benchmark if place == 0 else " " * len(one.benchmark)
        out.print()
        out.print(cell(f"{heading}  {change.metric}, {samples}{repeats}"), style="bold")
        _print_change(out, found, change)
    for line in (*one.notes, *_beside(one)):
        _say(out, line, style="dim")


def _print_change(out: Console, found: Comparison, change: Change) -> None:
    from vevals.compare import words

    a, b = (words.estimated(side, change.units) for side in (change.candidate, change.baseline))
    _say(out, f"A {a}   B {b}")
    _say(out, words.line(change, found.rule))
    holm = f"Holm {words.p_value(change.holm_p)}" if len(found.benchmarks) > 1 and change.holm_p >= 0 else ""
    computed = filter(None, (words.p_value(change.difference.p), holm, change.difference.method))
    _say(out, ", ".join(computed), style="dim")
    missing = words.whatever(change)
    if missing:
        _say(out, missing, style="yellow")


def _beside(one: BenchmarkChange) -> list[str]:
    """Length, time, cost and how answers ended: A / B, where it is known and not nothing."""
    parts = []
    for measure in one.measures:
        a, b = measure.candidate, measure.baseline
        if not (a >= 0 and b >= 0) or not (a or b):
            continue
        if measure.name.endswith("_rate"):
            parts.append(f"{measure.name.removesuffix('_rate')} {100 * a:.1f}% / {100 * b:.1f}%")
        elif measure.name in SHOWN_MEASURES:
            ratio = f" ({measure.ratio:.2f}×)" if measure.ratio >= 0 else ""
            parts.append(f"{SHOWN_MEASURES[measure.name]} {a:.3g} / {b:.3g}{ratio}")
    return [f"A / B: {', '.join(parts)}"] if parts else []


def _print_domains(out: Console, found: Comparison) -> None:
    from vevals.compare import words

    several = [domain for domain in found.domains if len(domain.benchmarks) > 1]
    if not several:
        return
    out.print("\nDomains, every benchmark with equal weight; plus is better", style="bold")
    for domain in several:
        _say(out, f"{domain.domain}, {len(domain.benchmarks)} benchmarks, {domain.n:,} samples")
        missing = f"; {domain.missing:,} rows without a value are left out" if domain.missing else ""
        _say(out, f"{words.domain_sentence(domain, found.rule)}{missing}", 4)


def _print_slices(out: Console, found: Comparison, by: str | None) -> None:
    """With ``--by`` all values of that slice; else those that are worse beyond chance."""
    listed = _slices(found)
    if by is not None:
        shown = [pair for pair in listed if pair[1].field == by]
        small = sum(one.changes[0].small for one in found.benchmarks)
        out.print(f"\nSlices by {by}, the worst first", style="bold")
    else:
        lost = [pair for pair in listed if pair[1].adjusted_p < SIGNIFICANT and _share(pair[0].changes[0], pair[1]) < 0]
        shown, small = lost[:WORST_SLICES], 0
        if listed:
            heading = f"{len(lost)} of {len(listed)} slices are worse beyond chance (Benjamini-Hochberg)"
            out.print(f"\n{heading}", style="bold")
    for one, part in shown:
        _print_slice(out, found, one, part)
    if small:
        _say(out, f"{small} slices with fewer than 10 samples are not shown", style="dim")


def _print_slice(out: Console, found: Comparison, one: BenchmarkChange, part: SliceChange) -> None:
    from vevals.compare import words

    units = one.changes[0].units
    _say(out, f"{part.field} {part.value}: {one.benchmark}, {part.difference.n:,} samples")
    text = f"{words.sentence(part.difference, units, found.rule)}; {words.flips(part.difference, units)}"
    adjusted = f", adjusted {words.p_value(part.adjusted_p)}" if part.adjusted_p >= 0 else ""
    _say(out, f"{text}{adjusted}", 4)


def _print_flips(out: Console, found: Comparison, benchmark: str, flips: Sequence[dict[str, Any]]) -> None:
    from vevals.cli.output import cell

    [one] = [one for one in found.benchmarks if one.benchmark == benchmark]
    change = one.changes[0]
    counts = f"{len(change.broke):,} broke, {len(change.fixed):,} fixed"
    out.print()
    out.print(cell(f"Answers that changed in {benchmark}, by {change.metric}: {counts}"), style="bold")
    width = ROWS_OF_TEXT * max(20, out.width - INDENT)
    for flip in flips:
        where = ", ".join(f"{name} {value}" for name, value in flip["slices"].items())
        _say(out, _short(f"{flip['flip']}  {flip['id']}{f' ({where})' if where else ''}", width), style="bold")
        _say(out, _short(" | ".join(flip["target"]), width), INDENT, name="  target")
        for side in ("a", "b"):
            _say(out, _short(_said(flip[side]), width), INDENT, name=f"  {side.upper()}")


def _said(answer: dict[str, Any]) -> str:
    """The answer; where none was found, how the row ended and what came instead."""
    if answer["answer"] is not None:
        return str(answer["answer"])
    return f"(no answer: {answer['outcome'] or 'not scored'}) {answer['text']}"


def _short(text: str, width: int) -> str:
    """One paragraph with visible escapes, cut to ``width`` characters."""
    from vevals import display

    line = display.visible(" ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 2]} …"


def _print_left_out(out: Console, found: Comparison) -> None:
    lines = [f"only A has runs of {', '.join(found.only_candidate)}"] if found.only_candidate else []
    lines += [f"only B has runs of {', '.join(found.only_baseline)}"] if found.only_baseline else []
    if lines or found.problems:
        out.print("\nNot compared", style="bold")
    for line in (*lines, *found.problems):
        _say(out, line)
