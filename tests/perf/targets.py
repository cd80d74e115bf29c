"""What the engine must show, as data: SmolLM2-135M in float32 on two cores, the peer at its best setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOOR = 1.25
"""No workload may take more than this times the floor loop."""
BEST = "best"


@dataclass(frozen=True, slots=True)
class Target:
    """A least ratio to the peer at ``setting`` (``best`` or a batch size) of wall time, or of working memory."""

    workload: str
    least: float
    setting: str = BEST
    memory: bool = False


TARGETS: Sequence[Target] = (
    Target("many-choice", 16.0, "16"),
    Target("many-choice", 10.0),
    Target("banking77-unlisted", 11.0),
    Target("banking77-listed", 60.0),
    Target("one-token-5shot-fixed", 6.0),
    Target("one-token-5shot-differing", 1.3),
    Target("endings-0shot", 1.8),
    Target("endings-10shot", 3.3),
    Target("one-token-0shot", 1.15),
    Target("generation-64", 5.0),
    Target("generation-skewed", 2.5),
    Target("generation-short", 4.0),
    Target("rolling", 1.1),
    Target("rolling", 4.0, memory=True),
    Target("classification", 1.5),
    Target("seq2seq", 2.5),
)


def of(workload: str) -> list[Target]:
    """The targets of one workload; none for those whose speed does not matter."""
    return [target for target in TARGETS if target.workload == workload]
