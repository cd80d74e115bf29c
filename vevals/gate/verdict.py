"""What a gate says: a verdict with its check instances, as values and as JSON (``vevals.verdict/v1``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from vevals.canonical import sha256_hex

SCHEMA = "vevals.verdict/v1"
DIGITS = 10
UNSIGNED = ("digest", "prev", "times", "actor", "provenance")
"""Keys of the JSON that its digest leaves out: when, where, by whom, and after what it was written."""


class State(StrEnum):
    """How a check instance or a whole gate came out."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class Severity(StrEnum):
    """Whether a check decides (block), is listed (warn) or only reported (info)."""

    block = "block"
    warn = "warn"
    info = "info"


EXIT_CODES = {State.PASS: 0, State.FAIL: 1, State.INCONCLUSIVE: 3, State.INVALID: 4}


@dataclass(frozen=True, slots=True)
class Applied:
    """A waiver that changed the outcome of an instance: the limit was ``down_to`` instead."""

    down_to: float
    reason: str
    owner: str
    issue: str
    expires: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One check on one thing. Numbers are in the metric's own units; a comparison's are candidate minus baseline.

    ``low`` and ``high`` are one-sided bounds at ``1 - alpha``. ``relative``: ``limit`` is a margin in shares of the
    baseline, and the numbers are candidate minus (1 - margin) x baseline. ``share``: the metric runs from 0 to 1.
    ``state`` is what was found; with a ``waiver`` it counts
    as PASS. ``name`` = check id and what it was applied to; ``line`` = the check's line in the policy.
    """

    check: str
    name: str
    kind: str
    severity: Severity
    state: State
    benchmark: str = ""
    metric: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    relative: bool = False
    share: bool = True
    observed: float | None = None
    n: int = 0
    n_eff: float = 0.0
    clusters: int | None = None
    repeats: int = 0
    fixed: int | None = None
    broke: int | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    baseline_outcomes: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    alpha: float = 0.05
    p_pass: float | None = None
    p_fail: float | None = None
    holm_p: float | None = None
    needed: int | None = None
    reason: str = ""
    waiver: Applied | None = None
    line: int = 0

    @property
    def counted(self) -> State:
        """The state as it counts in the verdict."""
        return State.PASS if self.waiver else self.state


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision. ``policy``: name, sha256, path and text. ``candidate`` and ``baseline``: name, digest and runs.

    ``reasons``: why the policy as a whole is INVALID, or what a reader should know first. ``exit_state`` differs from
    ``state`` where the policy says that INCONCLUSIVE only warns. ``context``: what else it depends on (seed, prices,
    suites, ledger). ``times``: the day that waivers and ages were judged by. ``provenance``: versions, git, CI.
    """

    state: State
    exit_state: State
    policy: Mapping[str, Any]
    candidate: Mapping[str, Any]
    baseline: Mapping[str, Any] | None
    instances: tuple[Instance, ...]
    reasons: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    attempt: int = 1
    context: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    actor: str = ""
    prev: str = ""

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 4 invalid."""
        return EXIT_CODES[self.exit_state]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the JSON without times, actor and chain: equal evidence and policy, equal digest."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values, floats at 10 significant digits; without ``digest``."""
        body = asdict(self)
        body["schema"] = SCHEMA
        body["exit_code"] = self.exit_code
        return dict(_plain(body))


def digest_of(body: Mapping[str, Any]) -> str:
    """The digest that a verdict's JSON must carry; where the policy's file lay does not matter."""
    kept = {key: value for key, value in body.items() if key not in UNSIGNED}
    policy = {key: value for key, value in body["policy"].items() if key != "path"}
    return sha256_hex({**kept, "policy": policy})


def from_json(body: Mapping[str, Any]) -> Verdict:
    """A verdict from its JSON. KeyError, TypeError or ValueError where it is none."""
    instances = tuple(_instance(item) for item in body["instances"])
    return Verdict(
        state=State(body["state"]),
        exit_state=State(body["exit_state"]),
        policy=body["policy"],
        candidate=body["candidate"],
        baseline=body["baseline"],
        instances=instances,
        reasons=tuple(body["reasons"]),
        listed=tuple(body["listed"]),
        attempt=body["attempt"],
        context=body["context"],
        times=body["times"],
        provenance=body["provenance"],
        actor=body["actor"],
        prev=body["prev"],
    )


def _instance(item: Mapping[str, Any]) -> Instance:
    waiver = Applied(**item["waiver"]) if item["waiver"] else None
    enums = {"severity": Severity(item["severity"]), "state": State(item["state"]), "waiver": waiver}
    return Instance(**{**item, **enums})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
