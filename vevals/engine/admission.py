"""In which order answers are begun, and which prompts are read together. Pure: no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vevals.engine.trie import Tokens, common
from vevals.engine.writing import Writing

OVERHEAD = 64
"""Tokens whose forward pass costs as much as one more call: a group must save more than that."""


def ordered(rows: Iterable[Writing]) -> list[Writing]:
    """Rows in the order in which they are begun, each with its ``lead`` set.

    Groups with a common lead stay together, and so do equal prompts. First come those that may become longest (too
    little memory shows early; classes of doubling length, so that one long prompt does not sit among short ones), then
    those that may write most (the last rows to end are short ones), then the longest prompts.
    """
    found = list(rows)
    leads = shared({row.prompt.tokens for row in found})
    units: dict[Tokens, list[Writing]] = {}
    for row in found:
        row.lead = leads.get(row.prompt.tokens, 0)
        tokens = row.prompt.tokens
        units.setdefault(tokens[: row.lead] if row.lead else tokens, []).append(row)
    for unit in units.values():
        unit.sort(key=_rank, reverse=True)
    arranged = sorted(units.values(), key=lambda unit: max(map(_size, unit)), reverse=True)
    return [row for unit in arranged for row in unit]


def _size(row: Writing) -> tuple[int, int, int]:
    return row.total.bit_length(), row.prompt.options.max_tokens, len(row.prompt.tokens)


def _rank(row: Writing) -> tuple[tuple[int, int, int], Tokens, int]:
    return _size(row), row.prompt.tokens, -row.index


@dataclass(slots=True)
class _Span:
    """Neighbours in lexical order from ``left`` on that share ``depth`` tokens; ``saved`` is the best found inside."""

    depth: int
    left: int
    saved: int = 0
    groups: list[tuple[int, int, int]] = field(default_factory=list)

    def closed(self, right: int) -> tuple[int, list[tuple[int, int, int]]]:
        """Tokens saved and (left, right, depth) of groups: one for the whole span, or the best ones inside it."""
        whole = (right - self.left - 1) * self.depth - OVERHEAD
        return (whole, [(self.left, right, self.depth)]) if whole > self.saved else (self.saved, self.groups)


def shared(prompts: Iterable[Tokens]) -> dict[Tokens, int]:
    """How many first tokens of each distinct prompt are read once for its group; prompts without a group are absent.

    The groups save the most tokens that one level of groups can. At least one token of each prompt remains.
    """
    lines = sorted(prompts)
    stack = [_Span(0, 0)]
    for right in range(1, len(lines) + 1):
        depth = _depth(lines, right)
        left, saved, groups = right - 1, 0, list[tuple[int, int, int]]()
        while stack[-1].depth > depth:
            span = stack.pop()
            left, (saved, groups) = span.left, span.closed(right)
            if stack[-1].depth >= depth:
                stack[-1].saved += saved
                stack[-1].groups += groups
                saved, groups = 0, []
        if stack[-1].depth < depth:
            stack.append(_Span(depth, left, saved, groups))
    return {lines[place]: depth for left, right, depth in stack[0].groups for place in range(left, right)}


def _depth(lines: Sequence[Tokens], right: int) -> int:
    """How many tokens ``lines[right]`` shares with the one before it, leaving one of each; 0 behind the last."""
    if right == len(lines):
        return 0
    one, other = lines[right - 1], lines[right]
    return min(common(one, other), len(one) - 1, len(other) - 1)
