"""How verdicts, plans and baselines are printed, and where their files go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding

from vevals import display, flips
from vevals.cli import output
from vevals.errors import VevalsError
from vevals.gate import lines, outputs
from vevals.gate.aa import Rates
from vevals.gate.lines import Flip
from vevals.gate.plan import SAFE_POWER, Forecast, Plan
from vevals.gate.verdict import Instance, Severity, State, Verdict

if TYPE_CHECKING:
    from vevals.release import Checked, Moved, Verified
    from vevals.store import BaselineRow, Store, VerdictRow

COLOURS = {State.PASS: "green", State.FAIL: "bold red", State.INCONCLUSIVE: "yellow", State.INVALID: "bold magenta"}
TITLES = {Severity.block: "Blocking checks", Severity.warn: "Warnings", Severity.info: "For information"}
MOST_LISTED = 20
LONGEST_TEXT = 200


def write(store: Store, checked: Checked, targets: Mapping[str, Path | None], budget: int) -> None:
    """Write the outputs that were asked for; each file appears whole or not at all."""
    verdict = checked.verdict
    makers = {
        "json": lambda: outputs.verdict_json(verdict),
        "junit": lambda: outputs.junit(verdict),
        "sarif": lambda: outputs.sarif(verdict),
        "markdown": lambda: outputs.markdown(verdict, budget, flips.of_setting(store, checked.setting)),
        "attest": lambda: outputs.in_toto(verdict),
    }
    for name, path in targets.items():
        if path is not None:
            _write(path, makers[name]())


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise VevalsError(f"{path}: cannot be written: {error.strerror}") from error


def print_verdict(verdict: Verdict, tried: str, recorded: bool = True) -> None:
    """The headline, every check, what is only listed, and how to see more."""
    out = output.console()
    for place, text in enumerate([*lines.banner(verdict), *filter(None, [tried])]):
        out.print(output.cell(text), style=COLOURS[verdict.state] if place == 0 else "bold")
    for severity, title in (
        (Severity.block, "Blocking checks"),
        (Severity.warn, "Warnings"),
        (Severity.info, "For information"),
    ):
        _print_section(title, [one for one in verdict.instances if one.severity is severity])
    _print_listed(verdict.listed)
    if recorded:
        print(
            f"\nverdict {verdict.digest[:12]}, exit code {verdict.exit_code}: vevals gate explain {verdict.digest[:12]}"
        )


def _print_section(title: str, found: Sequence[Instance]) -> None:
    """All instances of blocking checks; of the others those that did not pass."""
    out = output.console()
    if found:
        out.print(f"\n{title}", style="bold")
    shown = [one for one in found if one.severity is Severity.block or one.state is not State.PASS]
    for one in shown:
        _print_instance(one)
    if len(shown) < len(found):
        out.print(f"{len(found) - len(shown)} {'more ' if shown else ''}pass", style=COLOURS[State.PASS])


def _print_instance(one: Instance) -> None:
    out = output.console()
    out.print(output.cell(one.name), style="bold" if one.counted is not State.PASS else "")
    _indented(lines.line(one), "green" if one.waiver else COLOURS[one.state])


def _print_listed(listed: Sequence[str]) -> None:
    out = output.console()
    if listed:
        out.print("\nNot judged, or ignored", style="bold")
    for text in listed[:MOST_LISTED]:
        _indented(text)
    if len(listed) > MOST_LISTED:
        out.print(f"  {len(listed) - MOST_LISTED} more, in the verdict's JSON")


def print_explanation(verdict: Verdict, check: str | None, found: Sequence[Flip]) -> None:
    """How every number was computed, the worst slices first, and the samples that changed."""
    shown = [one for one in verdict.instances if check in (None, one.check)]
    if not shown:
        known = ", ".join(dict.fromkeys(one.check for one in verdict.instances))
        raise VevalsError(f"the verdict has no check '{check}'; it has {known}")
    out = output.console()
    for text in lines.banner(verdict):
        out.print(output.cell(text), style="bold")
    for one in sorted(shown, key=_by_loss):
        out.print()
        _print_instance(one)
        for text in lines.explain(one):
            _indented(text, "dim", 4)
    print_flips(found)


def _by_loss(one: Instance) -> tuple[bool, float]:
    """Whole benchmarks in the policy's order, then slices, those that lost most first."""
    return bool(one.where), (one.estimate or 0.0) if one.where else 0.0


