"""``vevals gate`` and ``vevals baseline``: judge a candidate, look behind a verdict, name baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vevals.cli.options import Db, Folders, IncludePath, Json

if TYPE_CHECKING:
    from vevals.gate.terms import Policy

LM_EVAL = "lm-eval:"
app = typer.Typer(
    no_args_is_help=True,
    help="Decide whether a candidate is no worse than its baseline. Exit codes: 0 pass, 1 fail, 2 wrong usage or "
    "policy, 3 inconclusive, 4 invalid, 70 a bug.",
)
baselines = typer.Typer(no_args_is_help=True, help="Name the runs that candidates are measured against.")

PolicyFile = Annotated[Path, typer.Option("--policy", "-p", help="The policy, a YAML file (vevals.gate/v1).")]
Candidate = Annotated[
    str, typer.Argument(help="A model as the leaderboard shows it, a label, or keys of runs with commas between.")
]
BaselineRef = Annotated[
    str | None, typer.Option("--baseline", help="A baseline or run set instead of the policy's baseline.ref.")
]


@app.command()
def check(
    candidate: Candidate,
    policy: PolicyFile,
    baseline: BaselineRef = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdict here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write SARIF here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a step or a comment here.")] = None,
    attest: Annotated[Path | None, typer.Option(help="Write an in-toto statement here, to be signed by CI.")] = None,
    budget: Annotated[int, typer.Option("--markdown-bytes", min=500, help="Most bytes of the summary.")] = 60_000,
    db: Db = None,
    benchmarks: Folders = None,
) -> None:
    """Judge finished runs by a policy; the exit code is the verdict."""
    from vevals import release
    from vevals.cli import output, verdicts
    from vevals.gate.policy import load_policy
    from vevals.store import open_store

    loaded = load_policy(policy)
    targets = {"json": json_file, "junit": junit, "sarif": sarif, "markdown": markdown, "attest": attest}
    with open_store(db, create=False) as store:
        checked = release.judge(store, loaded, candidate, baseline, benchmarks or [])
        verdicts.write(store, checked, targets, budget)
    with output.to_the_reader():
        verdicts.print_verdict(checked.verdict, checked.tried)
    raise typer.Exit(checked.verdict.exit_code)


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="PREFIX:NAME or alias, as for 'vevals run'.")],
    policy: PolicyFile,
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="Suite to run.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option("--benchmark", "-b", help="Benchmarks to run.")] = None,
    draw: Annotated[int | None, typer.Option(min=1, help="Samples to begin with (default: all).")] = None,
    baseline: BaselineRef = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdict here.")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the terms of restricted data.")
    ] = False,
    db: Db = None,
    benchmarks: Folders = None,
    include_path: IncludePath = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the verdict.")] = False,
) -> None:
    """Run what is missing, then judge.

    Under 'on_inconclusive: extend' or 'stop_early' more samples are asked until it is decided or the budget ends.
    """
    from vevals import extend
    from vevals.cli import output, verdicts
    from vevals.cli.progress import watcher
    from vevals.gate.policy import load_policy
    from vevals.registry import open_registry
    from vevals.store import open_store

    loaded = load_policy(policy)
    folders = tuple(benchmarks or ())
    wanted = extend.Plan(
        open_registry(folders, include_path or []), suite, tuple(benchmark or ()), draw, accept_license, folders
    )
    with open_store(db) as store:
        checked = extend.run_and_judge(store, loaded, model, wanted, baseline, watcher(quiet))
        verdicts.write(store, checked, {"json": json_file}, 60_000)
    with output.to_the_reader():
        verdicts.print_verdict(checked.verdict, checked.tried)
    raise typer.Exit(checked.verdict.exit_code)


@app.command()
def plan(
    policy: Annotated[Path, typer.Argument(help="The policy, a YAML file (vevals.gate/v1).")],
    pilot: Annotated[str | None, typer.Option(help="Run set to learn flips and rates from.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Second run set of the pilot (default: the policy's baseline).")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Plan for so many samples a benchmark.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="What will be run: a suite.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option("--benchmark", "-b", help="What will be run.")] = None,
    db: Db = None,
    benchmarks: Folders = None,
    json: Json = False,
) -> None:
    """Say whether a policy can be passed at all.

    Before any model is loaded: what can never pass, how often an unchanged model would, how many samples it takes.
    """
    from vevals import planning
    from vevals.cli import output, verdicts
    from vevals.gate.policy import load_policy

    source = planning.Source(
        pilot, against, samples, suite, tuple(benchmark or ()), db, folders=tuple(benchmarks or ())
    )
    loaded = load_policy(policy)
    if pilot is None:
        _check_tasks(loaded, source.patterns)
    made = planning.plan_policy(loaded, source)
    if json:
        output.print_json(verdicts.plan_record(made))
    else:
        verdicts.print_plan(made)
    raise typer.Exit(made.exit_code)


def _check_tasks(policy: Policy, patterns: Sequence[str]) -> None:
    """Refuse checks of lm-eval tasks that nobody named: they are too many to look through."""
    from vevals.errors import PolicyError

    wanted = [name for check in policy.checks for name in check.select.benchmark if name.startswith(LM_EVAL)]
    if wanted and not any(name.startswith(LM_EVAL) for name in patterns):
        raise PolicyError(
            f"the policy selects {wanted[0]}, and plan does not know lm-eval's tasks by itself; name them with "
            f"--benchmark {LM_EVAL}TASK, or learn from a run of them with --pilot"
        )


@app.command()
def explain(
    verdict: Annotated[str, typer.Argument(help="A verdict file, or the first digits of a verdict's digest.")],
    check: Annotated[str | None, typer.Argument(help="Only this check.")] = None,
    flips: Annotated[int, typer.Option(min=0, help="Flipped samples to show of each instance.")] = 5,
    db: Db = None,
) -> None:
    """Show what is behind a verdict.

    How each number was computed, which samples flipped, the worst slices first.
    """
    from vevals import release
    from vevals.cli import verdicts
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        found, _ = release.read(store, verdict)
        changed = release.flips_of(store, found, check, flips)
    verdicts.print_explanation(found, check, changed)


@app.command()
def verify(
    verdict: Annotated[str, typer.Argument(help="A verdict file, or the first digits of a verdict's digest.")],
    db: Db = None,
) -> None:
    """Recompute a verdict from stored answers.

    Offline, from the database alone. Exit codes: 0 the same, 1 not the same, 4 evidence missing.
    """
    from vevals import release
    from vevals.cli import verdicts
    from vevals.gate.verdict import digest_of
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        found = release.verify(store, *release.read(store, verdict))
        chain = store.check_chain(digest_of)
    verdicts.print_verified(found, chain)
    raise typer.Exit(max(found.exit_code, 1 if chain else 0))


@app.command()
def aa(
    one: Annotated[str, typer.Argument(help="Run set of a model.")],
    other: Annotated[str, typer.Argument(help="Another run set of the same model.")],
    policy: PolicyFile,
    min_pass: Annotated[float, typer.Option(min=0, max=1, help="Share of unchanged releases that should pass.")] = 0.95,
    db: Db = None,
    benchmarks: Folders = None,
) -> None:
    """Judge a model against itself.

    Two runs of one model: how often would the gate pass, or fail, a release without a change?
    """
    from vevals import release
    from vevals.cli import verdicts
    from vevals.gate.policy import load_policy
    from vevals.store import open_store

    loaded = load_policy(policy)
    with open_store(db, create=False) as store:
        verdict, rates = release.against_itself(store, loaded, one, other, benchmarks or [])
    verdicts.print_verdict(verdict, "", recorded=False)
    verdicts.print_rates(rates, min_pass)
    raise typer.Exit(rates.exit_code(min_pass))


@app.command()
def log(
    policy: Annotated[str | None, typer.Argument(help="Only verdicts of the policy with this name.")] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """List every verdict of this store.

    This is the ledger; exit code 1 if its chain is broken.
    """
    from vevals.cli import output, verdicts
    from vevals.gate.verdict import digest_of
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        rows = [row for row in store.verdicts() if policy in (None, row.body["policy"]["name"])]
        problems = store.check_chain(digest_of)
    if json:
        return output.print_json([verdicts.ledger_record(row) for row in rows])
    verdicts.print_ledger(rows, problems)
    raise typer.Exit(1 if problems else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of policies, for editors."""
    import json

    from vevals.gate.policy import policy_schema

    print(json.dumps(policy_schema(), indent=2, ensure_ascii=False))


