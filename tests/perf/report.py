"""What is shown of a measurement: two tables on the terminal, the same as Markdown, and everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from perf import driver, targets
from perf.bounds import Encode
from perf.driver import DEFAULT, Measured, Runs
from perf.targets import BEST, Target

SPEED = ("workload", "target", "measured", "", "vevals s", "peer s (setting)", "default", "of floor", "floor")
WORK = ("workload", "tokens: vevals", "peer", "necessary", "head rows: vevals", "peer", "necessary")
MORE = ("padding: vevals", "peer", "calls: vevals", "peer", "MB: vevals", "peer")
NONE = "-"
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured; ``ratio`` is None where there was nothing to divide by."""

    target: Target | None
    ratio: float | None
    over_floor: float | None

    @property
    def met(self) -> bool | None:
        """Whether the ratio is reached; None where it was not measured or nothing was asked."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio >= self.target.least

    @property
    def floor_met(self) -> bool | None:
        """Whether the time is within 1.25 times the floor."""
        return None if self.over_floor is None else self.over_floor <= targets.FLOOR


def judged(one: Measured) -> list[Judged]:
    """A row for each target of a workload; one without target where there is none."""
    if not one.holds or not one.workload.speed:
        return [Judged(None, None, None)]
    found: list[Target | None] = [*targets.of(one.workload.name)] or [None]
    return [Judged(target, _ratio(one, target), over_floor(one)) for target in found]


def over_floor(one: Measured) -> float | None:
    """How many times as long as the floor loop vevals took."""
    own, floor = one.runs.get("vevals"), one.runs.get("floor")
    if own is None or floor is None or not own.seconds or not floor.seconds:
        return None
    return median(own.seconds) / median(floor.seconds)


def peer_of(one: Measured) -> Runs | None:
    """The runs of the peer, if it took part."""
    found = next((runs for name, runs in one.runs.items() if name in driver.SETTINGS), None)
    return found if found is not None and found.seconds else None


def _ratio(one: Measured, target: Target | None) -> float | None:
    own, peer = one.runs.get("vevals"), peer_of(one)
    if own is None or peer is None or not own.seconds:
        return None
    if target is not None and target.memory:
        ours, theirs = own.working_bytes, peer.working_bytes
        return None if not ours or theirs is None else theirs / ours
    mine = median(own.seconds)
    if target is None or target.setting in (BEST, peer.setting):
        return median(peer.seconds) / mine
    return one.also[target.setting] / mine if target.setting in one.also else None


def default_ratio(one: Measured) -> str:
    """Ratio to the peer's default: measured where that is its best, else by the sweep; ``>`` where it was stopped."""
    peer, best = peer_of(one), _ratio(one, None)
    if peer is None or best is None or peer.setting is None:
        return NONE
    if peer.setting == DEFAULT:
        return f"{best:.2f}x"
    found, base = one.sweep.get(DEFAULT), one.sweep.get(peer.setting)
    if isinstance(found, float) and isinstance(base, float):
        return f"{best * found / base:.2f}x"
    return f"> {best:.2f}x"


def record(everything: Sequence[Measured], head: dict[str, Any]) -> dict[str, Any]:
    """All of it, JSON-able."""
    rows = []
    for one in everything:
        rows.append({**one.record(), "verdicts": [_verdict(row) for row in judged(one)]})
    return {"schema": 1, **head, "workloads": rows}


def _verdict(row: Judged) -> dict[str, Any]:
    target = asdict(row.target) if row.target else None
    return {"target": target, "ratio": row.ratio, "met": row.met, "over_floor": row.over_floor}


def tables(everything: Sequence[Measured], encode: dict[str, Encode], fills: dict[str, list[int]]) -> list[list[Any]]:
    """Speed, work and parity, each a list of rows with the head first."""
    speed = [list(SPEED)] + [row for one in everything for row in _speed(one)]
    work = [[*WORK, *MORE]] + [_work(one, encode[one.workload.part], fills[one.workload.part]) for one in everything]
    parity = [["workload", "compared with", "scores", "largest", "above expected", "flips", "right", "notes"]]
    return [speed, work, parity + [_parity(one) for one in everything]]


def _speed(one: Measured) -> list[list[str]]:
    name = one.workload.name
    if not one.holds:
        return [[name, f"no speed: {one.problem}", *[""] * (len(SPEED) - 2)]]
    if not one.workload.speed:
        return [[name, "the scores only", *[""] * (len(SPEED) - 2)]]
    own, peer, floor = one.runs["vevals"], peer_of(one), one.runs.get("floor")
    rows = []
    for number, row in enumerate(judged(one)):
        shown = [name if not number else "", _asked(row.target), _times(row.ratio), _met(row.met)]
        if number:
            rows.append([*shown, *[""] * (len(SPEED) - len(shown))])
            continue
        timed = f"{median(peer.seconds):.2f} ({peer.setting}, {len(peer.seconds)} runs)" if peer else NONE
        percent = f"{100 / row.over_floor:.0f} % {_met(row.floor_met)}" if row.over_floor else NONE
        base = f"{median(floor.seconds):.2f}" if floor and floor.seconds else NONE
        rows.append([*shown, f"{median(own.seconds):.2f}", timed, default_ratio(one), percent, base])
    return rows


