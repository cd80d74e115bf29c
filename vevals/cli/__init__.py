"""The command line: parse, call, print, exit. Every command imports what it needs when it is called.

Exit codes: 0 done · 1 done, but something needs attention (failed requests, a benchmark to repair, a wrong hash) ·
2 wrong usage or input, nothing was lost · 70 a bug in vevals · 130 interrupted, everything answered is saved ·
141 whoever read the output stopped reading.
"""

from __future__ import annotations

import os
import sys

import typer

from vevals import __version__
from vevals.cli import browse, compare, data, gate, rescore, runs
from vevals.errors import VevalsError

INTERNAL = 70
READER_GONE = 141  # as a shell says it: 128 + SIGPIPE

app = typer.Typer(
    name="vevals",
    help="Evaluate language models on business benchmarks: run suites, compare models, gate releases.",
    epilog="Exit codes: 0 done, 1 done but see the output, 2 wrong usage or input, 70 a bug, 130 interrupted. Those of "
    "'vevals gate' are a verdict: see its help.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(browse.list_)
app.command()(browse.show)
app.command()(browse.check)
app.command()(browse.new)
app.command()(runs.run)
app.command()(runs.leaderboard)
app.command()(runs.samples)
app.command()(compare.compare)
app.command()(rescore.rescore)
app.add_typer(gate.app, name="gate")
app.add_typer(gate.baselines, name="baseline")
app.add_typer(data.app, name="data")


def _version(value: bool) -> None:
    if value:
        print(f"vevals {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that stand before any command."""


def main() -> None:
    """Entry point of the command ``vevals``."""
    try:
        app()
    except VevalsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it closes it
        sys.exit(READER_GONE)
    except Exception:
        import traceback

        traceback.print_exc()
        print("This is a bug in vevals, not in what you typed. Please report it with the lines above.", file=sys.stderr)
        sys.exit(INTERNAL)
