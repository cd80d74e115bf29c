"""The next token of each row: the most likely one, or one drawn by a number that belongs to the row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vevals.types import Options

if TYPE_CHECKING:
    import torch

Draw = tuple[Options, float]
"""Options of a row, and a number from 0 to 1 (exclusive)."""
_BITS = 52
_LIKELY = 1024
"""How many of the most likely tokens are sorted at first: nearly always they hold all of ``top_p``."""


def uniform(draw: str, step: int) -> float:
    """A number from 0 to 1 for token ``step`` of the row with the key ``draw``: no state, so nothing can shift it."""
    digest = hashlib.blake2b(f"{draw}/{step}".encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - _BITS)) / 2**_BITS)


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Tokens (B,) for logits (B, V) in float32, on their device. Temperature 0 takes the most likely one.

    Each row is treated by itself: what the others ask for changes nothing.
    Source of ``top_p``: Holtzman et al., The Curious Case of Neural Text Degeneration, arXiv:1904.09751.
    """
    chosen = logits.argmax(-1)
    warm = [row for row, (options, _) in enumerate(draws) if options.temperature > 0]
    cut = [row for row in warm if draws[row][0].top_p < 1]
    plain = [row for row in warm if draws[row][0].top_p >= 1]
    if plain:
        chosen[plain] = _by_number(_probabilities(logits, draws, plain), _numbers(logits, draws, plain))
    if cut:
        chosen[cut] = _nucleus(_probabilities(logits, draws, cut), [draws[row] for row in cut])
    return chosen


def sample(logits: torch.Tensor, options: Options, number: float) -> int:
    """The token at ``number`` (0 to 1) of one row's cumulative distribution. Logits (V,) are float32."""
    return int(choose(logits[None], [(options, number)]))


def _probabilities(logits: torch.Tensor, draws: Sequence[Draw], rows: Sequence[int]) -> torch.Tensor:
    picked = logits[rows]
    heat = logits.new_tensor([draws[row][0].temperature for row in rows])
    return ((picked - picked.amax(-1, keepdim=True)) / heat[:, None]).softmax(-1)


def _numbers(logits: torch.Tensor, draws: Sequence[Draw], rows: Sequence[int]) -> torch.Tensor:
    return logits.new_tensor([draws[row][1] for row in rows], dtype=_double())


def _double() -> torch.dtype:
    import torch

    return torch.float64


def _by_number(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Places (B,) in rows of weights (B, N), each at its number's share of the row's sum. Sums are in float64."""
    total = weights.cumsum(-1, dtype=_double())
    place = (total <= numbers[:, None] * total[:, -1:]).sum(-1)
    return place.clamp(max=weights.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Tokens (B,) drawn from the fewest tokens that hold ``top_p`` of the probability (B, V).

    On the CPU sorting the whole vocabulary costs more than the forward pass: only rows that need it pay for it. Which
    ones do depends on each row alone. On a device, asking would cost a wait.
    """
    limits = probabilities.new_tensor([options.top_p for options, _ in draws], dtype=_double())
    numbers = probabilities.new_tensor([number for _, number in draws], dtype=_double())
    if probabilities.device.type != "cpu" or probabilities.shape[-1] <= _LIKELY:
        values, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        return _from_top(values, tokens, limits, numbers)
    values, tokens = probabilities.topk(_LIKELY)
    chosen = _from_top(values, tokens, limits, numbers)
    short = values.sum(-1, dtype=_double()) < limits
    if bool(short.any()):
        values, tokens = probabilities[short].sort(dim=-1, descending=True, stable=True)
        chosen[short] = _from_top(values, tokens, limits[short], numbers[short])
    return chosen


def _from_top(values: torch.Tensor, tokens: torch.Tensor, limits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Tokens (B,) from probabilities (B, N), most likely first, cut where they reach their limit."""
    before = values.cumsum(-1, dtype=_double()) - values
    kept = before < limits[:, None]
    kept[:, 0] = True
    place = _by_number(values * kept, numbers)
    return tokens.gather(-1, place.clamp_max(kept.sum(-1) - 1)[:, None])[:, 0]
