"""Options that several commands share, so that one thing has one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Db = Annotated[
    str | None,
    typer.Option(help="Path or URL of the results database.", envvar="VEVALS_DB", show_default="results/vevals.db"),
]
Folders = Annotated[
    list[Path] | None, typer.Option("--benchmarks", help="Further folder of benchmarks; may be repeated.")
]
IncludePath = Annotated[
    list[Path] | None,
    typer.Option("--include-path", help="Folder of YAML files for lm-eval: benchmarks; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
SuiteName = Annotated[str | None, typer.Option("--suite", "-s", help="Name of a suite ('vevals list suites').")]
