"""The measurement of one workload: sweep of the peer, rounds in turn, the gate, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perf import machine, parity
from perf.bounds import Bound, Encode
from perf.children import Absent, Crew, Failed, Slow
from perf.models import Folder
from perf.plans import floor_plan, necessary
from perf.workloads import Item, Part, Workload, lines

PEERS: Mapping[Part, str] = {"causal": "lm-eval", "seq2seq": "lm-eval", "classifier": "pipeline"}
SETTINGS: Mapping[str, Sequence[str]] = {
    "lm-eval": ("16", "64", "8", "1", "auto"),
    "pipeline": ("16", "64", "8", "1"),
}
DEFAULT = "1"
CAP, CAP_LEAST_S = 1.2, 2.0
CALL_FACTOR = 10
"""A call of so many times the tokens that the best setting reads within the limit is not tried."""
PEER_BUDGET_S = 60.0
WARM_TOKENS = 8
PLAIN_ITEMS, PLAIN_CHOICES = 6, 8


@dataclass(frozen=True, slots=True)
class Setup:
    """What holds for all workloads of one model. ``spoil``: the workload whose first score is made wrong."""

    crew: Crew
    folder: Folder
    encode: Encode
    tools: frozenset[str]
    rounds: int
    say: Callable[[str], None]
    spoil: str = ""

    def count(self, text: str) -> int:
        return len(self.encode(text, False))


@dataclass(slots=True)
class Runs:
    """All runs of one tool: seconds, and counters and memory of the first one.

    ``start_s``: from nothing to the first answer, imports and loading included; None where it was at work already.
    """

    setting: str | None = None
    seconds: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    start_s: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def working_bytes(self) -> int | None:
        """The most memory above that of the loaded model."""
        peak, loaded = self.memory.get("peak"), self.memory.get("loaded")
        return None if peak is None or loaded is None else max(0, peak - loaded)


@dataclass(slots=True)
class Measured:
    """A workload and what was found. ``problem`` says why there is no speed; ``skipped`` which tools were not there."""

    workload: Workload
    bound: Bound | None = None
    runs: dict[str, Runs] = field(default_factory=dict)
    sweep: dict[str, float | str] = field(default_factory=dict)
    also: dict[str, float] = field(default_factory=dict)
    verdict: parity.Verdict | None = None
    against: str = ""
    problem: str = ""
    skipped: list[str] = field(default_factory=list)
    conditions: list[dict[str, float]] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problem and self.verdict is not None and self.verdict.holds

    def record(self) -> dict[str, Any]:
        """JSON-able. Without the gate there are no times, and no results at all."""
        workload = self.workload
        found: dict[str, Any] = {
            "name": workload.name,
            "title": workload.title,
            "kind": workload.kind,
            "requests": len(workload.items),
            "requests_sha256": workload.digest,
            "necessary": asdict(self.bound) if self.bound else None,
            "compared_with": self.against,
            "parity": self.verdict.record() if self.verdict else None,
            "problem": self.problem,
            "skipped": self.skipped,
        }
        if self.holds:
            found["sweep"], found["also"], found["conditions"] = self.sweep, self.also, self.conditions
            found["sweep_requests"] = len(workload.share)
            found["tools"] = {name: _shown(runs) for name, runs in self.runs.items()}
        return found


def _shown(runs: Runs) -> dict[str, Any]:
    kept = {key: value for key, value in asdict(runs).items() if key != "results"}
    return {**kept, "working_bytes": runs.working_bytes}


def measured(setup: Setup, workload: Workload, extra_settings: Sequence[str] = ()) -> Measured:
    """Everything about one workload. A tool that is not installed is left out; one that fails is a problem."""
    found = Measured(workload)
    tools = _tools(setup, workload)
    try:
        found.bound = necessary(workload, setup.folder, setup.encode)
        for tool in list(tools):
            try:
                _introduced(setup, found, tool)
            except Absent as error:
                tools.remove(tool)
                found.skipped.append(str(error))
        peer = next((tool for tool in tools if tool in SETTINGS), None)
        if peer is not None:
            _swept(setup, found, peer)
        _rounds(setup, found, tools)
        if found.holds and peer is not None:
            _others(setup, found, peer, extra_settings)
    except Failed as error:
        found.problem = str(error)
    return found


def _tools(setup: Setup, workload: Workload) -> list[str]:
    wanted = ["vevals", PEERS[workload.part], *(["floor"] if workload.speed else [])]
    return [tool for tool in wanted if tool in setup.tools]


def _introduced(setup: Setup, found: Measured, tool: str) -> None:
    """Load, and discarded runs of one request and (ours; the peer's is the sweep) of the share."""
    workload, started, fresh = found.workload, time.perf_counter(), not setup.crew.has(tool)
    runs = Runs(versions=setup.crew.of(tool).hello["versions"])
    if tool != "floor":
        few = tuple(replace(item, max_tokens=min(item.max_tokens, WARM_TOKENS)) for item in workload.share)
        order = {"do": "first", "kind": workload.kind, "setting": DEFAULT}
        setup.crew.ask(tool, order, lines(few[:1]))
        runs.start_s = time.perf_counter() - started if fresh else None
        if tool == "vevals":
            setup.crew.ask(tool, order, lines(few))
    found.runs[tool] = runs


def _swept(setup: Setup, found: Measured, peer: str) -> None:
    """One run over the share for each setting. One that is clearly slower than the best so far is stopped."""
    if not found.workload.speed:
        found.runs[peer].setting = SETTINGS[peer][0]
        return
    times: dict[str, float] = {}
    limits: dict[str, float] = {}
    for setting in SETTINGS[peer]:
        try:
            answer = _run(setup, found.workload, peer, items=found.workload.share, setting=setting, **limits)
        except (Slow, Failed) as error:
            found.sweep[setting] = str(error).removeprefix(f"{peer}: ")
            setup.say(f"  {peer} at {setting}: {found.sweep[setting]}")
            continue
        times[setting] = found.sweep[setting] = answer["seconds"]
        setup.say(f"  {peer} at {setting}: {answer['seconds']:.1f} s")
        if times[setting] == min(times.values()):
            limits = _limits(answer)
    if not times:
        raise Failed(f"{peer} has no setting that works: {found.sweep[DEFAULT]}")
    found.runs[peer].setting = min(times, key=times.__getitem__)


def _limits(answer: Mapping[str, Any]) -> dict[str, float]:
    """What the settings after the best one so far may take: seconds, and tokens in one call."""
    limit = max(answer["seconds"] * CAP, answer["seconds"] + CAP_LEAST_S)
    rate = answer["counts"]["tokens"] / answer["seconds"]
    return {"limit_s": limit, "limit_tokens": CALL_FACTOR * rate * limit}


def _rounds(setup: Setup, found: Measured, tools: Sequence[str]) -> None:
    """A, B, A, B: every tool once a round, the order turned round each time; the gate stands behind the first round."""
    rounds = setup.rounds if found.workload.speed else 1
    for number in range(rounds):
        found.conditions.append(machine.now())
        for tool in tools if number % 2 == 0 else list(reversed(tools)):
            runs = found.runs[tool]
            if tool in SETTINGS and sum(runs.seconds) > PEER_BUDGET_S:
                continue
            _once(setup, found, tool, runs)
        if number == 0:
            found.verdict = _gate(setup, found, tools)
            if not found.verdict.holds:
                found.problem = "; ".join(found.verdict.faults[:3]) or "nothing was compared"
                return
    setup.say("  " + ", ".join(f"{tool} {min(found.runs[tool].seconds):.2f} s" for tool in tools))


def _once(setup: Setup, found: Measured, tool: str, runs: Runs) -> None:
    extra = None
    if tool == "floor":
        extra = floor_plan(found.workload, setup.folder, setup.encode, _lengths(setup, found))
        if not runs.seconds:
            _run(setup, found.workload, tool, extra=extra)
    answer = _run(setup, found.workload, tool, setting=runs.setting, extra=extra)
    runs.seconds.append(answer["seconds"])
    if len(runs.seconds) == 1:
        runs.counts, runs.memory, runs.results = answer["counts"], answer["memory"], answer["results"]
        if tool == "vevals" and setup.spoil == found.workload.name:
            _spoil(runs.results)
        if tool != "floor" and found.workload.kind == "generate":
            found.bound = necessary(found.workload, setup.folder, setup.encode, _lengths(setup, found))


def _run(setup: Setup, workload: Workload, tool: str, **order: Any) -> dict[str, Any]:
    items = () if tool == "floor" else order.pop("items", workload.items)
    return setup.crew.ask(tool, {"do": "run", "kind": workload.kind, **order}, lines(items))


def _lengths(setup: Setup, found: Measured) -> list[int]:
    """New tokens of each answer: as vevals counts them, else by reading the peer's texts again."""
    for runs in found.runs.values():
        if runs.results:
            return [one.get("new") or setup.count(one.get("text", "")) + 1 for one in runs.results]
    return [item.max_tokens for item in found.workload.items]


def _spoil(results: list[dict[str, Any]]) -> None:
    """Make the first result wrong, as the gate's own test."""
    if "text" in results[0]:
        results[0]["text"] += " and more"
    else:
        results[0]["logprobs"][0] += 0.01


def _gate(setup: Setup, found: Measured, tools: Sequence[str]) -> parity.Verdict:
    """Our results against the peer's; where there is no peer, some of them against the slow and obvious way."""
    workload = found.workload
    if "vevals" not in tools:
        return parity.Verdict(faults=["vevals was not run; there is nothing to compare"])
    ours = found.runs["vevals"].results

    def judge(items: Sequence[Item]) -> Sequence[parity.Result]:
        order = {"do": "run", "kind": workload.kind}
        results: list[dict[str, Any]] = setup.crew.ask("plain", order, lines(items))["results"]
        return results

    peer = next((tool for tool in tools if tool in SETTINGS), None)
    if peer is not None:
        found.against = peer
        return parity.compared(workload, ours, found.runs[peer].results, judge, setup.count)
    found.against = "one request at a time"
    few = replace(workload, items=tuple(_less(item) for item in workload.items[:PLAIN_ITEMS]))
    cut = [{**one, **_first(one)} for one in ours[:PLAIN_ITEMS]]
    return parity.compared(few, cut, judge(few.items), judge, setup.count)


def _less(item: Item) -> Item:
    return replace(item, choices=item.choices[:PLAIN_CHOICES])


def _first(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key][:PLAIN_CHOICES] for key in ("logprobs", "greedy") if key in result}


def _others(setup: Setup, found: Measured, peer: str, settings: Sequence[str]) -> None:
    """One whole run at each setting that a target names, where it is not the best one."""
    for setting in settings:
        if setting != found.runs[peer].setting:
            found.also[setting] = _run(setup, found.workload, peer, setting=setting)["seconds"]
            setup.say(f"  {peer} at {setting}, all requests: {found.also[setting]:.1f} s")


def padding(runs: Runs, workload: Workload, encode: Encode, fills: Sequence[int]) -> float | None:
    """Share of the tokens read that only filled up rows; those in the texts themselves are not counted."""
    tokens, fill = runs.counts.get("tokens", 0), runs.counts.get("fills", 0)
    if not tokens:
        return None
    own = 0
    if workload.kind == "generate":
        own = sum(encode(item.context, True).count(number) for item in workload.items for number in fills)
    return max(0, fill - own) / tokens
