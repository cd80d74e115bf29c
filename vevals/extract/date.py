"""``date``: a calendar date of a reply, as ISO 8601."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, Literal

from vevals.errors import BenchmarkError
from vevals.extract.base import extractor
from vevals.extract.reading import MOST_STATEMENTS, WIDTH, first_target, from_the_end, reply_of
from vevals.types import Response, Sample

_ENGLISH = {
    **{"january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8},
    **{"september": 9, "october": 10, "november": 11, "december": 12},
}
_MONTH = {**_ENGLISH, **{name[:3]: number for name, number in _ENGLISH.items()}, "sept": 9}
_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_DATE = re.compile(
    rf"""(?<![0-9A-Za-z])(?:
          (?P<year>[0-9]{{4}})(?:(?P<sep>[-/.])(?P<month>[0-9]{{1,2}})(?P=sep)(?P<day>[0-9]{{1,2}})(?![0-9]|-[0-9])
            | \s?年\s?(?P<month2>[0-9]{{1,2}})\s?月\s?(?P<day4>[0-9]{{1,2}})\s?日?)
        | (?P<day2>[0-9]{{1,2}})(?:st|nd|rd|th)?\s+(?:(?:day\s+)?of\s+)?(?P<name>{_NAMES})(?:\.?,\s*|\.?\s+)
          (?P<year2>[0-9]{{4}})(?![0-9]|\s*(?:hours|hrs))
        | (?P<name2>{_NAMES})\.?\s+(?P<day3>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:,\s*|\s+)(?P<year3>[0-9]{{4}})(?![0-9])
        | (?P<one>[0-9]{{1,2}})(?P<mark>[/.])(?P<two>[0-9]{{1,2}})(?P=mark)(?P<year4>[0-9]{{4}})(?!\d|[-/.][0-9])
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_EMPHASIS = re.compile(r"[*_`]+")
_DASHES = WIDTH | dict.fromkeys(range(0x2010, 0x2014), 0x2D)


def _date_ideal(sample: Sample, **_: Any) -> str:
    wanted = first_target(sample)
    try:
        return datetime.date.fromisoformat(wanted).isoformat()
    except ValueError:
        raise BenchmarkError(f"sample '{sample.id}': target '{wanted}' is not a date like 2027-03-14") from None


@extractor("date", ideal=_date_ideal)
def date(sample: Sample, response: Response, *, which: Literal["last", "first"] = "last") -> str | None:  # noqa: ARG001
    """The last (or first) date of the reply as YYYY-MM-DD; None where there is none.

    Read are 2027-03-14 (also with ``/`` or ``.``), 2027年3月14日, 14 March 2027, 14th of March 2027,
    March 14, 2027 and 14.03.2027. With slashes, 14/03/2027 and 03/14/2027 are read, 03/04/2027 is not: nobody can tell
    which it is. Dates that no calendar has (31 April) and dates without a year are passed over.
    """
    text = _EMPHASIS.sub("", reply_of(response).translate(_DASHES))
    matches = from_the_end(_DATE, text) if which == "last" else _DATE.finditer(text)
    return next(_dates(matches), None)


def _dates(matches: Iterator[re.Match[str]]) -> Iterator[str]:
    for _, match in zip(range(MOST_STATEMENTS), matches, strict=False):
        found = _date_of(match)
        if found:
            yield found


def _date_of(match: re.Match[str]) -> str | None:
    """ISO form of one match; None where no calendar has it or day and month cannot be told apart."""
    year = int(match["year"] or match["year2"] or match["year3"] or match["year4"])
    if match["year"]:
        month, day = int(match["month"] or match["month2"]), int(match["day"] or match["day4"])
    elif match["year4"]:
        day, month = int(match["one"]), int(match["two"])
        if match["mark"] == "/" and max(day, month) <= 12 and day != month:
            return None
        if match["mark"] == "/" and month > 12:
            day, month = month, day
    else:
        month, day = _MONTH[(match["name"] or match["name2"]).lower()], int(match["day2"] or match["day3"])
    try:
        return datetime.date(year, month, day).isoformat()
    except ValueError:
        return None
