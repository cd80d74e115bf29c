"""``number``: the numbers of a reply, exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

from vevals.errors import BenchmarkError
from vevals.extract.base import extractor
from vevals.extract.reading import WIDTH, first_target, from_the_end, reply_of
from vevals.types import Response, Sample

_CURRENCY_CODE = re.compile(
    r"(?<![A-Za-z])(?:US|HK|NT|AU|CA|USD|EUR|GBP|CNY|RMB|HKD|JPY|INR|CHF|Rs\.?)(?=[-+]?[$€£¥₹]?[0-9])"
)
_SIGNED_CURRENCY = re.compile(r"([-+])[$€£¥₹](?=[.0-9])")
_CURRENCY = re.compile(r"[$€£¥₹]")
_LATEX = re.compile(r"\\[dt]?frac\{([0-9]{1,400})\}\{([0-9]{1,400})\}")
_NUMBER = re.compile(
    r"""(?<![0-9A-Za-z_])(?<![0-9]\.)
        (?P<sign>(?<![)\]%])[-+])?
        (?: (?<![0-9]/) (?:(?P<units>[0-9]{1,3})[ ])? (?P<top>[0-9]++) /
            (?P<bottom>(?!0++(?![0-9]))[0-9]++) (?![0-9]|[/.][0-9])
          | (?P<decimal> (?: [0-9]{1,3}(?:,[0-9]{3})++(?!,?[0-9]) | [0-9]++ ) (?:\.[0-9]++)? | \.[0-9]++ )
            (?P<exponent>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))? )""",
    re.VERBOSE,
)
_LONGEST_NUMBER = 400  # characters; a longer run of digits is no answer to anything


def numbers(text: str) -> Iterator[Fraction]:
    """All numbers of a text, exactly.

    Read are signs, decimals, thousands separators ("1,234.5"), exponents, fractions ("3/4", "1 1/2", ``\\frac``),
    full-width digits; currency and percent signs are dropped ("45%" is 45). Digits inside a word ("GPT4", "B2") are not
    numbers, nor are "million" or "万" read.
    """
    return _values(_NUMBER.finditer(_plain_numbers(text)))


def _plain_numbers(text: str) -> str:
    """``text`` up to its last digit and what that may belong to, with ASCII digits, plain fractions, no currencies."""
    text = text.translate(WIDTH)
    end = max(map(text.rfind, "0123456789")) + 1
    text = text[: end + 2] if end else ""
    text = _LATEX.sub(r" \1/\2", text.replace("{,}", ","))
    return _CURRENCY.sub(" ", _SIGNED_CURRENCY.sub(r"\1", _CURRENCY_CODE.sub(" ", text)))


def _values(matches: Iterable[re.Match[str]]) -> Iterator[Fraction]:
    for match in matches:
        if match.end() - match.start() > _LONGEST_NUMBER:
            continue
        sign = -1 if match["sign"] == "-" else 1
        if match["top"] is None:
            yield sign * Fraction(match["decimal"].replace(",", "") + (match["exponent"] or ""))
        else:
            yield sign * (int(match["units"] or 0) + Fraction(int(match["top"]), int(match["bottom"])))


def decimal_text(value: Fraction) -> str:
    """Canonical text: "1234.5", "-0.25", "7"; "1/3" where no decimal is exact."""
    twos = (value.denominator & -value.denominator).bit_length() - 1
    fives, rest = 0, value.denominator >> twos
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole_part, decimals = digits[: len(digits) - places], digits[len(digits) - places :]
    return ("-" if value < 0 else "") + whole_part + (f".{decimals}" if decimals else "")


_SWAP = str.maketrans(",.", ".,")


def _number_ideal(sample: Sample, *, after: str | None, decimal: str, **_: Any) -> str:
    wanted = first_target(sample)
    if len(list(numbers(wanted))) != 1:
        raise BenchmarkError(f"sample '{sample.id}': target '{wanted}' is not one number with a decimal point")
    wanted = wanted.translate(_SWAP) if decimal == "comma" else wanted
    return wanted if after is None else f"{after} {wanted}"


@extractor("number", ideal=_number_ideal)
def number(
    sample: Sample,  # noqa: ARG001
    response: Response,
    *,
    which: Literal["last", "first"] = "last",
    after: str | None = None,
    decimal: Literal["point", "comma"] = "point",
) -> str | None:
    """The last (or first) number of the reply as canonical text (``decimal_text``; what is read: ``numbers``).

    ``after`` reads only what follows the last occurrence of that text; without it in the reply there is no answer.
    ``decimal: comma`` reads 1.234,5 as German and French write it; targets still have a decimal point.
    """
    text = reply_of(response)
    if after is not None:
        _, found, text = text.rpartition(after)
        if not found:
            return None
    text = _plain_numbers(text.translate(_SWAP) if decimal == "comma" else text)
    matches = _NUMBER.finditer(text) if which == "first" else from_the_end(_NUMBER, text)
    value = next(_values(matches), None)
    return None if value is None else decimal_text(value)
