"""Causal language models: what becomes of messages and choices before they are tokens, and of tokens afterwards.

The forward passes are the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vevals.engine.decode import Prompt, answers
from vevals.engine.load import Loaded
from vevals.engine.pairs import Cuts, Pair, Part, Question, encoded
from vevals.engine.plan import Tokens
from vevals.engine.rolling import rolling
from vevals.engine.score import Likelihood, likelihoods
from vevals.models.hf.local import LocalModel
from vevals.models.hf.responses import answered, failed, no_memory, too_long, wrong_options
from vevals.models.hf.texts import contexts, scored_contexts
from vevals.types import ErrorKind, Request, Response

SCORE_TOKENS = {"cpu": 512, "cuda": 16384}
"""Tokens in a forward pass that scores. On a CPU more than a few hundred bring no speed."""
GENERATE_TOKENS = {"cpu": 4096, "cuda": 16384}
SLAB_CHARACTERS = 20_000_000
"""Contexts x choices that are encoded in one call; the tokenizer takes about 25 bytes of memory for each character."""
TAIL_WORDS = (3, 6, 10, 16)
"""How many words before the end of a context its tokens may be cut, the first that fits."""
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\u3000-\u303f]")


class CausalModel(LocalModel):
    """A causal language model. See ``vevals.models.Model`` and ``Scorer`` for what the methods promise.

    Sampling defaults of a model's generation config are not used: ``Options`` says everything, and greedy is greedy.
    """

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        prompts: list[tuple[Request, Prompt]] = []
        for request, prompt in self._prompts(requests, opened):
            if isinstance(prompt, Response):
                yield prompt
            else:
                prompts.append((request, prompt))
        budget = self._budget(opened, GENERATE_TOKENS)
        for index, answer in answers(opened.network, [prompt for _, prompt in prompts], opened.text, budget):
            yield answered(*prompts[index], answer)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        open_ones: list[_Asked] = []
        for asked in self._asked(requests, opened):
            if isinstance(asked, Response):
                yield asked
            else:
                open_ones.append(asked)
        owners = [(asked, place) for asked in open_ones for place in range(len(asked.pairs))]
        pairs = [asked.pairs[place] for asked, place in owners]
        for index, found in likelihoods(opened.network, pairs, self._budget(opened, SCORE_TOKENS)):
            asked, place = owners[index]
            asked.found[place] = found
            if len(asked.found) == len(asked.pairs):
                yield asked.response()

    def rolling(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Whole texts (``prompts``), of any length; the tokenizer adds its special tokens as it does by itself."""
        opened = self._open()
        texts: list[tuple[Request, Tokens]] = []
        for request, tokens in zip(requests, _whole_texts(requests, opened), strict=True):
            if opened.prefix is None or not tokens or not "".join(request.prompts):
                what = "the text is empty" if opened.prefix is not None else "the tokenizer has no token to begin with"
                yield failed(request, ErrorKind.bad_request, f"{what}; nothing can be scored")
            else:
                texts.append((request, tokens))
        wanted = [tokens for _, tokens in texts]
        budget = self._budget(opened, SCORE_TOKENS)
        for index, found in rolling(opened.network, wanted, opened.prefix or 0, budget):
            yield _rolled(*texts[index], found)

    @property
    def conditions(self) -> Mapping[str, Any]:
        """How it ran: besides device and dtype, how much its forward passes shared, and how text was generated."""
        known: dict[str, Any] = dict(super().conditions)
        if self._opened is None:
            return known
        network = self._opened.network
        level = None if network.level is None else network.level.name
        found = {"level": level, "generation": network.generation, "batch_tokens": self._settings.batch_tokens}
        return {**known, **{name: value for name, value in found.items() if value}}

    def _budget(self, opened: Loaded, defaults: Mapping[str, int]) -> int:
        return int(self._settings.batch_tokens or defaults.get(opened.network.device.type, 4096))

    def _prompts(self, requests: Sequence[Request], opened: Loaded) -> Iterator[tuple[Request, Prompt | Response]]:
        texts: list[tuple[Request, str, bool]] = []
        for request in requests:
            found = wrong_options(request) or contexts(request, opened)
            if isinstance(found, Response):
                yield request, found
            else:
                texts.append((request, *found[0]))
        for special in (True, False):
            chosen = [(request, text) for request, text, wanted in texts if wanted is special]
            ids = opened.encode([text for _, text in chosen], special) if chosen else []
            for (request, _), tokens in zip(chosen, ids, strict=True):
                yield request, self._prompt(request, tuple(tokens), opened)

    def _prompt(self, request: Request, tokens: Tokens, opened: Loaded) -> Prompt | Response:
        if not tokens and opened.prefix is not None:
            tokens = (opened.prefix,)
        if not tokens:
            return failed(request, ErrorKind.bad_request, "the prompt is empty; write one")
        room = opened.network.max_length - request.options.max_tokens
        if len(tokens) > room and (self._settings.truncate == "none" or room < 1):
            wanted = f"{len(tokens)} prompt tokens and {request.options.max_tokens} new ones"
            return too_long(request, wanted, opened.network.max_length)
        ends = opened.ends | {opened.specials[stop] for stop in request.options.stop if stop in opened.specials}
        return Prompt(tokens[-room:], request.options, ends, f"{request.seed}/{request.id}")

    def _asked(self, requests: Sequence[Request], opened: Loaded) -> Iterator[_Asked | Response]:
        for part in _slabs(requests):
            slab: list[tuple[Request, list[Question]]] = []
            for request in part:
                questions = self._questions(request, opened)
                if isinstance(questions, Response):
                    yield questions
                else:
                    slab.append((request, questions))
            asked = [one for _, questions in slab for one in questions]
            found = iter(encoded(asked, opened.encode, opened.prefix, _cuts(opened)))
            for request, questions in slab:
                parts = [part for _ in questions for part in next(found)]
                yield self._fitted(request, parts, opened.network.max_length)

    def _questions(self, request: Request, opened: Loaded) -> list[Question] | Response:
        """One question, or one for each choice where each has a prompt of its own."""
        found = scored_contexts(request, opened)
        if isinstance(found, Response):
            return found
        joined = bool(request.prompts) or opened.template is not None
        ends = [choice if joined else _delimiter(found[0][0], choice) + choice for choice in request.choices]
        if len(found) == 1:
            return [Question(found[0][0], tuple(ends), found[0][1])]
        return [Question(text, (end,), special) for (text, special), end in zip(found, ends, strict=True)]

    def _fitted(self, request: Request, parts: Sequence[Part], limit: int) -> _Asked | Response:
        """Pairs that the model can read, cut on the left if that is asked for. As in lm-eval, each pair by itself."""
        fitted: list[Pair] = []
        for (context, ending, spaces), choice in zip(parts, request.choices, strict=True):
            if not context or len(ending) <= spaces:
                return failed(request, ErrorKind.bad_request, f"the choice {choice!r} has no tokens after the prompt")
            kept = limit + 1 - len(ending)
            if kept < len(context) and (self._settings.truncate == "none" or kept < 1):
                return too_long(request, f"{len(context)} prompt tokens and {len(ending)} of a choice", limit)
            fitted.append((context[-kept:], ending))
        return _Asked(request, fitted, [spaces for _, _, spaces in parts], {})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request being scored: its pairs, and what is known of them by place.

    ``spaces`` are tokens of the prompt that are scored with the choice, for the pair rule's sake; they count as input.
    """

    request: Request
    pairs: Sequence[Pair]
    spaces: Sequence[int]
    found: dict[int, Likelihood | None]

    def response(self) -> Response:
        known = [one for place in range(len(self.pairs)) if (one := self.found[place]) is not None]
        if len(known) < len(self.pairs):
            return no_memory(self.request)
        sized = list(zip(self.pairs, self.spaces, strict=True))
        return Response(
            self.request.id,
            logprobs=tuple(one.logprob for one in known),
            choice_tokens=tuple(len(ending) - spaces for (_, ending), spaces in sized),
            greedy=tuple(one.greedy for one in known),
            input_tokens=max(len(context) + spaces for (context, _), spaces in sized),
            seconds=sum(one.seconds for one in known),
        )


def _delimiter(context: str, choice: str) -> str:
    """A space between plain text and a choice, where the language and the text call for one."""
    return "" if not context or context[-1].isspace() or _CJK.match(choice) else " "


def _slabs(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Requests in order, as many at a time as may be encoded together."""
    start, size = 0, 0
    for index, request in enumerate(requests):
        texts = [message.content for message in request.messages] + list(request.prompts)
        length = sum(map(len, texts)) * max(1, len(request.choices))
        if index > start and size + length > SLAB_CHARACTERS:
            yield requests[start:index]
            start, size = index, 0
        size += length
    yield requests[start:]


def _cuts(opened: Loaded) -> Cuts | None:
    """Where words begin for the tokenizer, if it says so; nowhere in a text that it would normalise first."""
    backend = getattr(opened.tokenizer, "backend_tokenizer", None)
    splitter = getattr(backend, "pre_tokenizer", None)
    if backend is None or splitter is None:
        return None

    def starts(text: str) -> list[int]:
        if backend.normalizer is not None and backend.normalizer.normalize_str(text) != text:
            return []
        words = splitter.pre_tokenize_str(text)
        return [words[-count][1][0] for count in TAIL_WORDS if count < len(words)]

    return starts


def _whole_texts(requests: Sequence[Request], opened: Loaded) -> list[Tokens]:
    texts = ["".join(request.prompts) for request in requests]
    return [tuple(tokens) for tokens in opened.encode(texts, True)] if texts else []


def _rolled(request: Request, tokens: Tokens, found: Likelihood | None) -> Response:
    if found is None:
        return no_memory(request)
    return Response(
        request.id,
        logprobs=(found.logprob,),
        choice_tokens=(len(tokens),),
        greedy=(found.greedy,),
        input_tokens=len(tokens),
        seconds=found.seconds,
    )
