"""How numbers are written for people: one form everywhere. Minus signs and ranges are typographic."""

from __future__ import annotations

import math

from vevals.types import Estimate, Outcome

Z95 = 1.959964
COARSE_ERROR = 0.02


def percent(estimate: Estimate) -> str:
    """``82.4% (78.8–85.5)``; whole points where the standard error exceeds 2 points."""
    if math.isnan(estimate.value):
        return "none scored"
    decimals = 0 if standard_error(estimate) > COARSE_ERROR else 1
    value = f"{number(100 * estimate.value, decimals)}%"
    if math.isnan(estimate.low):
        return f"{value} (no interval)"
    low, high = number(100 * estimate.low, decimals), number(100 * estimate.high, decimals)
    return f"{value} ({low}–{high})" if estimate.low >= 0 else f"{value} ({low} to {high})"


def score(estimate: Estimate, ends: tuple[float, float]) -> str:
    """A score whose metric runs between ``ends`` (worst, best): a percentage from 0 to 1, else a plain number.

    ``27.31 (25.02 to 29.61)``
    """
    if sorted(ends) == [0, 1] or math.isnan(estimate.value):
        return percent(estimate)
    decimals = max(0, 2 - math.floor(math.log10(abs(estimate.value)))) if 0 < abs(estimate.value) < 1e6 else 0
    value = number(estimate.value, min(decimals, 6))
    if math.isnan(estimate.low):
        return f"{value} (no interval)"
    return f"{value} ({number(estimate.low, min(decimals, 6))} to {number(estimate.high, min(decimals, 6))})"


def whatever(estimate: Estimate) -> str:
    """``80–83 whatever the other 12 are``: the mean if rows without a value were all wrong, or all right.

    For means of scores between 0 and 1; empty when every row has a value, and for scores of the whole set.
    """
    missing = estimate.total - estimate.scored
    if not missing or not estimate.scored or estimate.method.startswith("BCa"):
        return ""
    low = 100 * estimate.value * estimate.scored / estimate.total
    high = low + 100 * missing / estimate.total
    return f"{number(low, 0)}–{number(high, 0)} whatever the other {missing} are"


def points(value: float, low: float, high: float) -> str:
    """``12.3 (8.1 to 16.5)``: points of a rescaled mean, which can be negative."""
    text = number(100 * value, 1)
    if math.isnan(low):
        return f"{text} (no interval)"
    return f"{text} ({number(100 * low, 1)} to {number(100 * high, 1)})"


def number(value: float, decimals: int) -> str:
    """Fixed decimals, true minus sign, no negative zero."""
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("-")


def standard_error(estimate: Estimate) -> float:
    """Half the 95% interval over 1.96; NaN without an interval."""
    return (estimate.high - estimate.low) / 2 / Z95


def outcomes(counts: dict[Outcome, int]) -> str:
    """``3 unparsed, 1 failed``: every outcome but scored, or nothing."""
    return ", ".join(f"{counts[outcome]} {outcome.name}" for outcome in Outcome if outcome and counts.get(outcome))


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``4 min 10 s``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def visible(text: str) -> str:
    """``text`` with control and bidirectional characters as escapes: model output must not steer a terminal."""
    return "".join(_escape(char) if _hidden(char) else char for char in text)


def _hidden(char: str) -> bool:
    code = ord(char)
    control = code < 0x20 and char not in "\n\t"
    return control or 0x7F <= code <= 0x9F or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069 or _surrogate(code)


def _surrogate(code: int) -> bool:
    return 0xD800 <= code <= 0xDFFF


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
