"""From the text of a reply to the answer in it: the one place that knows how models phrase what they mean.

An extractor is one function ``(sample, response, *, option=default) -> str | None`` that a benchmark names in its YAML;
None means that the reply holds no answer. Answers of choice benchmarks are always the text of the choice. What a
reasoning model writes before ``</think>`` is no part of its reply, and a thought that was never closed has no reply.

Everything here is pure, needs the standard library only, and takes time linear in the length of the reply, however
hostile it is. Packages add extractors by the entry-point group ``vevals.extractors``.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import entry_points
from itertools import islice
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vevals.errors import BenchmarkError, VevalsError
from vevals.types import Response, Sample

T = TypeVar("T")
Answer = Callable[..., "str | None"]
Ideal = Callable[..., str]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_STATEMENTS = 1000  # of many "Answer:" only the last ones are read, which keeps hostile replies cheap
_BLOCK = 50_000  # characters searched at once when the last match is wanted
_OVERLAP = 500  # and how far around a block, so that no match is cut


# --- the catalogue: named functions whose keyword-only parameters are their options ---------------------------------


@dataclass(slots=True)
class Catalogue(Generic[T]):
    """Named things of one kind (``noun``), ours and those of installed packages (entry-point ``group``).

    Loading an entry point must register the name that it stands for. Faults are raised as ``error``.
    """

    noun: str
    group: str
    error: type[VevalsError]
    entries: dict[str, T] = field(default_factory=dict)

    def add(self, name: str, entry: T) -> None:
        """Register ``entry``; a name that is taken is refused."""
        if name in self.entries:
            raise self.error(f"{self.noun} '{name}' is registered twice; rename one of the two")
        self.entries[name] = entry

    def find(self, name: str) -> T:
        """The entry called ``name``; raises ``error`` with the known names."""
        if name not in self.entries:
            for point in entry_points(group=self.group, name=name):
                point.load()
        if name not in self.entries:
            raise self.error(f"unknown {self.noun} '{name}'; {suggestion(name, self.names())}")
        return self.entries[name]

    def names(self) -> list[str]:
        """All names, sorted; those of other packages are listed without being loaded."""
        return sorted({*self.entries, *(point.name for point in entry_points(group=self.group))})


def suggestion(name: str, known: Sequence[str]) -> str:
    """The end of an error sentence: the nearest known name, if one is near, and all of them."""
    near = get_close_matches(name, known, n=1)
    listed = ", ".join(known) if known else "there are none"
    return f"did you mean '{near[0]}'? Known: {listed}" if near else f"known: {listed}"


@dataclass(frozen=True, slots=True)
class Least:
    """``Annotated[float, Least(0)]``: an option that must not be smaller."""

    value: float


def options_of(
    fn: Callable[..., Any], given: Mapping[str, Any], owner: str, error: type[VevalsError]
) -> dict[str, Any]:
    """All options of ``fn`` (its keyword-only parameters): those given, checked against its type hints, and defaults.

    ``owner`` names the function in the error, as in ``extractor 'letter'``.
    """
    parameters = [p for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY]
    defaults = {p.name: p.default for p in parameters}
    for name in given:
        if name not in defaults:
            raise error(f"{owner} has no option '{name}'; {suggestion(name, sorted(defaults))}")
    missing = [name for name, default in defaults.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise error(f"{owner} needs the option '{missing[0]}'")
    hints = get_type_hints(fn, include_extras=True)
    for name, value in given.items():
        wanted = _misfit(value, hints.get(name, Any))
        if wanted:
            raise error(f"option '{name}' of {owner} is {value!r}; use {wanted}")
    return {**defaults, **given}


def _misfit(value: Any, hint: Any) -> str:
    """What ``hint`` asks for, in words, or "" where ``value`` fits it (or the hint is of a kind not checked here)."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
        return "" if fits else " or ".join(repr(choice) for choice in inner)
    if origin in (Union, UnionType):
        wanted = [_misfit(value, part) for part in inner]
        return "" if "" in wanted else " or ".join(wanted)
    if hasattr(hint, "__metadata__"):
        return _misfit_least(value, hint.__origin__, hint.__metadata__)
    if origin in (list, tuple, Sequence):
        items = "" if isinstance(value, list | tuple) else "a list"
        return items or next((f"a list, each {wrong}" for item in value if (wrong := _misfit(item, inner[0]))), "")
    return _misfit_plain(value, hint)


