"""``vevals run``, ``vevals leaderboard`` and ``vevals samples``."""

from __future__ import annotations

import enum
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vevals.cli.options import Db, Folders, IncludePath, Json, SuiteName

if TYPE_CHECKING:
    from vevals.board import Board
    from vevals.cli.progress import Bar, Lines
    from vevals.runner import Result
    from vevals.store import RunRow
    from vevals.types import Outcome

INTERRUPTED = 130


class Format(enum.StrEnum):
    """How a leaderboard is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def run(
    model: Annotated[list[str], typer.Option("--model", "-m", help="PREFIX:NAME or alias; may be repeated.")],
    suite: SuiteName = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", help="Name, pattern as 'medical/*', or lm-eval:TASK; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    draw: Annotated[int | None, typer.Option(min=1, help="Only N samples, the same ones for the same seed.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of --draw and of sampling.")] = 0,
    label: Annotated[str, typer.Option(help="A name that keeps this run apart from equal ones.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Ask every sample so often, each time with its own seed.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(help="How freely replies are drawn; 0: the likeliest.", show_default="0")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="A further attempt at a finished run, with new seeds.")
    ] = False,
    attempt: Annotated[int, typer.Option(min=1, help="Go on with attempt N that --again began.")] = 1,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the terms of restricted data.")
    ] = False,
    db: Db = None,
    benchmarks: Folders = None,
    include_path: IncludePath = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    json: Json = False,
) -> None:
    """Evaluate models on benchmarks. Stopped or killed, the same command goes on where it was."""
    from vevals import session
    from vevals.cli.progress import watcher
    from vevals.registry import open_registry
    from vevals.runner import Slice
    from vevals.store import open_store

    part = Slice(limit, draw, seed, label, repeats, attempt, again)
    registry = open_registry(benchmarks or [], include_path or [])
    selection = session.select(registry, suite, benchmark or [], part, temperature)
    models = session.prepare(selection, list(dict.fromkeys(model)), accept_license)
    if session.repeats_likeliest(selection) and not quiet:
        print("Note: without --temperature, repeats of a model that draws nothing say nothing new.", file=sys.stderr)
    watch = watcher(quiet)
    results: list[Result] = []
    with open_store(db) as store:
        try:
            signal.signal(signal.SIGTERM, _interrupt)
            results.extend(session.run_all(selection, models, store, watch))
        except KeyboardInterrupt:
            _say_how_to_resume(watch)
            raise typer.Exit(INTERRUPTED) from None
        board = session.board_of(store, results, selection)
        where = str(store.path)
        causes = [cause for result in results if (cause := session.first_failure(store, result))]
    _print_results(results, board, where, causes, json)
    if any(result.failures for result in results):
        raise typer.Exit(1)


def leaderboard(
    suite: SuiteName = None,
    domain: Annotated[str | None, typer.Option(help="Only the benchmarks of this domain.")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", "-b", help="Only this benchmark or pattern; repeatable.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="SLICE", help="Scores for each value of a slice instead.")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.table,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs instead.")] = False,
    db: Db = None,
    benchmarks: Folders = None,
    json: Json = False,
) -> None:
    """Compare all models of the results database: which rank each can have, scores with intervals, cost and speed."""
    from vevals import session
    from vevals.cli import output
    from vevals.errors import BenchmarkError
    from vevals.prices import load_prices
    from vevals.registry import open_registry
    from vevals.store import open_store

    if domain and benchmark:
        raise BenchmarkError("give --domain or --benchmark, not both")
    with open_store(db, create=False) as store:
        if runs:
            listed = store.runs()
            return output.print_json([_run_record(run) for run in listed]) if json else output.print_runs(listed)
        registry = open_registry(benchmarks or []) if suite else None
        only = [domain] if domain else benchmark or ["*"]
        board = session.board(store, registry, suite, only, load_prices())
    part = ", ".join(only) if only != ["*"] else ""
    heading = f"Leaderboard of {', '.join(filter(None, [f'suite {suite}' if suite else '', part])) or 'everything'}"
    return _print_board(board, heading, Format.json if json else format, by)


def samples(
    run: Annotated[str, typer.Argument(help="A run: the first digits of its key ('vevals leaderboard --runs').")],
    outcome: Annotated[str | None, typer.Option(help="Only these: scored, unparsed, truncated, empty, ...")] = None,
    metric: Annotated[str | None, typer.Option(help="By this metric (default: the benchmark's first).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show what a run asked, what came back, and how it was judged."""
    from itertools import islice

    from vevals.cli import output
    from vevals.errors import StoreError
    from vevals.store import open_store

    wanted = _outcome(outcome)
    with open_store(db, create=False) as store:
        row = store.run(run)
        known = [name for name, _ in store.estimates(row.id)]
        if metric is not None and metric not in known:
            raise StoreError(f"run {row.key[:8]} has no metric '{metric}'; it has {', '.join(known) or 'none yet'}")
        name = metric or (known[0] if known else "")
        found = list(islice(store.samples(row, name, wanted), limit))
    if json:
        return output.print_json(found)
    return output.print_samples(row, name, found)


def _outcome(name: str | None) -> Outcome | None:
    from vevals.errors import VevalsError
    from vevals.types import Outcome

    if name is None:
        return None
    if name not in Outcome.__members__:
        raise VevalsError(f"no outcome is called '{name}'; there is {', '.join(Outcome.__members__)}")
    return Outcome[name]


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _say_how_to_resume(watch: Lines | Bar) -> None:
    count = watch.count
    if count.total:
        print(
            f"\nStopped. {count.title}: {count.done - count.failed} of {count.total} answers are saved.",
            file=sys.stderr,
        )
    print("The same command goes on from there.", file=sys.stderr)


def _print_results(results: list[Result], board: Board, where: str, causes: list[str], json: bool) -> None:
    from vevals.cli import output
    from vevals.cli.board import print_board

    if json:
        output.print_json([output.result_record(result) for result in results])
        return
    print_board(board, "Leaderboard of this command")
    failures = sum(result.failures for result in results)
    if failures:
        attempt = max(result.run.attempt for result in results)
        command = f"the same command with --attempt {attempt}, without --again," if attempt > 1 else "the same command"
        print(f"\n{failures} samples have no score; {command} asks again what may pass. First of each run:")
        for cause in causes:
            output.console().print(output.cell(f"  {cause}"))
    print(f"\nResults: {where}\nLook at single answers: vevals samples {results[0].run.key[:8]}")


def _print_board(board: Board, heading: str, format: Format, by: str | None) -> None:
    from vevals import board as boards
    from vevals.cli import board as printed
    from vevals.cli import output
    from vevals.errors import StoreError

    if not board.rows:
        raise StoreError("there is no finished run of this to show; 'vevals leaderboard --runs' lists what there is")
    scores = boards.by_slice(board, by) if by else []
    records = boards.slice_records(scores) if by else boards.to_records(board)
    if format is Format.json:
        output.print_json(records)
    elif format is Format.csv:
        print(boards.csv_of(records), end="")
    elif format is Format.markdown:
        print(boards.slice_markdown(scores) if by else boards.to_markdown(board), end="")
    elif by:
        printed.print_slices(scores, f"{heading}, by {by}")
    else:
        printed.print_board(board, heading)


def _run_record(run: RunRow) -> dict[str, object]:
    from dataclasses import asdict

    record = asdict(run)
    return {**{key: value for key, value in record.items() if key != "spec"}, "status": record["status"].name}
