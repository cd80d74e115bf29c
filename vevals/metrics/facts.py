"""Metrics of a checklist: which facts a text holds and what it must not hold. Rules, no model.

A row brings two columns: ``facts``, what has to occur, and ``forbidden``, what must not (a superseded value, another
customer's amount, a card number). Each entry is a spelling or a list of spellings of which one is enough.

How a spelling is found: width, case, white space (in Chinese any) and typographic marks do not count, nor do
separators of thousands and the ending of an ordinal ("the 19th" holds "19"); words and numbers match as a whole
("5 May" is not in "15 May", "25" not in "25.50", 五日 not in 十五日); a spelling of six or more digits and nothing else
is found however its digits are grouped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from vevals.extract import find_phrase
from vevals.metrics.base import metric
from vevals.metrics.text import normalised
from vevals.types import Response, Sample, Score

Spellings = tuple[str, ...]

_MARKS = str.maketrans(
    {"，": ", ", "’": "'", "‘": "'", "“": '"', "”": '"'}
    | dict.fromkeys("–—‐‑−", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff⁰¹²³⁴⁵⁶⁷⁸⁹", None)
)
_EMPHASIS = re.compile(r"(?<!\w)[*_`]+|[*_`]+(?!\w)")
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"
_SPACE_IN_CHINESE = re.compile(rf"(?<=[{_CHINESE}]) (?=\S)|(?<=\S) (?=[{_CHINESE}])")
_THOUSANDS = re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9]|,[0-9])")
_ORDINAL = re.compile(r"(?<=[0-9])(?:st|nd|rd|th)(?![a-z])")
_LONG_NUMBER = re.compile(r"(?![0-9]+-[0-9]+$)(?![0-9]{4}-[0-9]{2}-[0-9]{2}$)[0-9](?:[ -]?[0-9]){5,}")
_UNMISTAKABLE = 12  # digits: a run of so many is found beside other numbers too
_GOES_ON = re.compile(r"[.,](?!0{2}(?![0-9]))[0-9]|[十百千万亿]| (?:million|billion|trillion|thousand)\b")
_NUMERALS = frozenset("〇零一二两三四五六七八九十百千万亿")
_WEEKDAY = re.compile(r"(?:周|星期|礼拜)[一二三四五六]$")


@metric()
def fact_score(sample: Sample, response: Response, *, facts: str = "facts", forbidden: str = "forbidden") -> Score:
    """(Facts found - forbidden entries found) / facts, not below 0. The options name the columns.

    A copy of the whole source holds every fact and every superseded value, so it earns little; silence earns nothing.
    """
    missing, wrong, wanted = _looked_up(sample, response, facts, forbidden)
    return Score(max(0, wanted - len(missing) - len(wrong)) / wanted, _note(missing, wrong))


@metric(binary=True)
def fact_strict(sample: Sample, response: Response, *, facts: str = "facts", forbidden: str = "forbidden") -> Score:
    """Whether every fact occurs and nothing that is forbidden does. The options name the columns."""
    missing, wrong, _ = _looked_up(sample, response, facts, forbidden)
    return Score(float(not missing and not wrong), _note(missing, wrong))


def _looked_up(sample: Sample, response: Response, facts: str, forbidden: str) -> tuple[list[str], list[str], int]:
    """The first spellings of the facts that are missing and of the forbidden entries that occur; how many facts."""
    if response.answer is None:
        raise ValueError("there is no answer to judge")
    wanted = entries(sample, facts)
    unwanted = () if sample.fields.get(forbidden) is None else entries(sample, forbidden)
    if not wanted:
        raise ValueError(f"the column '{facts}' is empty: a checklist needs at least one fact")
    text = plain(response.answer)
    missing = [entry[0] for entry in wanted if not occurs(entry, text)]
    return missing, [entry[0] for entry in unwanted if occurs(entry, text)], len(wanted)


def _note(missing: Sequence[str], wrong: Sequence[str]) -> str:
    parts = [f"{title}: {', '.join(found)}" for title, found in (("missing", missing), ("forbidden", wrong)) if found]
    return "; ".join(parts)


def entries(sample: Sample, column: str) -> tuple[Spellings, ...]:
    """The checklist in ``column``: one tuple of spellings an entry; ValueError where it is none."""
    if column not in sample.fields:
        raise ValueError(f"the row has no column '{column}'")
    given = sample.fields[column]
    if not isinstance(given, list | tuple):
        raise ValueError(f"the column '{column}' is not a list of spellings")
    return tuple(_spellings(entry, column) for entry in given)


def _spellings(entry: Any, column: str) -> Spellings:
    spellings = (entry,) if isinstance(entry, str) else tuple(entry) if isinstance(entry, list | tuple) else ()
    if not spellings or not all(isinstance(one, str) and one.strip() for one in spellings):
        raise ValueError(f"an entry of '{column}' is {entry!r}; write a text, or a list of texts")
    return spellings


def plain(text: str) -> str:
    """``text`` as spellings are compared: width, case, marks, white space, thousands and ordinals made equal."""
    marked = _EMPHASIS.sub("", text.translate(_MARKS))
    folded = _SPACE_IN_CHINESE.sub("", normalised(marked, ("width", "case", "whitespace")))
    return _ORDINAL.sub("", _THOUSANDS.sub(lambda match: match[1].replace(",", ""), folded))


def occurs(spellings: Iterable[str], text: str) -> bool:
    """Whether one of ``spellings`` occurs in ``text``, which is ``plain``."""
    return any(_found(text, _plain_spelling(spelling)) for spelling in spellings)


@lru_cache(maxsize=10_000)
def _plain_spelling(spelling: str) -> str:
    return plain(spelling)


def _found(text: str, spelling: str) -> bool:
    at = find_phrase(text, spelling)
    while at >= 0 and _inside_a_number(text, at, at + len(spelling)):
        at = find_phrase(text, spelling, at + 1)
    return at >= 0 or (bool(_LONG_NUMBER.fullmatch(spelling)) and _regrouped(spelling).search(text) is not None)


@lru_cache(maxsize=10_000)
def _regrouped(spelling: str) -> re.Pattern[str]:
    """The digits of ``spelling``, with a space, dot or dash between any two of them, not within a longer number."""
    digits = re.sub("[ -]", "", spelling)
    grouped = rf"(?<![0-9]){'[ .-]?'.join(digits)}(?![0-9])"
    return re.compile(grouped if len(digits) >= _UNMISTAKABLE else rf"(?<![0-9][ .-]){grouped}(?![ .-][0-9])")


def _inside_a_number(text: str, start: int, end: int) -> bool:
    """Whether the span is only a part of a longer number: of 25.50, of 25 million, of 十五, of 第三 or of 15万."""
    before, first, last, after = text[max(0, start - 2) : start], text[start], text[end - 1], text[end : end + 1]
    if first.isdecimal() and len(before) == 2 and before[0].isdecimal() and before[1] in ".,":
        return True
    if last.isdecimal() and _GOES_ON.match(text, end):
        return True
    if first in _NUMERALS and (before[-1:] == "第" or (before[-1:] in _NUMERALS and before not in ("唯一", "统一"))):
        return bool(before)
    return last in _NUMERALS and after in _NUMERALS and bool(after) and not _WEEKDAY.search(text, start, end)