def _asked(target: Target | None) -> str:
    if target is None:
        return NONE
    what = "memory " if target.memory else "" if target.setting == BEST else f"batch {target.setting}: "
    return f"{what}>= {target.least:g}x"


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.2f}x"


def _met(met: bool | None) -> str:
    return {True: "pass", False: "MISS", None: ""}[met]


def _work(one: Measured, encode: Encode, fills: Sequence[int]) -> list[str]:
    own, peer = one.runs.get("vevals"), peer_of(one)
    if not one.holds or own is None:
        return [one.workload.name, *[""] * (len(WORK) + len(MORE) - 1)]
    both = [own, peer]
    tokens, heads = ([_count(runs, key) for runs in both] for key in ("tokens", "head_rows"))
    pads = [_share(runs, one, encode, fills) for runs in both]
    calls = [_count(runs, "calls") for runs in both]
    memory = [_megabytes(runs) for runs in both]
    least = [str(one.bound.tokens), str(one.bound.head_rows)] if one.bound else [NONE, NONE]
    return [one.workload.name, *tokens, least[0], *heads, least[1], *pads, *calls, *memory]


def _count(runs: Runs | None, key: str) -> str:
    return str(runs.counts[key]) if runs and key in runs.counts else NONE


def _share(runs: Runs | None, one: Measured, encode: Encode, fills: Sequence[int]) -> str:
    share = driver.padding(runs, one.workload, encode, fills) if runs else None
    return NONE if share is None else f"{share:.1%}"


def _megabytes(runs: Runs | None) -> str:
    used = runs.working_bytes if runs else None
    return NONE if used is None else f"{used / MB:.0f}"


def _parity(one: Measured) -> list[str]:
    name, verdict = one.workload.name, one.verdict
    if verdict is None:
        return [name, one.problem or "not compared", *[""] * 6]
    texts = one.workload.kind == "generate"
    size = f"{verdict.texts_unequal} unequal" if texts else f"{verdict.largest:.1e}"
    flips = f"{verdict.flips} + {verdict.greedy_flips} greedy"
    right = NONE if texts or one.workload.kind != "loglikelihood" else " / ".join(map(str, verdict.right))
    notes = "; ".join([*verdict.faults[:2], *verdict.notes[:2], *one.skipped])
    above = NONE if texts else str(verdict.above_expected)
    return [name, one.against, str(verdict.compared), size, above, NONE if texts else flips, right, notes]


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns. A row with few cells filled may run over."""
    full = [row for row in rows if sum(map(bool, row)) > 2] or rows
    widths = [max(len(row[place]) for row in full) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def markdown(found: dict[str, Any], shown: Sequence[Sequence[Sequence[str]]]) -> str:
    """The tables for results/perf, with the machine, the versions and the command above them."""
    machine, versions = found["machine"], found["versions"]
    names = ("python", "torch", "transformers", "lm_eval", "vevals")
    lines = [
        f"Measured {found['when']} at commit {found['commit']}{' with changed files' if found['changed'] else ''}, "
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, {machine['system']}; "
        f"model {found['model']}, float32.",
        "",
        ", ".join(f"{name} {versions[name]}" for name in names if name in versions) + ".",
        "",
        f"    {found['command']}",
        "",
        f"Products of matrices: {found['rates'].get('gemm_gflops', 0):.0f} GFLOP/s; copies: "
        f"{found['rates'].get('copy_gb_s', 0):.1f} GB/s. {busy(found)}",
    ]
    for title, rows in zip(("Speed", "Work", "Parity"), shown, strict=True):
        lines += ["", f"## {title}", "", *_piped(rows)]
    return "\n".join(lines) + "\n"


def _piped(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "/") for cell in row] for row in rows]
    return [
        f"| {' | '.join(cells[0])} |",
        f"|{'---|' * len(cells[0])}",
        *(f"| {' | '.join(row)} |" for row in cells[1:]),
    ]


def starts(everything: Sequence[Measured]) -> str:
    """From the start of a process to its first answer."""
    said = [
        f"{name} ({one.workload.part}) {runs.start_s:.1f} s"
        for one in everything
        for name, runs in one.runs.items()
        if runs.start_s is not None
    ]
    return f"From the start of the process to the first answer: {', '.join(said)}." if said else ""


def busy(found: dict[str, Any]) -> str:
    """Whether others used the machine while it was measured."""
    shares = [row["in_use"] for one in found["workloads"] for row in one.get("conditions", [])]
    if not shares:
        return "No speed was measured."
    most = max(shares)
    said = "the machine was idle otherwise" if most < 0.1 else "the machine was NOT idle: times are only a check"
    return f"Before the rounds others used at most {most:.0%} of the cores: {said}."
