"""Encoder-decoders (T5, BART): what becomes of messages and choices before they are sources and targets.

The forward passes are the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vevals.engine import files
from vevals.engine.load import Loaded
from vevals.engine.pairs import distinct
from vevals.engine.score import Likelihood
from vevals.engine.seq2seq import EncoderDecoder, Pair, answers, likelihoods
from vevals.engine.trie import Tokens
from vevals.engine.writing import Prompt
from vevals.models.hf.local import LocalModel
from vevals.models.hf.responses import answered, failed, no_memory, too_long, wrong_options
from vevals.models.hf.texts import Text, contexts, scored_contexts
from vevals.types import ErrorKind, Request, Response

BUDGET_TOKENS = {"cpu": 4096, "cuda": 32768}


class Seq2SeqModel(LocalModel):
    """An encoder-decoder: the prompt is its source. See ``vevals.models.Model`` and ``Scorer`` for the methods.

    Of a model's generation config only the token that every answer begins with is used: ``Options`` says the rest.
    """

    kind: ClassVar[files.Kind] = "seq2seq"
    _pair: EncoderDecoder | None = None

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        pair = self._pair_of(opened)
        prompts: list[tuple[Request, Prompt]] = []
        for request, source in self._sources(requests, opened):
            if isinstance(source, Response):
                yield source
            else:
                ends = opened.ends | {opened.specials[stop] for stop in request.options.stop if stop in opened.specials}
                prompts.append((request, Prompt(source, request.options, ends, f"{request.seed}/{request.id}")))
        for index, answer in answers(pair, [prompt for _, prompt in prompts], opened.text, self._budget(opened)):
            yield answered(*prompts[index], answer)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        pair = self._pair_of(opened)
        asked: list[_Asked] = []
        for one in self._asked(requests, opened):
            if isinstance(one, Response):
                yield one
            else:
                asked.append(one)
        owners = [(one, place) for one in asked for place in range(len(one.pairs))]
        pairs = [one.pairs[place] for one, place in owners]
        for index, found in likelihoods(pair, pairs, self._budget(opened)):
            one, place = owners[index]
            one.found[place] = found
            if len(one.found) == len(one.pairs):
                yield one.response()

    def close(self) -> None:
        self._pair = None
        super().close()

    def _pair_of(self, opened: Loaded) -> EncoderDecoder:
        if self._pair is None:
            self._pair = EncoderDecoder(opened.network, int(self._settings.max_length or 0) or None)
        return self._pair

    def _budget(self, opened: Loaded) -> int:
        return int(self._settings.batch_tokens or BUDGET_TOKENS.get(opened.network.device.type, 4096))

    def _sources(self, requests: Sequence[Request], opened: Loaded) -> Iterator[tuple[Request, Tokens | Response]]:
        """What each request's prompt is as a source."""
        wanted: list[tuple[Request, Text]] = []
        for request in requests:
            found = wrong_options(request) or self._no_room(request, opened) or contexts(request, opened)
            if isinstance(found, Response):
                yield request, found
            else:
                wanted.append((request, found[0]))
        known = _encoded([text for _, text in wanted], opened)
        for request, text in wanted:
            yield request, self._fit(request, known[text] or _prefix(opened), opened)

    def _no_room(self, request: Request, opened: Loaded) -> Response | None:
        wanted, limit = request.options.max_tokens, self._pair_of(opened).longest_target
        return None if limit is None or wanted <= limit else too_long(request, f"max_tokens={wanted}", limit)

    def _fit(self, request: Request, tokens: Tokens, opened: Loaded) -> Tokens | Response:
        """The source as the model can read it, cut on the left if that is asked for."""
        limit = self._pair_of(opened).longest_source
        if not tokens:
            return failed(request, ErrorKind.bad_request, "the prompt is empty; write one")
        if len(tokens) > limit and self._settings.truncate == "none":
            return too_long(request, f"{len(tokens)} prompt tokens", limit)
        return tokens[-limit:]

    def _asked(self, requests: Sequence[Request], opened: Loaded) -> Iterator[_Asked | Response]:
        wanted: list[tuple[Request, list[tuple[Text, Text]]]] = []
        for request in requests:
            texts = _texts(request, opened)
            if isinstance(texts, Response):
                yield texts
            else:
                wanted.append((request, texts))
        known = _encoded([text for _, texts in wanted for pair in texts for text in pair], opened)
        for request, texts in wanted:
            pairs = [
                _unconditional(known[target], opened) if not source[0] else (known[source], known[target])
                for source, target in texts
            ]
            yield self._fitted(request, pairs, opened)

    def _fitted(self, request: Request, pairs: Sequence[Pair], opened: Loaded) -> _Asked | Response:
        """Pairs that the model can read. As in lm-eval, a source is cut and a target is not."""
        limit = self._pair_of(opened).longest_target
        fitted: list[Pair] = []
        for (tokens, target), choice in zip(pairs, request.choices, strict=True):
            source = self._fit(request, tokens, opened)
            if isinstance(source, Response):
                return source
            if not target:
                return failed(request, ErrorKind.bad_request, f"the choice {choice!r} has no tokens")
            if limit is not None and len(target) > limit:
                return too_long(request, f"{len(target)} tokens of a choice", limit)
            fitted.append((source, target))
        return _Asked(request, fitted, {})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request being scored: its pairs, and what is known of them by place."""

    request: Request
    pairs: Sequence[Pair]
    found: dict[int, Likelihood | None]

    def response(self) -> Response:
        known = [one for place in range(len(self.pairs)) if (one := self.found[place]) is not None]
        if len(known) < len(self.pairs):
            return no_memory(self.request)
        return Response(
            self.request.id,
            logprobs=tuple(one.logprob for one in known),
            choice_tokens=tuple(len(target) for _, target in self.pairs),
            greedy=tuple(one.greedy for one in known),
            input_tokens=max(len(source) for source, _ in self.pairs),
            seconds=sum(one.seconds for one in known),
        )


def _texts(request: Request, opened: Loaded) -> list[tuple[Text, Text]] | Response:
    """(source, target) of each choice. White space at the end of a source goes to the front of its targets.

    Source: the pair rule of lm-evaluation-harness for encoder-decoders, ``TemplateLM._encode_pair``.
    """
    found = scored_contexts(request, opened)
    if isinstance(found, Response):
        return found
    every = found * len(request.choices) if len(found) == 1 else found
    return [
        ((text.rstrip(), special), (text[len(text.rstrip()) :] + choice, False))
        for (text, special), choice in zip(every, request.choices, strict=True)
    ]


def _encoded(texts: Iterable[Text], opened: Loaded) -> Mapping[Text, Tokens]:
    return {text: tuple(ids) for text, ids in distinct(texts, opened.encode).items()}


def _prefix(opened: Loaded) -> Tokens:
    return () if opened.prefix is None else (opened.prefix,)


def _unconditional(target: Tokens, opened: Loaded) -> Pair:
    """A choice behind no text: the prefix token is the source, unless the choice brings that token along."""
    prefix = _prefix(opened)
    return (target[:1], target[1:]) if target[:1] == prefix else (prefix, target)
