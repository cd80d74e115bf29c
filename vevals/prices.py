"""What tokens and machine hours cost: a dated table, written by the user. Without an entry a cost is unknown, not 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vevals.errors import BenchmarkError
from vevals.places import config_folder
from vevals.spec import Strict, read_yaml, validate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "prices.yaml"
Amount = TypeVar("Amount", float, "NDArray[np.float64]")
MILLION = 1e6
HOUR = 3600.0


class PriceSpec(Strict):
    """One entry of ``prices.yaml``: US dollars for a million tokens, for an hour of the machine, or both."""

    usd_per_million_input: float = 0.0
    usd_per_million_output: float = 0.0
    usd_per_hour: float = 0.0
    date: str


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million input or output tokens and for an hour of model time, as of ``date``."""

    usd_per_million_input: float
    usd_per_million_output: float
    usd_per_hour: float
    date: str

    def usd(self, input_tokens: Amount, output_tokens: Amount, seconds: Amount) -> Amount:
        """What so many tokens and seconds of model time cost: numbers, or arrays of one shape."""
        tokens = input_tokens * self.usd_per_million_input + output_tokens * self.usd_per_million_output
        return tokens / MILLION + seconds * self.usd_per_hour / HOUR


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model title or pattern; an exact title wins, then the first pattern that matches."""

    entries: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model, None when nobody wrote one."""
        if model in self.entries:
            return self.entries[model]
        return next((price for pattern, price in self.entries.items() if fnmatchcase(model, pattern)), None)

    def usd(self, model: str, input_tokens: float, output_tokens: float, seconds: float) -> float | None:
        """What a model's work cost, None when its price is not known."""
        price = self.of(model)
        return None if price is None else price.usd(input_tokens, output_tokens, seconds)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a verdict: it must be recomputed with the prices that it used."""
        return {name: asdict(price) for name, price in self.entries.items()}


def from_json(body: Mapping[str, Mapping[str, Any]]) -> Prices:
    """What ``to_json`` wrote."""
    return Prices({name: Price(**entry) for name, entry in body.items()})


def load_prices(folder: Path | None = None) -> Prices:
    """``prices.yaml`` of the current folder, else that of the user's configuration; none at all is an empty table.

    Raises:
        BenchmarkError: file, line, and what is wrong.
    """
    for place in (folder or Path(), config_folder()):
        path = place / FILE
        if path.is_file():
            return _read(path)
    return Prices({})


def _read(path: Path) -> Prices:
    document, lines = read_yaml(path)
    if not isinstance(document, dict):
        raise BenchmarkError(f"{path}:1: expected 'model: {{usd_per_million_input: ..., date: ...}}' entries")
    entries = {}
    for name, body in document.items():
        spec = validate(PriceSpec, body, lines, path, (str(name),))
        where = f"{path}:{lines[(str(name),)]}"
        if min(spec.usd_per_million_input, spec.usd_per_million_output, spec.usd_per_hour) < 0:
            raise BenchmarkError(f"{where}: '{name}': a price is negative")
        try:
            date.fromisoformat(spec.date)
        except ValueError:
            raise BenchmarkError(f"{where}: '{name}': date is '{spec.date}'; write it as 2026-01-31") from None
        entries[str(name)] = Price(**spec.model_dump())
    return Prices(entries)
