"""The gate: scores of two tools on the same requests, compared one by one, before any speed is shown.

In float32 a choice's sum of log-probabilities may differ by 1e-4 and 1e-5 more a token through the order of additions
alone (``expected``). What differs by more is counted; what differs by more than 1e-3 (or ``expected``, where a long
text makes it larger) closes the gate. Decisions may differ only where both answers are as good as equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perf.texts import Count
from perf.workloads import Item, Workload

CEILING = 1e-3
TIE = 1e-4
TEXT_TIE = 1e-3
EXCEPTIONS = 0.01

Result = Mapping[str, Any]
Judge = Callable[[Sequence[Item]], Sequence[Result]]
"""Asks the slow tool, whose results have gaps, about some items."""


@dataclass(slots=True)
class Verdict:
    """What was compared and what was found. ``faults`` close the gate, ``notes`` do not."""

    compared: int = 0
    largest: float = 0.0
    above_expected: int = 0
    flips: int = 0
    greedy_flips: int = 0
    texts_unequal: int = 0
    right: list[int] = field(default_factory=lambda: [0, 0])
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the scores are the same for all that matters."""
        return not self.faults and self.compared > 0

    def record(self) -> dict[str, Any]:
        """JSON-able; with ``holds``."""
        return {**asdict(self), "holds": self.holds}


def expected(tokens: int) -> float:
    """By how much (nats) two float32 sums over ``tokens`` tokens may differ."""
    return 1e-4 + 1e-5 * tokens


def compared(
    workload: Workload, ours: Sequence[Result], theirs: Sequence[Result], judge: Judge, count: Count
) -> Verdict:
    """Compare our results with a peer's, item by item."""
    verdict = Verdict()
    if len(ours) != len(theirs):
        verdict.faults.append(f"{len(ours)} results against {len(theirs)}")
        return verdict
    if workload.kind == "generate":
        _texts(verdict, workload.items, ours, theirs, judge)
        return verdict
    for item, own, other in zip(workload.items, ours, theirs, strict=True):
        slacks = [expected(count(text)) for text in item.choices or (item.context,)]
        _scores(verdict, item, (own, other), slacks)
    if not verdict.faults:
        _greedy(verdict, workload.items, ours, theirs, judge)
    return verdict


def _scores(verdict: Verdict, item: Item, both: tuple[Result, Result], slacks: Sequence[float]) -> None:
    ours, theirs = (one["logprobs"] for one in both)
    if not len(ours) == len(theirs) == len(slacks):
        verdict.faults.append(f"{item.id}: {len(ours)} scores against {len(theirs)} for {len(slacks)} texts")
        return
    for place, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        slack, difference = slacks[place], abs(mine - yours)
        verdict.compared += 1
        verdict.largest = max(verdict.largest, difference)
        verdict.above_expected += difference > slack
        if not difference <= max(CEILING, slack):
            verdict.faults.append(f"{item.id}, choice {place}: {mine:.6f} against {yours:.6f}")
    if item.choices:
        _decision(verdict, item, (ours, theirs), max(slacks))


def _decision(verdict: Verdict, item: Item, both: tuple[Sequence[float], Sequence[float]], slack: float) -> None:
    best = [max(range(len(scores)), key=scores.__getitem__) for scores in both]
    for side, place in enumerate(best):
        verdict.right[side] += place == item.target
    if best[0] != best[1]:
        verdict.flips += 1
        if abs(both[0][best[0]] - both[0][best[1]]) > 2 * slack:
            verdict.faults.append(f"{item.id}: choice {best[0]} against {best[1]}, and no tie")


def _greedy(
    verdict: Verdict, items: Sequence[Item], ours: Sequence[Result], theirs: Sequence[Result], judge: Judge
) -> None:
    """``greedy`` may differ only where the two best tokens are as good as equal."""
    unequal = [
        (item, place)
        for item, own, other in zip(items, ours, theirs, strict=True)
        for place, (mine, yours) in enumerate(zip(own["greedy"], other["greedy"], strict=bool(other["greedy"])))
        if mine != yours
    ]
    verdict.greedy_flips = len(unequal)
    judged = judge([item for item, _ in unequal]) if unequal else []
    for (item, place), result in zip(unequal, judged, strict=True):
        if result["gaps"][place] > TIE:
            verdict.faults.append(f"{item.id}, choice {place}: greedy differs, and the next token is no tie")


def _texts(
    verdict: Verdict, items: Sequence[Item], ours: Sequence[Result], theirs: Sequence[Result], judge: Judge
) -> None:
    """Texts are equal, or each tool that left the path of one prompt at a time did so where two tokens tie."""
    verdict.compared = len(items)
    unequal = [place for place in range(len(items)) if ours[place]["text"] != theirs[place]["text"]]
    verdict.texts_unequal = len(unequal)
    judged = judge([items[place] for place in unequal]) if unequal else []
    left = 0
    for place, truth in zip(unequal, judged, strict=True):
        for name, text in (("ours", ours[place]["text"]), ("the peer's", theirs[place]["text"])):
            gap = parting(text, truth)
            left += name == "ours" and gap is not None
            said = f"{items[place].id}: {name} leaves the text of one prompt at a time"
            if gap is not None and gap <= TEXT_TIE:
                verdict.notes.append(f"{said} at a tie ({gap:.1e})")
            elif gap is not None:
                (verdict.faults if name == "ours" else verdict.notes).append(f"{said} at no tie ({gap:.1e})")
    if left > max(1, EXCEPTIONS * len(items)):
        verdict.faults.append(f"{left} of {len(items)} texts of ours leave the text of one prompt at a time")


def parting(text: str, truth: Result) -> float | None:
    """How close the decision was (logits) at which ``text`` leaves the text of one prompt at a time; None: it does not.

    Steps that end within a character are passed over: their text is not yet that of the answer.
    """
    if text == truth["text"]:
        return None
    for step, gap in zip(truth["steps"], truth["gaps"], strict=True):
        if not text.startswith(step.rstrip("\ufffd")):
            return float(gap)
    return float(truth["gaps"][-1])