def print_flips(found: Sequence[Flip]) -> None:
    """Samples that changed, broken ones first."""
    out = output.console()
    for direction in ("broke", "fixed"):
        some = [one for one in found if one.direction == direction]
        if some:
            out.print(f"\n{direction.capitalize()}", style="bold")
        for one in some:
            out.print(output.cell(_short(f"{one.benchmark} · {one.sample}: {one.target}")))
            _indented(f"was {_short(one.baseline)}", "dim")
            _indented(f"is  {_short(one.candidate)}", "dim")


def _short(text: str) -> str:
    """One line of a text from outside: it must not look like a line of ours."""
    told = lines.plain(text)
    return told if len(told) <= LONGEST_TEXT else f"{told[:LONGEST_TEXT]} …"


def _indented(text: str, style: str = "", by: int = 2) -> None:
    output.console().print(Padding(output.cell(text), (0, 0, 0, by)), style=style)


def print_verified(found: Verified, chain: Sequence[str]) -> None:
    """Whether a recomputed verdict is the same."""
    out = output.console()
    for text in (*found.missing, *found.differences, *chain):
        out.print(output.cell(text), style="bold red")
    if found.exit_code == 0:
        out.print(f"verdict {found.digest[:12]}: recomputed from the stored answers, the same to the last digit")


def print_plan(plan: Plan) -> None:
    """Check by check: what can be passed, how often by an unchanged model, and with how many samples."""
    out = output.console()
    for title, some in _grouped(plan).items():
        out.print(output.cell(title), style="bold")
        made = output.table("benchmark", *_NUMBERS, right=_NUMBERS)
        for one in some:
            made.add_row(*_plan_row(one), style="" if one.reachable else "red")
        out.print(made)
        for text in dict.fromkeys(_remark(one) for one in some):
            _indented(text, "dim")
        out.print()
    _print_joint(plan)


_NUMBERS = ("samples", "passes", "80% at", "95% at")
"""Samples, the share of unchanged models that pass, and the samples with which 80% do, or all checks in 95%."""


def _grouped(plan: Plan) -> dict[str, list[Forecast]]:
    """Forecasts by check and limit, under the line that says what is asked."""
    found: dict[str, list[Forecast]] = {}
    for one in plan.forecasts:
        found.setdefault(f"{one.subject.check.id} [{one.subject.check.severity}]: {_limit(one)}", []).append(one)
    return found


def _plan_row(one: Forecast) -> tuple[str, ...]:
    subject = one.subject
    power = "?" if one.power is None else _share(one.power)
    size = "?" if subject.n is None else f"{subject.n:,}"
    power = power if one.reachable else "never"
    return subject.benchmark or "(none)", size, power, _count(one.needed[0]), _count(one.needed[1])


def _remark(one: Forecast) -> str:
    subject = one.subject
    where = subject.benchmark or "this check"
    if subject.problem:
        return f"{where}: {subject.problem}"
    if not one.reachable and one.least is not None and subject.n is not None:
        return f"{where} ({subject.n:,}) cannot pass {_limit(one)}: it needs {one.least:,} at the least"
    return one.note


def _print_joint(plan: Plan) -> None:
    out = output.console()
    known = len(plan.blocking) - plan.unknown
    if not plan.blocking:
        out.print("No check blocks: this policy decides nothing, its verdict would be INVALID.", style="bold red")
    if plan.joint is None or not known:
        return
    unknown = f"; {plan.unknown} more are not forecast" if plan.unknown else ""
    one_or_all = "the blocking check" if known == 1 else f"all {known} blocking checks together"
    out.print(f"An unchanged model passes {one_or_all} in {_share(plan.joint)}{unknown}.", style="bold")
    if known > 1 and plan.joint < SAFE_POWER:
        out.print(f"For 95% together each of them needs {_share(plan.each)}.")
    if plan.samples is not None and not plan.unknown:
        money = "" if plan.usd is None else f", about ${plan.usd:,.2f}"
        out.print(f"A run that passes in 95% takes {plan.samples:,} samples{money}.")


def _limit(one: Forecast) -> str:
    limit, check = one.subject.limit, one.subject.check
    if check.judge is not None or check.contamination is not None:
        return "judge" if check.judge is not None else "contamination"
    value = lines.shortest(100 * limit.value)
    if limit.kind == "no_worse_than":
        return f"a {value}{'% relative' if limit.relative else '-point'} no-regression check"
    if limit.kind == "max_increase":
        return f"an increase of at most {value}%"
    word = "floor" if limit.kind == "at_least" else "ceiling"
    return f"a {word} of {lines.shortest(limit.value)}"


def _count(n: int | None) -> str:
    return "?" if n is None else f"{n:,}"