@baselines.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="Name of the baseline, such as 'prod'.")],
    runs: Annotated[str, typer.Argument(help="A model as the leaderboard shows it, a label, or keys of runs.")],
    reason: Annotated[str, typer.Option(help="Why these runs are the baseline now.")],
    by: Annotated[str | None, typer.Option(help="Who says so (default: the CI's user or the login).")] = None,
    db: Db = None,
) -> None:
    """Let finished runs stand for what is in production. The log keeps every earlier entry."""
    from vevals import release, runsets
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        found = runsets.load(store, runs)
        row = release.set_baseline(store, name, found, by or release.actor(), reason)
    names = ", ".join(sorted(found.evidence))
    print(f"baseline {name}: {len(found.evidence)} benchmarks ({names}), set {row.set_digest[:12]}")


@baselines.command("log")
def log_(
    name: Annotated[str, typer.Argument(help="Name of the baseline.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Show every entry of a baseline, the newest last."""
    from vevals.cli import output, verdicts
    from vevals.errors import StoreError
    from vevals.store import open_store

    with open_store(db, create=False) as store:
        rows = store.baselines(name)
    if not rows:
        raise StoreError(f"no baseline is called '{name}'; 'vevals baseline set {name} RUNSET' makes one")
    if json:
        return output.print_json([verdicts.baseline_record(row) for row in rows])
    return verdicts.print_baselines(rows)
