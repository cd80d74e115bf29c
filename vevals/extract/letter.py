"""``letter``: which choice a reply names by its letter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal

from vevals.errors import BenchmarkError
from vevals.extract.base import extractor
from vevals.extract.label import bare
from vevals.extract.reading import MOST_STATEMENTS, WIDTH, from_the_end, lower, reply_of, target_choice, whole_words
from vevals.types import Response, Sample

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKER = re.compile(  # for text in lower case
    r"""(?<![a-z/])(?: ans(?:wers?)? | choose | pick | select | go\ with
        | \\boxed
        | (?:options?|choices?) (?=\s{0,2}(?:is|:|=)) )(?![a-z])
      | 答案 | 答 (?=\s?[:]) | (?<![不别非勿未])(?<!不[应能会可该])选(?!项)
      | (?:正确|错误|符合题意|恰当)的(?:选项)?(?=[是为])
      | 选项 (?=[是为:])""",
    re.VERBOSE,
)
_PUNCTUATION = re.compile(r"""[\s:=\-–—>→*_"'`“”‘’()\[\]{}【】《》<$\\.]{0,40}+""")
_FILLER = re.compile(
    r"""(?: [\s:=\-–—>→*_"'`“”‘’()\[\]{}【】《》<$\\.]
        | (?:is|are|was|be|would|should|must|most|likely|probably|definitely|clearly|thus|therefore|the|correct|best
            |right|my|final|option|choice|letter|answer|boxed|text|textbf|mathbf|mathrm|bf)(?![A-Za-z])
        | 应该 | 应当 | 应 | 该 | 是 | 为 | 選項 | 选项 | 选择 | 选 | 项 ){0,40}+""",
    re.VERBOSE | re.IGNORECASE,
)
_DENIED = re.compile(r"(?:incorrect|wrong|not (?:the|an|a)|n't|错误|不正确)\s?$", re.IGNORECASE)
_REJECTED = re.compile(
    r"""[)\]*_"'\s]{0,4}(?:(?:is|are|was)\s{0,2}(?:not|n't|wrong|incorrect|false)|项?是?(?:错|不))""", re.IGNORECASE
)
_SECOND = re.compile(
    r"""[)\]*_"'\s]{0,4}(?:,|/|&|、|，|\band\b|\bor\b|和|或|及|与)[(\[*_"'\s]{0,4}([A-Z])(?![A-Za-z0-9])
        (?!\)?\s{0,2}(?:is|are|was|项|是|错|不))""",
    re.VERBOSE,
)
_CONNECTIVE = re.compile(
    r"[ \t]+(?:because|since|as|is|was|which|due|for|if|but|so|while|although|though|however|according|by|seems|would"
    r"|will|appears|has|represents|describes|states)(?![A-Za-z])"
)
_WORD, _LOWER_WORD, _GAP = re.compile(r"[ \t]+[A-Za-z]"), re.compile(r"[ \t]+[a-z]"), re.compile(r"[\s*_]{0,8}")
_OPENING = re.compile(r"""[\s*_#>"'`“‘(\[{<$（【《]{0,40}+(?:(?:option|choice|选项)[\s:]{0,4})?""", re.IGNORECASE)
_ASSERTED = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        ([A-Z])(?:[).*"']|\s){0,3}(?:is|would\ be|must\ be)\s+(?:the\s+)?(?:most\s+|single\s+|only\s+)?
            (?:correct|right|best|answer|appropriate)(?![A-Za-z])
      | ([A-Z])(?:选项|项)?(?:是|为)?(?:正确|对的)
      | (?<=\*\*)\(?([A-Z])\)?[.):]?(?=\*\*) )""",
    re.VERBOSE,
)
_LABELLED = re.compile(r"([A-Z])(?<![A-Za-z0-9].)(?:(?<![A-Za-z] .)(?=:)|(?<=[(\[【].)(?=[)\]】:]))")
_LAST_LINE = re.compile(r"""[\s*_#>"'`(\[{$]{0,40}+([A-Za-z])[\s*_"'`)\]}$.]{0,40}+""")


def _letter_ideal(sample: Sample, **_: Any) -> str:
    index = target_choice(sample)
    if index >= len(_LETTERS):
        raise BenchmarkError(
            f"sample '{sample.id}' has more than 26 choices, which is all the letters; use answer: label"
        )
    return _LETTERS[index]


@extractor("letter", ideal=_letter_ideal)
def letter(sample: Sample, response: Response, *, rule: Literal["answer", "only"] = "answer") -> str | None:
    """The choice whose letter the reply names.

    ``answer`` reads replies as people would: the last explicit statement ("Answer: B", "the answer is (B)", "选B",
    "\\boxed{B}"), which may also name a choice by its text; else a reply that opens with a letter, ends in a line that
    is one, calls exactly one letter right or labels with one ("(C)", "C:"); else a reply that is exactly one choice's
    text. Two letters in one statement are no answer. ``only``: of the choices' letters exactly one occurs anywhere,
    inside words too, as in the official scoring of LawBench (open-compass/LawBench, ``multi_choice_judge``).
    """
    text = reply_of(response)
    choices = sample.choices[: len(_LETTERS)]
    if rule == "only":
        occurring = [i for i in range(len(choices)) if _LETTERS[i] in text]
        return choices[occurring[0]] if len(occurring) == 1 else None
    text = text.translate(WIDTH)
    for read in (_stated, _opening, _closing, _asserted, _labelled, _choice_itself):
        found = read(text, choices)
        if found is not None:
            return choices[found] if found >= 0 else None
    return None


_VOID = -1  # a statement that names no single choice: it settles that there is no answer


def _stated(text: str, choices: Sequence[str]) -> int | None:
    """The last explicit statement of a letter or of a choice's text."""
    lowered = lower(text)
    wanted = [lower(choice.translate(WIDTH)).strip(" .。") for choice in choices]
    for marker in islice(from_the_end(_MARKER, lowered), MOST_STATEMENTS):
        start, end = marker.span()
        if _DENIED.search(text[max(0, start - 24) : start]):
            continue
        positions = [m.end() for pattern in (_PUNCTUATION, _FILLER) if (m := pattern.match(text, end))]
        named = next((i for at in positions if (i := _choice_at(lowered, at, wanted)) is not None), None)
        found = named if named is not None else _letter_at(text, positions[-1], choices)
        if found is not None:
            return found
    return None


def _choice_at(lowered: str, at: int, wanted: Sequence[str]) -> int | None:
    """The longest choice whose text stands at ``at``; bare letters are left to ``_letter_at``."""
    there = [
        (len(choice), -i)
        for i, choice in enumerate(wanted)
        if choice
        and lowered.startswith(choice, at)
        and not (len(choice) == 1 and choice.isascii() and choice.isalpha())
        if whole_words(lowered, at, at + len(choice))
    ]
    return -max(there)[1] if there else None


def _letter_at(text: str, at: int, choices: Sequence[str], opening: bool = False) -> int | None:
    """The choice whose letter stands at ``at``, ``_VOID`` for several letters, None where there is no letter."""
    found = text[at : at + 1]
    index = _LETTERS.find(found.upper()) if found.isascii() and found else -1
    if not 0 <= index < len(choices) or not _ends_letter(text, at + 1, found.islower(), opening):
        return None
    if _REJECTED.match(text, at + 1):
        return None
    second = _SECOND.match(text, at + 1)
    if second and second[1] != found.upper() and _LETTERS.index(second[1]) < len(choices):
        return _VOID
    doubtful = found in "AI" or opening
    if doubtful and _begins_sentence(text, at + 1, found) and not _followed_by(text, at + 1, choices[index]):
        return None
    return index


def _ends_letter(text: str, end: int, lower: bool, opening: bool) -> bool:
    """Whether a letter that ends at ``end`` stands alone there: not "AB", "A1", "B-cell", "I'm", "C++" or "D.C."."""
    rest = text[end : end + 4]
    if not rest or rest[0] == "\n":
        return True
    if re.match(r"[A-Za-z0-9+#&%/@^]|['’\-][A-Za-z]|\.[A-Za-z]\.", rest):
        return bool(re.match(r"/[A-Z](?![A-Za-z0-9])", rest))
    if lower:
        closers = ".):]}" if opening else ".,;:!?)]}*_\"'`<"
        return rest[0] in closers or not rest.strip()
    return True


def _begins_sentence(text: str, end: int, found: str) -> bool:
    """Whether the letter could be the first word of a sentence ("A patient ..."), not the name of a choice."""
    follows = (_WORD if found in "AI" else _LOWER_WORD).match(text, end)
    return bool(follows) and not _CONNECTIVE.match(text, end)


def _followed_by(text: str, end: int, choice: str) -> bool:
    gap = _GAP.match(text, end)
    start = gap.end() if gap else end
    return text[start : start + len(choice)].lower() == choice.translate(WIDTH).lower()


def _opening(text: str, choices: Sequence[str]) -> int | None:
    opened = _OPENING.match(text)
    return _letter_at(text, opened.end(), choices, opening=True) if opened else None


def _closing(text: str, choices: Sequence[str]) -> int | None:
    last = _LAST_LINE.fullmatch(text.rstrip().rpartition("\n")[2])
    index = _LETTERS.find(last[1].upper()) if last else -1
    return index if 0 <= index < len(choices) else None


def _asserted(text: str, choices: Sequence[str]) -> int | None:
    found = {_LETTERS.index("".join(filter(None, match.groups()))) for match in _ASSERTED.finditer(text)}
    found = {index for index in found if index < len(choices)}
    return found.pop() if len(found) == 1 else None


def _labelled(text: str, choices: Sequence[str]) -> int | None:
    """The only letter that stands as a label does: "属于C:..." or "... (C)"."""
    found = {_LETTERS.index(match[1]) for match in _LABELLED.finditer(text)}
    found = {index for index in found if index < len(choices)}
    return found.pop() if len(found) == 1 else None


def _choice_itself(text: str, choices: Sequence[str]) -> int | None:
    longest = max((len(choice) for choice in choices), default=0)
    said = bare(text) if len(text.strip()) <= 2 * longest + 40 else ""
    same = [i for i, choice in enumerate(choices) if said and bare(choice) == said]
    return same[0] if len(same) == 1 else None
