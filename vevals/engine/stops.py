"""Stop strings: after which tokens one could stand complete, and where it begins. Pure: no torch, no strings decoded
that need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Text = Callable[[Sequence[int]], str]
_BROKEN = "\ufffd"
_SLACK = 8
"""Tokens beyond the longest stop string in bytes: for tokens without text, and for text that its neighbours change."""


class Pieces:
    """What each token adds to a text, decoded once and only for tokens that occur.

    A token is decoded behind another one, the anchor: decoders drop the space in front of a text's first word.
    """

    def __init__(self, text: Text) -> None:
        self.text = text
        self._anchor: tuple[int, str] | None = None
        self._known: dict[int, str | None] = {}

    def __getitem__(self, token: int) -> str | None:
        """The characters that ``token`` adds; None where that is unknown: parts of a character, no anchor so far."""
        if token not in self._known:
            self._set_anchor(token)
            if self._anchor is None:
                return None
            self._known[token] = self._piece(token, *self._anchor)
        return self._known[token]

    def _piece(self, token: int, anchor: int, before: str) -> str | None:
        both = self.text([anchor, token])
        whole = both.startswith(before) and _BROKEN not in both
        return both[len(before) :] if whole else None

    def _set_anchor(self, token: int) -> None:
        if self._anchor is None:
            text = self.text([token])
            if text.strip() and _BROKEN not in text:
                self._anchor = (token, text)


class Stops:
    """The stop strings of a request. One object serves all requests with the same ones."""

    def __init__(self, stops: Sequence[str], pieces: Pieces) -> None:
        self._stops = tuple(stops)
        self._lasts = frozenset(stop[-1] for stop in self._stops if stop)
        self._tail = max((len(stop.encode()) for stop in self._stops), default=0) + _SLACK
        self._pieces = pieces
        self._marks: dict[int, bool] = {}

    @property
    def text(self) -> Text:
        """Decodes new tokens."""
        return self._pieces.text

    def marks(self, token: int) -> bool:
        """Whether a stop string could stand complete after ``token``: it holds the last character of one.

        What a token adds may be unknown (it is a part of a character): then it could.
        """
        if not self._lasts:
            return False
        known = self._marks.get(token)
        if known is not None:
            return known
        piece = self._pieces[token]
        if piece is None:
            return True
        return self._marks.setdefault(token, not self._lasts.isdisjoint(piece))

    def cut(self, tokens: Sequence[int]) -> str | None:
        """The text of an answer before the earliest stop string, once its last token may have completed one.

        Only the tail that such a stop could lie in is decoded, and the whole answer on a hit.
        """
        if not self.marks(tokens[-1]):
            return None
        if not self._found(self.text(tokens[-self._tail :])):
            return None
        whole = self.text(tokens)
        found = self._found(whole)
        return whole[: min(found)] if found else None

    def _found(self, text: str) -> list[int]:
        return [place for stop in self._stops if (place := text.find(stop)) >= 0]
