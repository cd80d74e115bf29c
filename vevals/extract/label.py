"""``label`` and ``labels``: which choices a reply names by their text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

from vevals.errors import BenchmarkError
from vevals.extract.base import extractor
from vevals.extract.reading import (
    MOST_STATEMENTS,
    WIDTH,
    find_phrase,
    from_the_end,
    reply_of,
    target_choice,
    whole_words,
)
from vevals.types import Response, Sample

_QUOTES = re.compile(r"""[*`"'“”‘’「」『』]+""")
_JOINS = re.compile(r"[ \t\r\f\v_\-\u2010\u2011]+")
_LINES = re.compile(r" ?\n[ \n]*")
_EDGES = " \n\t.,:;!?()[]{}<>|#…。，；：、！？（）【】《》"
_LABEL_MARKER = re.compile(
    r"""(?: (?<![a-z/])
            (?:answer|intents?|labels?|sentiment|category|categories|class|classification|topics?|emotion|type)
        | 答案 | 类别 | 类型 | 标签 | 意图 | 情感(?:倾向|极性)? | 情绪 | 分类 | 罪名 )
        [ \])】》]{0,4}
        (?: : | = | -> | → | (?<=[\])】]) | (?:is|are|would\ be)(?![a-z]) | 应为 | 应该是 | 是 | 为 )""",
    re.VERBOSE,
)
_LABEL_PUNCTUATION = re.compile(r"[\s:=>(\[{【《<#.]{0,40}+")
_LABEL_FILLER = re.compile(
    r"(?:[\s:=>(\[{【《<#.]|(?:the|is|as|most|mostly|likely|probably|clearly|overall|best|classified|label)(?![a-z])"
    r"|应为|应该是|是|为){0,40}+"
)
_ENUMERATION = re.compile(r" ?(?:,|/|\||;|、|，|；|(?:and|or)(?= )|还是|和|或|及)[ (]{0,3}")
_NEGATION = re.compile(r"(?:(?<![a-z])(?:not|non|no|isnt|never|neither|nor)(?: an?| the)? ?|不是?|非|没有?|無|无)$")


def _fold(text: str) -> str:
    """Text as labels are compared: lower case, ``_``, ``-`` and space the same, no quotes or emphasis, lines kept."""
    text = _QUOTES.sub("", text.translate(WIDTH)).lower().replace(" - ", " — ")
    return _LINES.sub("\n", _JOINS.sub(" ", text)).strip()


def bare(text: str) -> str:
    """``_fold`` without punctuation around it."""
    return " ".join(_fold(text).strip(_EDGES).split())


@lru_cache(maxsize=1024)
def _folded(choices: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Labels as (folded text, index), the longest first; BenchmarkError for two that read the same."""
    folded = [" ".join(_fold(choice).split()) for choice in choices]
    for i, text in enumerate(folded):
        if not text:
            raise BenchmarkError(f"label '{choices[i]}' has no readable character; rename it")
        if folded.index(text) != i:
            first = choices[folded.index(text)]
            raise BenchmarkError(f"labels '{first}' and '{choices[i]}' read the same; rename one of them")
    return tuple(sorted(((text, i) for i, text in enumerate(folded)), key=lambda pair: (-len(pair[0]), pair[1])))


def label_ideal(sample: Sample, **_: Any) -> str:
    return sample.choices[target_choice(sample)]


@extractor("label", ideal=label_ideal)
def label(sample: Sample, response: Response, *, rule: Literal["answer", "only"] = "answer") -> str | None:
    """The label (one of ``sample.choices``) that the reply gives.

    ``answer`` ignores case, quotes and emphasis and takes ``_``, ``-`` and space for the same. In this order: the reply
    is a label; it opens with a label that stands alone; the last statement such as "Intent: ..." or "类别：..."; its
    last line is a label; the reply opens with a label; exactly one label occurs in it (as whole words; a longer label
    masks those inside it; one behind "not" or "不" does not count). Several labels are no answer. ``only``: exactly one
    label occurs as a plain substring, case and all (LawBench's official scoring).
    """
    text = reply_of(response)
    if rule == "only":
        occurring = [choice for choice in sample.choices if choice in text]
        return occurring[0] if len(occurring) == 1 else None
    labels = _folded(sample.choices)
    folded = _fold(text)
    for read in (_same_label, _lone_opening_label, _stated_label, _closing_label, _opening_label, _single_label):
        found = read(folded, labels)
        if found is not None:
            return sample.choices[found]
    return None


Labels = Sequence[tuple[str, int]]


def _same_label(folded: str, labels: Labels) -> int | None:
    if not labels or len(folded) > 2 * len(labels[0][0]) + 40:
        return None
    said = bare(folded)
    return next((i for text, i in labels if said in (text, bare(text))), None)


def _label_at(folded: str, at: int, labels: Labels) -> tuple[int, int] | None:
    """(index, end) of the longest label that stands at ``at``."""
    for text, i in labels:
        if folded.startswith(text, at) and whole_words(folded, at, at + len(text)):
            return i, at + len(text)
    return None


def _single_at(folded: str, at: int, labels: Labels) -> tuple[int, int] | None:
    """As ``_label_at``, but None where a list of labels begins."""
    found = _label_at(folded, at, labels)
    more = _ENUMERATION.match(folded, found[1]) if found else None
    return None if more and _label_at(folded, more.end(), labels) else found


def _opening_at(folded: str, labels: Labels) -> tuple[int, int] | None:
    opened = _LABEL_PUNCTUATION.match(folded)
    return _single_at(folded, opened.end(), labels) if opened else None


def _lone_opening_label(folded: str, labels: Labels) -> int | None:
    found = _opening_at(folded, labels)
    rest = folded[found[1] : found[1] + 2].lstrip(" ") if found else ""
    return found[0] if found and (rest == "" or rest[0] in "\n.,:;!?)]}>(<|—。，；：！？】》") else None


def _opening_label(folded: str, labels: Labels) -> int | None:
    found = _opening_at(folded, labels)
    return found[0] if found else None


def _statement_starts(folded: str) -> Iterator[list[int]]:
    """Where statements ("Label: ...") begin, the last first: behind punctuation, and behind words ("most likely")."""
    for marker in islice(from_the_end(_LABEL_MARKER, folded), MOST_STATEMENTS):
        fillers = (pattern.match(folded, marker.end()) for pattern in (_LABEL_PUNCTUATION, _LABEL_FILLER))
        yield [filler.end() for filler in fillers if filler]


def _stated_label(folded: str, labels: Labels) -> int | None:
    for positions in _statement_starts(folded):
        found = next((hit for at in positions if (hit := _single_at(folded, at, labels))), None)
        if found:
            return found[0]
    return None


def _closing_label(folded: str, labels: Labels) -> int | None:
    return _same_label(folded.rpartition("\n")[2], labels)


def _single_label(folded: str, labels: Labels) -> int | None:
    found = _occurring(folded, labels, most=1)
    return found[0] if len(found) == 1 else None


def _occurring(folded: str, labels: Labels, most: int | None = None) -> list[int]:
    """Indices of the labels that occur, longer ones masking those inside them; stops beyond ``most`` of them."""
    found: list[int] = []
    for text, i in labels:
        pieces, affirmed, position, at = [], False, 0, find_phrase(folded, text)
        while at >= 0:
            affirmed = affirmed or not _NEGATION.search(folded[max(0, at - 12) : at])
            pieces.append(folded[position:at])
            position = at + len(text)
            at = find_phrase(folded, text, position)
        if position:
            folded = "\0".join([*pieces, folded[position:]])
        if affirmed:
            found.append(i)
        if most is not None and len(found) > most:
            break
    return found


def _labels_ideal(sample: Sample, *, separator: str, none: str | None, **_: Any) -> str:
    if sample.target:
        return separator.join(sample.target) if separator.isspace() else f"{separator} ".join(sample.target)
    if none is None:
        raise BenchmarkError(f"sample '{sample.id}' has no label; give 'labels' the option none: the word for that")
    return none


@extractor("labels", ideal=_labels_ideal)
def labels(
    sample: Sample,
    response: Response,
    *,
    rule: Literal["answer", "only"] = "answer",
    separator: str = ";",  # noqa: ARG001
    none: str | None = None,
) -> str | None:
    """All labels that the reply gives, as a JSON list in the order of ``sample.choices``.

    ``answer`` reads the last statement ("Labels: ...", "罪名：...") if one holds labels, else the whole reply, by the
    rules of ``label``. ``only`` is LawBench's official rule for charges (open-compass/LawBench, ``ljp_accusation.py``):
    the reply is not split; every choice that occurs as a plain substring counts, also inside another one. No label is
    no answer (LawBench: an abstention, F1 0), unless ``none`` is given and the reply says that word, "none" or "无":
    then the list is empty. ``separator`` joins the labels of the ideal reply.
    """
    text = reply_of(response)
    if rule == "only":
        found = [choice for choice in sample.choices if choice in text]
    else:
        found = [sample.choices[i] for i in _given_labels(_fold(text), _folded(sample.choices))]
    if not found and not (none is not None and _says_none(_fold(text), none)):
        return None
    return json.dumps(found, ensure_ascii=False)


def _given_labels(folded: str, labels: Labels) -> list[int]:
    for positions in _statement_starts(folded):
        line = folded[positions[0] :].split("\n", 1)[0] if positions else ""
        found = _occurring(line, labels)
        if found:
            return sorted(found)
    return sorted(_occurring(folded, labels))


def _says_none(folded: str, none: str) -> bool:
    words = (bare(none), "none", "无")
    starts = [0, *next(_statement_starts(folded), [])]
    openings = [folded[at : at + 100].lstrip(_EDGES) for at in starts]
    return any(text.startswith(word) and whole_words(text, 0, len(word)) for text in openings for word in words if word)
