"""How requests are dealt out to several workers: groups that share a prompt's start stay together. Pure: no torch.

Costs are in characters to be read. They need only be right relative to each other: the largest bundles go first, and
whoever is free takes the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from vevals.types import Request, RequestKind

Bundle = tuple[int, ...]
Range = tuple[int, int]
"""Begin and end of a stretch of jobs in the order of their texts."""

TOKEN = 4
"""Characters to a token."""
NEW_TOKEN = 4 * TOKEN
"""What one new token may cost: decoding is a few times slower than reading, but few answers use all they may."""
ROWS = {"cpu": 32, "cuda": 256}
"""Answers that a worker writes side by side; with fewer, a step takes as long."""
TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens that keep a worker's forward passes full."""
GROUP_SHARE = 4
"""A group is cut only if it is more than this part (1/4) of a worker's mean load."""
PREFIX_SHARE = 4
"""No bundle is planned smaller than this many times the start that all jobs share and every worker reads anew."""
ROUNDS = 4
"""Bundles halve in size this often: large ones keep batches full, small ones at the end keep workers level."""
PIECES = 32
"""Into so many pieces of neighbours at least a worker's mean load is cut before bundles are filled with them."""
TRIFLE = 64
"""A common start of less than this part (1/64) of a piece keeps nobody together: to read it again costs nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request to a planner: ``texts`` are read in order, and what other jobs begin with too is read once.

    ``rest`` is the cost of all that is never shared.
    """

    texts: tuple[str, ...]
    rest: float = 0.0

    @property
    def cost(self) -> float:
        """What it costs by itself; never nothing."""
        return 1 + sum(map(len, self.texts)) + self.rest


def job(request: Request, kind: RequestKind) -> Job:
    """What ``request`` costs when it is asked in the way of ``kind``; classifiers and whole texts share nothing."""
    ordered = sorted(request.messages, key=lambda message: message.role != "system")
    texts = request.prompts or tuple(message.content for message in ordered)
    if kind == "generate":
        return Job(texts, NEW_TOKEN * max(0, request.options.max_tokens))
    choices = sum(map(len, request.choices))
    if kind != "loglikelihood":
        return Job((), sum(map(len, texts)))
    if request.prompts:
        return Job(texts[:1], sum(map(len, texts[1:])) + choices)
    return Job(texts, choices)


def least_cost(jobs: Sequence[Job], kind: RequestKind, device: str) -> float:
    """The cost of a bundle that fills the batches of a worker on ``device`` (``cpu`` or ``cuda``)."""
    if kind != "generate":
        return TOKEN * TOKENS[device]
    return ROWS[device] * sum(one.cost for one in jobs) / max(1, len(jobs))