def _misfit_least(value: Any, hint: Any, extras: Sequence[Any]) -> str:
    low = next((extra.value for extra in extras if isinstance(extra, Least)), None)
    wanted = _misfit(value, hint)
    if low is None or (not wanted and value >= low):
        return wanted
    return f"a number, {low:g} or more"


def _misfit_plain(value: Any, hint: Any) -> str:
    """``bool`` is no number here: ``tolerance: true`` is a slip."""
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fits else "a number"
    if hint is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    words = {str: "a text", bool: "true or false", NoneType: "nothing"}
    if hint not in words or isinstance(value, hint):
        return ""
    return words[hint]


# --- extractors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extractor:
    """A named way to find the answer, with all its options. ``version`` grows when its answers can change."""

    name: str
    options: Mapping[str, Any]
    version: int
    fn: Answer = field(repr=False)
    reverse: Ideal = field(repr=False)

    def answer(self, sample: Sample, response: Response) -> str | None:
        """The answer in ``response``, or None where there is none (always so for a request that failed)."""
        return None if response.error is not None else self.fn(sample, response, **self.options)

    def ideal(self, sample: Sample) -> str:
        """The reply to be read back as the sample's target; BenchmarkError where no reply could be.

        For ``most_likely`` it is the text of the right choice: there the answer is read from log-probabilities.
        """
        return self.reverse(sample, **self.options)


@dataclass(frozen=True, slots=True)
class _Entry:
    fn: Answer
    reverse: Ideal
    version: int


_CATALOGUE: Catalogue[_Entry] = Catalogue("extractor", "vevals.extractors", BenchmarkError)


def extractor(name: str, *, version: int = 1, ideal: Ideal | None = None) -> Callable[[Answer], Answer]:
    """Register a function as the extractor ``name``.

    ``ideal(sample, **options)`` gives the reply that it reads as the target; by default the target itself.
    """

    def register(fn: Answer) -> Answer:
        _CATALOGUE.add(name, _Entry(fn, ideal or _target_itself, version))
        return fn

    return register