def _share(value: float) -> str:
    return "under 1%" if 0 < value < 0.01 else f"{display.number(100 * value, 0)}%"


def plan_record(plan: Plan) -> dict[str, Any]:
    """A plan as ``--json`` prints it."""
    return {
        "exit_code": plan.exit_code,
        "joint_power": plan.joint,
        "power_needed_of_each": plan.each,
        "samples_for_95_percent": plan.samples,
        "usd_for_95_percent": plan.usd,
        "checks": [_forecast_record(one) for one in plan.forecasts],
    }


def _forecast_record(one: Forecast) -> dict[str, Any]:
    subject = one.subject
    return {
        "check": subject.check.id,
        "severity": str(subject.check.severity),
        "benchmark": subject.benchmark,
        "kind": subject.limit.kind,
        "limit": subject.limit.value,
        "samples": subject.n,
        "reachable": one.reachable,
        "power": one.power,
        "least_samples": one.least,
        "samples_for_80_percent": one.needed[0],
        "samples_for_its_share_of_95_percent": one.needed[1],
        "note": subject.problem or one.note,
    }


def print_rates(rates: Rates, least_pass: float) -> None:
    """What the gate does with a release without a change."""
    out = output.console()
    shares = ", ".join(f"{state.value} {_share(share)}" for state, share in rates.shares.items() if share)
    out.print(f"\nWithout a change, in {rates.draws:,} draws: {shares or 'nothing that could be drawn'}", style="bold")
    if rates.defective:
        out.print(f"More failures than the {100 * rates.alpha:g}% that the policy allows: a defect.", style="bold red")
    elif rates.shares[State.PASS] < least_pass:
        out.print(
            f"Fewer passes than {_share(least_pass)}: 'vevals gate plan' says how many samples it needs.",
            style="yellow",
        )
    for name in rates.skipped:
        out.print(output.cell(f"took no part: {name}"))


def print_ledger(rows: Sequence[VerdictRow], problems: Sequence[str]) -> None:
    """The ledger, a line a verdict."""
    made = output.table("verdict", "when", "state", "try", "policy", "candidate", "against", right=("try",))
    for row in rows:
        state = output.cell(row.state)
        policy, candidate = (output.cell(str(row.body[key]["name"])) for key in ("policy", "candidate"))
        against = output.cell(str((row.body["baseline"] or {"name": ""})["name"]).removeprefix("baseline:"))
        made.add_row(row.digest[:8], moment(row.at), state, str(row.attempt), policy, candidate, against)
    out = output.console()
    out.print(made if rows else "no verdict was reached in this store yet")
    for text in problems:
        out.print(output.cell(text), style="bold red")


def ledger_record(row: VerdictRow) -> dict[str, Any]:
    """A verdict of the ledger as ``--json`` prints it."""
    return {
        "digest": row.digest,
        "prev": row.prev,
        "key": row.key,
        "attempt": row.attempt,
        "state": row.state,
        "policy": row.body["policy"]["name"],
        "candidate": row.body["candidate"]["name"],
        "at": moment(row.at),
    }


def print_baselines(rows: Sequence[BaselineRow]) -> None:
    """The log of a baseline."""
    made = output.table("when", "set", "runs", "by", "reason", right=("runs",))
    for row in rows:
        made.add_row(
            moment(row.at), row.set_digest[:12], str(len(row.runs)), output.cell(row.who), output.cell(row.reason)
        )
    output.console().print(made)


def baseline_record(row: BaselineRow) -> dict[str, Any]:
    """An entry of a baseline's log as ``--json`` prints it."""
    return {
        "name": row.name,
        "set_digest": row.set_digest,
        "runs": list(row.runs),
        "who": row.who,
        "reason": row.reason,
        "at": moment(row.at),
    }


def print_moved(found: Sequence[Moved]) -> None:
    """Verdicts that rest on runs which were scored anew: what they are now."""
    out = output.console()
    if found:
        out.print("\nVerdicts that rest on these runs", style="bold")
    for one in found:
        now = one.problem or ("the same" if one.state == one.old.state else f"now {one.state}")
        text = f"verdict {one.old.digest[:12]} ({one.old.body['policy']['name']}): was {one.old.state}, {now}"
        out.print(output.cell(text), style="" if one.state == one.old.state else "bold yellow")


def moved_record(one: Moved) -> dict[str, Any]:
    """A verdict and what it is now, as ``--json`` prints it."""
    return {"verdict": one.old.digest, "was": one.old.state, "is": one.state or None, "problem": one.problem}


def moment(at: int) -> str:
    """``2026-01-31 14:05`` (UTC) of microseconds since 1970."""
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