def bundles(jobs: Sequence[Job], workers: int, least: float = 0.0) -> list[Bundle]:
    """Indices of ``jobs`` in bundles, costliest first; every index occurs once, in ascending order within its bundle.

    Jobs that share a start (no trifle) stay in one bundle unless together they cost more than 1/4 of the mean load of
    the ``workers``. Bundles are no smaller than ``least`` unless that would leave a worker without one.
    """
    if not jobs:
        return []
    stretch = _Stretch.of(jobs)
    rooms = _rooms(stretch, workers, least)
    mean = stretch.total / workers
    piece = min(min(rooms) / 4, mean / PIECES)
    groups = stretch.groups(mean / GROUP_SHARE, piece / TRIFLE)
    filled = _filled(stretch, _joined(stretch, groups, piece), rooms, piece)
    found = [(stretch.costs(parts), sorted(stretch.indices(parts))) for parts in filled if parts]
    return [tuple(indices) for _, indices in sorted(found, key=lambda one: (-one[0], one[1]))]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Jobs in the order of their texts: those that share a start are neighbours, and form a tree of ranges.

    ``shared[i]``: how many characters job i begins with like job i - 1, beyond the start that all jobs have in common
    (``everywhere``), which costs nobody anything here. ``sums`` and ``saved`` are running sums of costs and ``shared``.
    """

    order: Sequence[int]
    shared: Sequence[int]
    sums: Sequence[float]
    saved: Sequence[int]
    everywhere: int

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> _Stretch:
        order = sorted(range(len(jobs)), key=lambda index: (jobs[index].texts, index))
        starts = [_common(jobs[one].texts, jobs[other].texts) for one, other in pairwise(order)]
        everywhere = min(starts, default=0)
        shared = [0, *(start - everywhere for start in starts)]
        sums = accumulate((jobs[index].cost - everywhere for index in order), initial=0.0)
        return cls(order, shared, list(sums), list(accumulate(shared, initial=0)), everywhere)

    @property
    def total(self) -> float:
        return self.cost((0, len(self.order)))

    def cost(self, part: Range) -> float:
        """Cost of a range by itself: each start that its jobs share counts once."""
        begin, end = part
        return self.sums[end] - self.sums[begin] - (self.saved[end] - self.saved[begin + 1])

    def costs(self, parts: Sequence[Range]) -> float:
        return sum(map(self.cost, parts))

    def indices(self, parts: Sequence[Range]) -> list[int]:
        return [self.order[place] for begin, end in parts for place in range(begin, end)]

    def groups(self, limit: float, trifle: float) -> list[Range]:
        """The largest ranges of jobs with a common start longer than ``trifle`` that cost no more than ``limit``."""
        ends = [len(self.order) - 1 - place for place in reversed(_last_smaller(self.shared[:0:-1]))]
        begins = [place + 1 for place in _last_smaller(self.shared[1:])]
        nodes = zip(begins, ends, strict=True)
        cuts = [at for at, node in enumerate(nodes, 1) if self.shared[at] <= trifle or self.cost(node) > limit]
        return list(pairwise([0, *cuts, len(self.order)]))


def _last_smaller(values: Sequence[int]) -> list[int]:
    """For each value the place of the last smaller one before it, -1 without one."""
    found: list[int] = []
    for place, value in enumerate(values):
        before = place - 1
        while before >= 0 and values[before] >= value:
            before = found[before]
        found.append(before)
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many characters two sequences of texts begin with alike."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            return length + _common_start(left, right)
        length += len(left)
    return length


def _common_start(one: str, other: str) -> int:
    """Length of the common start of two texts, by halving: comparing slices is quicker than comparing characters."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _rooms(stretch: _Stretch, workers: int, least: float) -> list[float]:
    """What each bundle may cost: a half of the mean load for every worker, then a quarter, ..., the last size twice."""
    mean, rounds = stretch.total / workers, 0
    least = max(least, PREFIX_SHARE * stretch.everywhere)
    while rounds < ROUNDS and mean / 2 ** (rounds + 1) >= least:
        rounds += 1
    sizes = [mean / 2**round for round in range(1, rounds + 1)]
    return [size for size in [*sizes, mean / 2**rounds] for _ in range(workers)]


def _joined(stretch: _Stretch, groups: Sequence[Range], limit: float) -> list[Range]:
    """``groups`` with neighbours put together as long as they cost no more than ``limit``."""
    found: list[Range] = []
    for begin, end in groups:
        if found and stretch.cost((found[-1][0], end)) <= limit:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def _filled(stretch: _Stretch, parts: Sequence[Range], rooms: Sequence[float], small: float) -> list[list[Range]]:
    """``parts`` dealt out: first the large ones, each to where most room is; then the small ones, side by side."""
    left, filled = list(rooms), [list[Range]() for _ in rooms]
    large = [part for part in parts if stretch.cost(part) > small]
    rest = [part for part in parts if stretch.cost(part) <= small]
    place = 0
    for part in [*sorted(large, key=stretch.cost, reverse=True), *rest]:
        cost = stretch.cost(part)
        if cost > small or left[place] < cost / 2:
            place = max(range(len(left)), key=left.__getitem__)
        filled[place].append(part)
        left[place] -= cost
    return filled
