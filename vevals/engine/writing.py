"""An answer while it is written: what is asked, what has come so far, and what ends it. Pure: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vevals.engine.stops import Pieces, Stops, Text
from vevals.engine.trie import Tokens
from vevals.types import FinishReason, Options


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue. ``ends`` are the tokens that end the answer; ``draw`` seeds the sampling of this row alone."""

    tokens: Tokens
    options: Options
    ends: frozenset[int]
    draw: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated text, without what ended it. ``tokens`` counts up to and with the token that ended it."""

    text: str
    tokens: int
    finish: FinishReason
    seconds: float


@dataclass(slots=True, eq=False)
class Writing:
    """One answer while it is written. ``index`` is the prompt's; ``tokens`` are the new ones.

    ``lead``: how many tokens of the prompt are read together with other prompts that begin alike.
    """

    index: int
    prompt: Prompt
    stops: Stops
    lead: int = 0
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    answer: Answer | None = None

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.answer is None

    @property
    def total(self) -> int:
        """Tokens that it may come to, the prompt's included."""
        return len(self.prompt.tokens) + self.prompt.options.max_tokens

    @property
    def read(self) -> Tokens:
        """All that the model must have read before the next token: the prompt, and the answer so far."""
        return (*self.prompt.tokens, *self.tokens)

    def add(self, token: int, seconds: float) -> None:
        """One more token, and the time that it took. ``answer`` is there if that ends it."""
        self.tokens.append(token)
        self.seconds += seconds
        if token in self.prompt.ends:
            self._end(self.stops.text(self.tokens[:-1]), FinishReason.stop)
        elif (cut := self.stops.cut(self.tokens)) is not None:
            self._end(cut, FinishReason.stop)
        elif len(self.tokens) >= self.prompt.options.max_tokens:
            self._end(self.stops.text(self.tokens), FinishReason.length)

    def _end(self, text: str, finish: FinishReason) -> None:
        self.answer = Answer(text, len(self.tokens), finish, self.seconds)


def writings(prompts: Sequence[Prompt], text: Text) -> list[Writing]:
    """An empty answer for each prompt. Prompts with the same stop strings share what is known about them."""
    pieces = Pieces(text)
    tables = {stops: Stops(stops, pieces) for stops in {prompt.options.stop for prompt in prompts}}
    return [Writing(index, prompt, tables[prompt.options.stop]) for index, prompt in enumerate(prompts)]
