"""``vevals data fetch`` and ``vevals data verify``: pinned files, before anything is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vevals.cli.options import Folders

if TYPE_CHECKING:
    from vevals.benchmark import Benchmark
    from vevals.data import DataSpec

app = typer.Typer(
    help="Fetch and verify the pinned data files of benchmarks.", no_args_is_help=True, rich_markup_mode=None
)
Pattern = Annotated[str, typer.Argument(help="Name or pattern; all by default.")]


@app.command()
def fetch(pattern: Pattern = "*", folders: Folders = None) -> None:
    """Make every remote file local: from VEVALS_MIRROR, the cache, or its address; each hash is checked."""
    from vevals import data
    from vevals.errors import DataError

    missing = 0
    for benchmark in _found(pattern, folders):
        for spec in _specs(benchmark):
            try:
                files = data.fetch(spec, benchmark.folder)
                print(f"{benchmark.name}: {len(files)} files here")
            except DataError as error:
                missing += 1
                print(f"{benchmark.name}: {error}")
    if missing:
        raise typer.Exit(1)


@app.command()
def verify(pattern: Pattern = "*", folders: Folders = None) -> None:
    """Check the hash of every file that is here."""
    from vevals import data

    wrong = 0
    for benchmark in _found(pattern, folders):
        problems = [problem for spec in _specs(benchmark) for problem in data.verify(spec, benchmark.folder)]
        wrong += len(problems)
        print(f"{benchmark.name}: {'ok' if not problems else '; '.join(problems)}")
    if wrong:
        raise typer.Exit(1)


def _found(pattern: str, folders: Folders) -> list[Benchmark]:
    from vevals.registry import open_registry

    return open_registry(folders or []).find([pattern])


def _specs(benchmark: Benchmark) -> list[DataSpec]:
    from vevals.benchmark import data_spec

    few = benchmark.spec.few_shot
    return [data_spec(benchmark.spec.data), *([data_spec(few.data)] if few else [])]
