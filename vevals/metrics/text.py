"""Metrics of free text and numbers: matches, token F1, ROUGE, BLEU, chrF. All are 0 to 1 and take the best reference.

``normalise`` is a list of named steps that are applied in the order given, to answer and target alike: ``width``
(Unicode NFKC: full-width forms become plain ones), ``case``, ``punctuation`` (removed), ``articles`` (English a, an,
the), ``whitespace`` (runs become one space, none at the ends).
"""

from __future__ import annotations

import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vevals.catalogue import Least
from vevals.extract import find_phrase, numbers
from vevals.metrics.base import Prepared, metric
from vevals.types import Response, Sample, Scored

Step = Literal["width", "case", "punctuation", "articles", "whitespace"]
Tokens = Literal["words", "characters", "jieba"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_LATIN = re.compile(r"[a-z0-9]+")
_MOST_MARKS = 30  # combining characters in a row, as in Unicode's Stream-Safe Text Format (UAX #15)


def normalised(text: str, steps: Sequence[Step]) -> str:
    """``text`` after the named steps, in their order."""
    for step in steps:
        text = _STEPS[step](text)
    return text


def _width(text: str) -> str:
    """NFKC. Longer runs of combining characters are cut: sorting them takes quadratic time and no language has them."""
    if text.isascii():
        return text
    run, kept = 0, []
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= _MOST_MARKS:
            kept.append(character)
    return unicodedata.normalize("NFKC", "".join(kept))


@cache
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


_STEPS: dict[str, Callable[[str], str]] = {
    "width": _width,
    "case": str.casefold,
    "punctuation": lambda text: "".join(character for character in text if not _is_punctuation(character)),
    "articles": lambda text: _ARTICLES.sub(" ", text),
    "whitespace": lambda text: " ".join(text.split()),
}

_LIGHT: tuple[Step, ...] = ("width", "case", "whitespace")
_SQUAD: tuple[Step, ...] = ("width", "case", "punctuation", "articles", "whitespace")


def _answer(response: Response) -> str:
    if response.answer is None:
        raise ValueError("there is no answer to judge")
    return response.answer


def _references(sample: Sample) -> tuple[str, ...]:
    if not sample.target:
        raise ValueError("the sample has no target")
    return sample.target


# --- matches --------------------------------------------------------------------------------------------------------


@metric(binary=True)
def exact_match(sample: Sample, response: Response, *, normalise: Sequence[Step] = _LIGHT) -> bool:
    """Whether the answer equals a target.

    Default steps: width, case, whitespace. Punctuation counts, for "-5" is not "5" and "C++" is not "C".
    """
    answer = normalised(_answer(response), normalise)
    return any(answer == normalised(target, normalise) for target in _references(sample))


@metric(binary=True)
def includes(sample: Sample, response: Response, *, normalise: Sequence[Step] = _LIGHT) -> bool:
    """Whether a target occurs in the answer, as whole words (no boundaries in Chinese and Japanese).

    Default steps: width, case, whitespace.
    """
    answer = normalised(_answer(response), normalise)
    targets = [normalised(target, normalise) for target in _references(sample)]
    return any(answer == target or find_phrase(answer, target) >= 0 for target in targets)


@metric()
def token_f1(
    sample: Sample, response: Response, *, tokens: Tokens = "words", normalise: Sequence[Step] = _SQUAD
) -> float:
    """F1 of the bags of tokens, the best over the references; 1 if both are empty after the steps.

    Default steps: all five, which with ``words`` is the F1 of SQuAD. Source: arXiv:1606.05250.
    """
    answer = _split(normalised(_answer(response), normalise), tokens)
    return max(_bag_f1(answer, _split(normalised(target, normalise), tokens)) for target in _references(sample))


def _bag_f1(left: Sequence[str], right: Sequence[str]) -> float:
    if not left and not right:
        return 1.0
    shared = (Counter(left) & Counter(right)).total()
    return 2 * shared / (len(left) + len(right))


@metric(binary=True)
def number_match(
    sample: Sample,
    response: Response,
    *,
    tolerance: Annotated[float, Least(0.0)] = 0.0,
    relative: Annotated[float, Least(0.0)] = 0.0,
    any: bool = False,
) -> bool:
    """Whether the number of the answer is a target's, compared exactly, or within a tolerance.

    ``tolerance`` is absolute, ``relative`` a share of the target; the larger counts. An answer of several numbers
    matches nothing, unless ``any``: then one of them must match, and numbers are runs of digits with an optional
    decimal part, without sign and thousands separators, as in LawBench's official scoring of amounts (``jetq.py``).
    """
    read = _digit_runs if any else _single_number
    given = read(_answer(response))
    wanted = [_target_number(target) for target in _references(sample)]
    return _some_near(given, wanted, Fraction(str(tolerance)), Fraction(str(relative)))


def _some_near(given: Sequence[Fraction], wanted: Sequence[Fraction], tolerance: Fraction, relative: Fraction) -> bool:
    return any(abs(value - gold) <= max(tolerance, relative * abs(gold)) for gold in wanted for value in given)


def _digit_runs(text: str) -> list[Fraction]:
    return [Fraction(Decimal(run)) for run in re.findall(r"\d+\.?\d*", text) if len(run) <= 400]


def _single_number(text: str) -> list[Fraction]:
    found = list(numbers(text))
    return found if len(found) == 1 else []


def _target_number(target: str) -> Fraction:
    found = _single_number(target)
    if not found:
        raise ValueError(f"the target '{target}' is not one number")
    return found[0]


# --- tokens ---------------------------------------------------------------------------------------------------------


def _split(text: str, tokens: Tokens) -> list[str]:
    if tokens == "words":
        return text.split()
    if tokens == "characters":
        return [character for character in text if not character.isspace()]
    return [token for token in _jieba().lcut(text) if not token.isspace()]


@cache
def _jieba() -> Any:
    """The jieba segmenter, without what it says while it loads."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(logging.ERROR)
    return jieba


# --- ROUGE ----------------------------------------------------------------------------------------------------------


class _Tokenizer:
    """What rouge-score asks of a tokenizer, for text in which spaces do not separate words."""

    def __init__(self, tokens: Tokens, stemmer: bool) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self.tokens = tokens
        self.latin = DefaultTokenizer(stemmer)

    def tokenize(self, text: str) -> list[str]:
        """Lower case, without punctuation; Latin words are stemmed as rouge-score does, if at all."""
        kept = (token for token in _split(text.lower(), self.tokens) if not all(map(_is_punctuation, token)))
        return [part for token in kept for part in (self.latin.tokenize(token) if _LATIN.fullmatch(token) else [token])]


@cache
def _scorer(kind: str, stemmer: bool, tokens: Tokens) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = None if tokens == "words" else _Tokenizer(tokens, stemmer)
    return RougeScorer([kind], use_stemmer=stemmer, tokenizer=tokenizer)


@lru_cache(maxsize=4096)
def _has_tokens(target: str, tokens: Tokens) -> bool:
    return bool(_scorer("rouge1", False, tokens).score(target, target)["rouge1"].fmeasure)


def _rouge(kind: str, sample: Sample, response: Response, stemmer: bool, tokens: Tokens) -> float:
    scorer, references = _scorer(kind, stemmer, tokens), _references(sample)
    for target in references:
        if not _has_tokens(target, tokens):
            raise ValueError(f"'{target[:40]}' has no token with tokens: {tokens}; Chinese needs characters or jieba")
    return max(float(scorer.score(target, _answer(response))[kind].fmeasure) for target in references)


@metric()
def rouge1(sample: Sample, response: Response, *, stemmer: bool = True, tokens: Tokens = "words") -> float:
    """ROUGE-1 F-measure by rouge-score, the best over the references. Source: Lin 2004, aclanthology.org/W04-1013.

    ``words`` are runs of a-z and 0-9, so that Chinese text has none: use ``characters`` or ``jieba`` there.
    """
    return _rouge("rouge1", sample, response, stemmer, tokens)


@metric()
def rouge2(sample: Sample, response: Response, *, stemmer: bool = True, tokens: Tokens = "words") -> float:
    """ROUGE-2 F-measure; see ``rouge1``."""
    return _rouge("rouge2", sample, response, stemmer, tokens)


@metric(name="rougeL")
def rouge_l(sample: Sample, response: Response, *, stemmer: bool = True, tokens: Tokens = "words") -> float:
    """ROUGE-L F-measure (longest common subsequence); see ``rouge1``."""
    return _rouge("rougeL", sample, response, stemmer, tokens)


@metric(name="rougeLsum")
def rouge_lsum(sample: Sample, response: Response, *, stemmer: bool = True, tokens: Tokens = "words") -> float:
    """ROUGE-L F-measure of a summary whose sentences stand on lines of their own; see ``rouge1``."""
    return _rouge("rougeLsum", sample, response, stemmer, tokens)


# --- BLEU and chrF --------------------------------------------------------------------------------------------------

BleuTokens = Literal["13a", "zh", "char", "intl", "none"]
_ORDERS = 4


@cache
def _bleu_scorer(tokens: str, lowercase: bool) -> Any:
    """Scores one sentence with the orders that it has; its counts do not depend on that."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokens, lowercase=lowercase, effective_order=True)


def _bleu_statistic(rows: Sequence[Scored], *, tokens: BleuTokens, lowercase: bool) -> Prepared:
    """BLEU of the corpus from summed counts, by sacrebleu: two lengths, matched and all n-grams, (rows, 10)."""
    from sacrebleu.metrics import BLEU

    scorer = _bleu_scorer(tokens, lowercase)
    scores = [scorer.sentence_score(row.response.answer or "", _references(row.sample)) for row in rows]
    counts = np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], dtype=np.int64)

    def over(indices: NDArray[np.intp]) -> float:
        answered, wanted, *grams = counts[indices].sum(axis=0).tolist()
        whole = BLEU.compute_bleu(grams[:_ORDERS], grams[_ORDERS:], answered, wanted, smooth_method="exp")
        return min(float(whole.score) / 100, 1.0)

    return over


@metric(statistic=_bleu_statistic)
def bleu(sample: Sample, response: Response, *, tokens: BleuTokens = "13a", lowercase: bool = False) -> float:
    """Corpus BLEU of sacrebleu (up to 4-grams, exponential smoothing), 0 to 1; no answer is an empty translation.

    ``tokens`` is sacrebleu's tokenizer: ``zh`` for Chinese. Per row: BLEU of the sentence over the orders it has. A
    corpus of targets with fewer than 4 tokens has no 4-grams, so that even the targets themselves score 0. An empty
    translation costs only length, a bad one precision too: the corpus can score higher for it.
    Source: arXiv:1804.08771.
    """
    score = _bleu_scorer(tokens, lowercase).sentence_score(_answer(response), _references(sample))
    return float(score.score) / 100


@metric()
def chrf(sample: Sample, response: Response) -> float:
    """chrF2 of each sentence by sacrebleu (character n-grams up to 6, recall twice as heavy), 0 to 1, then averaged.

    This is not the corpus chrF, which pools the counts. Source: aclanthology.org/W15-3049.
    """
    return float(_chrf_scorer().sentence_score(_answer(response), _references(sample)).score) / 100


@cache
def _chrf_scorer() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
