"""The texts of a set as such: clean Unicode, no data of real people, and how long they are."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vevals.extract import puts_spaces
from vevals.types import Sample

SHOWN = 3
_KEPT = "\n\t"
_SENTENCE_ENDS = re.compile(r"[.!?]+(?=\s|$)|[。！？]+|\n+")
_INVENTED_CARDS = ("400000", "9999")


@dataclass(frozen=True, slots=True)
class Length:
    """Lengths of the inputs: in words, or in characters for languages that put no spaces between words.

    ``reading`` says how hard they are to read: the Automated Readability Index as a school grade of the United States
    (Source: Senter and Smith 1967, AMRL-TR-66-220), or characters a sentence. Of all inputs together.
    """

    unit: str
    median: float
    shortest: int
    longest: int
    reading: str

    def __str__(self) -> str:
        return f"median {self.median:g} {self.unit}, {self.shortest:,} to {self.longest:,}"


def length_of(samples: Sequence[Sample]) -> Length:
    """Lengths of the inputs of a set that has at least one sample."""
    texts = [sample.input for sample in samples]
    sentences = sum(max(1, len(_SENTENCE_ENDS.findall(text))) for text in texts)
    spaced = puts_spaces(texts)
    counts = [len(text.split()) if spaced else len(text) for text in texts]
    reading = _readability(texts, sentences) if spaced else f"{sum(counts) / sentences:.0f} characters a sentence"
    unit = "words" if spaced else "characters"
    return Length(unit, statistics.median(counts), min(counts), max(counts), reading)


def _readability(texts: Sequence[str], sentences: int) -> str:
    words = [word for text in texts for word in text.split()]
    letters = sum(one.isalnum() for word in words for one in word)
    index = 4.71 * letters / max(1, len(words)) + 0.5 * len(words) / sentences - 21.43
    return f"grade {max(1, round(index))} by the Automated Readability Index"


def unclean(samples: Sequence[Sample]) -> Iterator[str]:
    """One sentence a kind of dirt: not NFC, control or invisible characters, replacement characters, outer space."""
    for title, is_found in _DIRT.items():
        ids = [sample.id for sample in samples if any(map(is_found, _texts(sample)))]
        if ids:
            yield f"{len(ids)} rows with {title}: {', '.join(ids[:SHOWN])}"


def _texts(sample: Sample) -> Iterator[str]:
    yield from (sample.input, *sample.target, *sample.choices)
    for value in sample.fields.values():
        yield from _texts_in(value)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts_in(inner)


def _invisible(text: str) -> bool:
    return any(unicodedata.category(one) in ("Cc", "Cf", "Co", "Cn", "Cs") and one not in _KEPT for one in text)


_DIRT: Mapping[str, Callable[[str], bool]] = {
    "a character that cannot be seen": _invisible,
    "the replacement character U+FFFD": lambda text: "\ufffd" in text,
    "text that is not in Unicode's form NFC": lambda text: not unicodedata.is_normalized("NFC", text),
    "white space at the start or end": lambda text: text != text.strip(),
}


def personal_data(samples: Sequence[Sample]) -> Iterator[str]:
    """One sentence a kind of text that could lead to a real person: addresses and numbers that may be somebody's."""
    for title, find in _PERSONAL.items():
        found = [(sample.id, one) for sample in samples for text in _texts(sample) for one in find(text)]
        if found:
            shown = ", ".join(f"{sample_id} ({one})" for sample_id, one in dict(found[::-1]).items())
            yield f"{title} that may be somebody's: {shown[:200]}; use reserved ones"


_MAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+)")
_RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$")
_MOBILE = re.compile(r"(?<![0-9])(?:86[ -]?)?1[3-9][0-9]([ -]?)[0-9]{4}\1[0-9]{4}(?![0-9])")
_CARD = re.compile(
    r"(?<![0-9])(?:[3-6][0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|3[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{5})(?![0-9])"
)
_IDENTITY = re.compile(r"(?<![0-9])[1-9][0-9]{16}[0-9Xx](?![0-9])")
_CHECK = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _mails(text: str) -> list[str]:
    return [match[0] for match in _MAIL.finditer(text) if not _RESERVED.search(match[1].lower())]


def _mobiles(text: str) -> list[str]:
    return [match[0] for match in _MOBILE.finditer(text)]


def _cards(text: str) -> list[str]:
    """Numbers that pass the check digit of payment cards (Luhn), begin as those do and are not of an invented range."""
    numbers = [(match[0], re.sub("[ -]", "", match[0])) for match in _CARD.finditer(text)]
    return [shown for shown, digits in numbers if not digits.startswith(_INVENTED_CARDS) and _luhn(digits)]


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _identities(text: str) -> list[str]:
    """Chinese identity numbers whose check character is right (GB 11643-1999)."""
    return [number for number in _IDENTITY.findall(text) if _valid_identity(number)]


def _valid_identity(number: str) -> bool:
    remainder = sum(int(digit) * weight for digit, weight in zip(number, _CHECK, strict=False)) % 11
    return number[-1].upper() == "10X98765432"[remainder]


_PERSONAL: Mapping[str, Callable[[str], list[str]]] = {
    "mail addresses": _mails,
    "Chinese mobile numbers": _mobiles,
    "card numbers": _cards,
    "identity numbers": _identities,
}