def get(name: str, options: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor ``name`` with ``options``; BenchmarkError for a name, option or value that it does not know."""
    entry = _CATALOGUE.find(name)
    resolved = options_of(entry.fn, options or {}, f"extractor '{name}'", BenchmarkError)
    return Extractor(name, resolved, entry.version, entry.fn, entry.reverse)


def names() -> list[str]:
    """Names of all extractors."""
    return _CATALOGUE.names()


# --- reading text ---------------------------------------------------------------------------------------------------

_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20, 0x2212: 0x2D, 0xA0: 0x20}
_CJK = "\u2e80-\u2fdf\u3005-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SPACED = re.compile(rf"[^\W_{_CJK}]")  # a character of a script that puts spaces between words


def reply_of(response: Response) -> str:
    """The reply without what a reasoning model thought before it."""
    _thought, closed, rest = response.text.rpartition("</think>")
    if closed:
        return rest
    return "" if rest.lstrip().startswith("<think>") else rest


def find_phrase(text: str, phrase: str, start: int = 0) -> int:
    """Where ``phrase`` occurs as whole words from ``start`` on, or -1. Chinese and Japanese need no word boundary."""
    position = text.find(phrase, start) if phrase else -1
    while position >= 0 and not _whole_words(text, position, position + len(phrase)):
        position = text.find(phrase, position + 1)
    return position


def _whole_words(text: str, start: int, end: int) -> bool:
    joined_left = start > 0 and _SPACED.match(text, start) and _SPACED.match(text, start - 1)
    joined_right = 0 < end < len(text) and _SPACED.match(text, end - 1) and _SPACED.match(text, end)
    return not (joined_left or joined_right)


def _from_the_end(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """All matches, the last first, block by block: the last few cost little in any text."""
    end = len(text)
    while end > 0:
        start = max(0, end - _BLOCK)
        near = pattern.finditer(text, max(0, start - _OVERLAP), end + _OVERLAP)
        yield from reversed([match for match in near if start <= match.start() < end])
        end = start


def _lower(text: str) -> str:
    """Lower case of the same length, so that positions hold in both; the rare text where it differs stays as it is."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text


def _target_itself(sample: Sample, **_: Any) -> str:
    return _target(sample)


def _target(sample: Sample) -> str:
    if not sample.target:
        raise BenchmarkError(f"sample '{sample.id}' has no target; every row needs one to be scored")
    return sample.target[0]


def _target_choice(sample: Sample) -> int:
    target = _target(sample)
    if target not in sample.choices:
        listed = ", ".join(sample.choices[:20]) or "it has none"
        raise BenchmarkError(f"sample '{sample.id}': target '{target}' is not one of its choices ({listed})")
    return sample.choices.index(target)


# --- whole ----------------------------------------------------------------------------------------------------------


@extractor("whole")
def whole(sample: Sample, response: Response, *, trim: bool = True) -> str | None:  # noqa: ARG001
    """The reply itself, without the white space around it (``trim: false`` keeps that); a blank one is no answer."""
    text = reply_of(response)
    if not text.strip():
        return None
    return text.strip() if trim else text


# --- letter ---------------------------------------------------------------------------------------------------------

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
    index = _target_choice(sample)
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
    text = text.translate(_WIDTH)
    for read in (_stated, _opening, _closing, _asserted, _labelled, _choice_itself):
        found = read(text, choices)
        if found is not None:
            return choices[found] if found >= 0 else None
    return None


_VOID = -1  # a statement that names no single choice: it settles that there is no answer


def _stated(text: str, choices: Sequence[str]) -> int | None:
    """The last explicit statement of a letter or of a choice's text."""
    lowered = _lower(text)
    wanted = [_lower(choice.translate(_WIDTH)).strip(" .。") for choice in choices]
    for marker in islice(_from_the_end(_MARKER, lowered), _MOST_STATEMENTS):
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
        if _whole_words(lowered, at, at + len(choice))
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
    return text[start : start + len(choice)].lower() == choice.translate(_WIDTH).lower()


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
    said = _bare(text) if len(text.strip()) <= 2 * longest + 40 else ""
    same = [i for i, choice in enumerate(choices) if said and _bare(choice) == said]
    return same[0] if len(same) == 1 else None


# --- label ----------------------------------------------------------------------------------------------------------

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
    text = _QUOTES.sub("", text.translate(_WIDTH)).lower().replace(" - ", " — ")
    return _LINES.sub("\n", _JOINS.sub(" ", text)).strip()


def _bare(text: str) -> str:
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


def _label_ideal(sample: Sample, **_: Any) -> str:
    return sample.choices[_target_choice(sample)]


@extractor("label", ideal=_label_ideal)
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
    said = _bare(folded)
    return next((i for text, i in labels if said in (text, _bare(text))), None)


def _label_at(folded: str, at: int, labels: Labels) -> tuple[int, int] | None:
    """(index, end) of the longest label that stands at ``at``."""
    for text, i in labels:
        if folded.startswith(text, at) and _whole_words(folded, at, at + len(text)):
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
    for marker in islice(_from_the_end(_LABEL_MARKER, folded), _MOST_STATEMENTS):
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


# --- labels ---------------------------------------------------------------------------------------------------------


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
    words = (_bare(none), "none", "无")
    starts = [0, *next(_statement_starts(folded), [])]
    openings = [folded[at : at + 100].lstrip(_EDGES) for at in starts]
    return any(
        text.startswith(word) and _whole_words(text, 0, len(word)) for text in openings for word in words if word
    )


# --- number ---------------------------------------------------------------------------------------------------------

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
    text = text.translate(_WIDTH)
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


def _number_ideal(sample: Sample, *, after: str | None, **_: Any) -> str:
    target = _target(sample)
    if len(list(numbers(target))) != 1:
        raise BenchmarkError(f"sample '{sample.id}': target '{target}' is not one number")
    return target if after is None else f"{after} {target}"


@extractor("number", ideal=_number_ideal)
def number(
    sample: Sample,  # noqa: ARG001
    response: Response,
    *,
    which: Literal["last", "first"] = "last",
    after: str | None = None,
) -> str | None:
    """The last (or first) number of the reply as canonical text (``decimal_text``; what is read: ``numbers``).

    ``after`` reads only what follows the last occurrence of that text; without it in the reply there is no answer.
    """
    text = reply_of(response)
    if after is not None:
        _, found, text = text.rpartition(after)
        if not found:
            return None
    text = _plain_numbers(text)
    matches = _NUMBER.finditer(text) if which == "first" else _from_the_end(_NUMBER, text)
    value = next(_values(matches), None)
    return None if value is None else decimal_text(value)


# --- json -----------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n?(.*?)```", re.DOTALL)
_JSON_OPENING = re.compile(r"[{\[]")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_DEEPEST_JSON = 64
_LONGEST_JSON = 1_000_000  # characters
_MOST_JSON_BLOCKS = 100
_JSON_EFFORT = 100_000  # brackets and strings that are looked at before the search is given up
_JSON_ATTEMPT = 20  # what trying one opening bracket costs of that at least


def _json_ideal(sample: Sample, *, field: str | None) -> str:
    target = _target(sample)
    if field is not None:
        return json.dumps({field: target}, ensure_ascii=False)
    if _canonical_json(target) is None:
        raise BenchmarkError(f"sample '{sample.id}': target '{target[:60]}' is not a JSON object or array")
    return target


@extractor("json", ideal=_json_ideal)
def json_text(sample: Sample, response: Response, *, field: str | None = None) -> str | None:  # noqa: ARG001
    """The first JSON object or array of the reply, one in a fenced block preferred, as canonical text.

    Canonical: keys sorted, no white space, non-ASCII as it is. ``field`` gives that key's value instead: a text as it
    is, anything else as canonical JSON, None for null or where the object has no such key. Nested deeper than 64 or not
    finite (NaN) is not JSON here.
    """
    text = reply_of(response)
    blocks = [match[1] for match in islice(_FENCE.finditer(text), _MOST_JSON_BLOCKS)]
    found = _first_json([*blocks, text])
    if found is None or field is None:
        return found
    value = json.loads(found)
    value = value.get(field) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else _dumps(value)


def _first_json(texts: Iterable[str]) -> str | None:
    """Canonical text of the first span of balanced brackets that is JSON.

    A bracket that never closes ends the search in its text: what is inside is part of something cut off.
    """
    effort = _JSON_EFFORT
    for text in texts:
        opening = _JSON_OPENING.search(text)
        while opening and effort > 0:
            end, valid, tokens = _closing_bracket(text, opening.start(), effort)
            effort -= max(tokens, _JSON_ATTEMPT)
            found = _canonical_json(text[opening.start() : end]) if valid else None
            if found is not None:
                return found
            opening = _JSON_OPENING.search(text, opening.end() if valid else end)
    return None


def _closing_bracket(text: str, start: int, effort: int) -> tuple[int, bool, int]:
    """(end, whether it could be JSON, tokens read) of the span that opens at ``start``.

    One that nests too deep could not be, and ends where that shows; one that never closes ends with the text.
    """
    depth = tokens = 0
    for match in islice(_JSON_TOKEN.finditer(text, start), effort):
        tokens += 1
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
        if depth == 0 or depth > _DEEPEST_JSON:
            return match.end(), depth == 0, tokens
    return len(text), False, tokens


def _canonical_json(text: str) -> str | None:
    """Canonical text of a JSON object or array, or None. ``text`` must not nest deeper than the parser can."""
    if len(text) > _LONGEST_JSON or not text.strip().startswith(("{", "[")):
        return None
    try:
        return _dumps(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


# --- most_likely ----------------------------------------------------------------------------------------------------


@extractor("most_likely", ideal=_label_ideal)
def most_likely(
    sample: Sample,
    response: Response,
    *,
    normalise: Literal["none", "bytes", "characters", "tokens"] = "none",
) -> str | None:
    """The choice with the highest log-probability, the first of equals.

    ``normalise`` divides each by the UTF-8 bytes, characters or tokens of its choice, so that long choices are not at a
    disadvantage. A wrong number of log-probabilities, NaN, or a choice without length is no answer.
    """
    best = most_likely_index(sample.choices, response, normalise)
    return None if best is None else sample.choices[best]


def most_likely_index(choices: Sequence[str], response: Response, normalise: str) -> int | None:
    """Index of the most likely choice; see ``most_likely``."""
    by_unit: dict[str, Sequence[float]] = {
        "none": [1.0] * len(choices),
        "bytes": [len(choice.encode()) for choice in choices],
        "characters": [len(choice) for choice in choices],
        "tokens": response.choice_tokens,
    }
    lengths = by_unit[normalise]
    logprobs = response.logprobs
    if not choices or len(logprobs) != len(choices) or len(lengths) != len(choices) or min(lengths) <= 0:
        return None
    if any(math.isnan(value) for value in logprobs) or max(logprobs) == -math.inf:
        return None
    rates = [value / length for value, length in zip(logprobs, lengths, strict=True)]
    return rates.index(max(rates))
