"""What all extractors need: the reply, whole words, matches from the end, the target of a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vevals.errors import BenchmarkError
from vevals.types import Response, Sample

MOST_STATEMENTS = 1000  # of many "Answer:" only the last ones are read, which keeps hostile replies cheap
_BLOCK = 50_000  # characters searched at once when the last match is wanted
_FEWEST_SPACES = 0.05  # a character
_OVERLAP = 500  # and how far around a block, so that no match is cut
WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20, 0x2212: 0x2D, 0xA0: 0x20}
_CJK = "\u2e80-\u2fdf\u3005-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SPACED = re.compile(rf"[^\W_{_CJK}]")  # a character of a script that puts spaces between words


def reply_of(response: Response) -> str:
    """The reply without what a reasoning model thought before it."""
    _thought, closed, rest = response.text.rpartition("</think>")
    if closed:
        return rest
    return "" if rest.lstrip().startswith("<think>") else rest


def puts_spaces(texts: Sequence[str]) -> bool:
    """Whether these texts, taken together, are of a script that puts spaces between words."""
    return sum(text.count(" ") for text in texts) >= _FEWEST_SPACES * sum(map(len, texts))


def find_phrase(text: str, phrase: str, start: int = 0) -> int:
    """Where ``phrase`` occurs as whole words from ``start`` on, or -1. Chinese and Japanese need no word boundary."""
    position = text.find(phrase, start) if phrase else -1
    while position >= 0 and not whole_words(text, position, position + len(phrase)):
        position = text.find(phrase, position + 1)
    return position


def whole_words(text: str, start: int, end: int) -> bool:
    joined_left = start > 0 and _SPACED.match(text, start) and _SPACED.match(text, start - 1)
    joined_right = 0 < end < len(text) and _SPACED.match(text, end - 1) and _SPACED.match(text, end)
    return not (joined_left or joined_right)


def from_the_end(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """All matches, the last first, block by block: the last few cost little in any text."""
    end = len(text)
    while end > 0:
        start = max(0, end - _BLOCK)
        near = pattern.finditer(text, max(0, start - _OVERLAP), end + _OVERLAP)
        yield from reversed([match for match in near if start <= match.start() < end])
        end = start


def lower(text: str) -> str:
    """Lower case of the same length, so that positions hold in both; the rare text where it differs stays as it is."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text


def target_itself(sample: Sample, **_: Any) -> str:
    return first_target(sample)


def first_target(sample: Sample) -> str:
    if not sample.target:
        raise BenchmarkError(f"sample '{sample.id}' has no target; every row needs one to be scored")
    return sample.target[0]


def target_choice(sample: Sample) -> int:
    wanted = first_target(sample)
    if wanted not in sample.choices:
        listed = ", ".join(sample.choices[:20]) or "it has none"
        raise BenchmarkError(f"sample '{sample.id}': target '{wanted}' is not one of its choices ({listed})")
    return sample.choices.index(wanted)
