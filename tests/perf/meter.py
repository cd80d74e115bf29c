"""Counters and memory, the same for every tool: hooks on the embedding and on the head, and what the system says.

Every model that transformers loads in this process is watched, whoever asked for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class TooSlow(Exception):
    """A run has reached its time limit; what it computed so far is thrown away."""


@dataclass(slots=True)
class Counts:
    """``tokens`` went through the embedding, ``fills`` of them only to fill up rows, in ``calls`` calls.

    ``head_rows`` positions went through the output head.
    """

    tokens: int = 0
    fills: int = 0
    calls: int = 0
    head_rows: int = 0


class Meter:
    """Counts what models do. ``fills`` are the token ids that rows are filled up with."""

    def __init__(self, fills: Sequence[int]) -> None:
        self._fills = sorted(set(fills))
        self._watched: list[Any] = []
        self.counts = Counts()

    def follow(self) -> None:
        """Watch all models that ``from_pretrained`` gives from now on."""
        from transformers import PreTrainedModel

        original = PreTrainedModel.from_pretrained.__func__

        def recorded(kind: Any, *given: Any, **named: Any) -> Any:
            found = original(kind, *given, **named)
            self.watch(found[0] if isinstance(found, tuple) else found)
            return found

        PreTrainedModel.from_pretrained = classmethod(recorded)

    def watch(self, model: Any) -> None:
        """Count the tokens, calls and head rows of ``model`` from now on."""
        if any(model is known for known in self._watched):
            return
        self._watched.append(model)
        for module in _embeddings(model):
            module.register_forward_hook(self._embedded)
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_hook(self._headed)

    def _embedded(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.counts.tokens += inputs[0].numel()
        self.counts.calls += 1
        self.counts.fills += sum(int((inputs[0] == fill).sum()) for fill in self._fills)

    def _headed(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.counts.head_rows += output.numel() // output.shape[-1]

    def taken(self) -> dict[str, int]:
        """What was counted since the last call."""
        found, self.counts = asdict(self.counts), Counts()
        return found

    @contextlib.contextmanager
    def limit(self, seconds: float | None, call_tokens: int) -> Iterator[None]:
        """Raise ``TooSlow`` in the first layer that begins after ``seconds``. None: no limit, and no hooks.

        A single call of more than ``call_tokens`` tokens is stopped at once: it is sure to take longer.
        """
        if seconds is None:
            yield
            return
        end = time.perf_counter() + seconds

        def check(module: Any, inputs: Any) -> None:
            if time.perf_counter() > end:
                raise TooSlow(f"more than {seconds:.0f} s")

        def size(module: Any, inputs: Any) -> None:
            if inputs[0].numel() > call_tokens:
                raise TooSlow(f"more than {seconds:.0f} s: one call of {inputs[0].numel()} tokens")

        handles = [layer.register_forward_pre_hook(check) for model in self._watched for layer in _layers(model)]
        handles += [part.register_forward_pre_hook(size) for model in self._watched for part in _embeddings(model)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _embeddings(model: Any) -> list[Any]:
    """The modules that turn token ids into vectors: one, or one each for encoder and decoder."""
    names = ("shared", "embed_tokens", "wte", "embed_in", "word_embeddings")
    found = [model.get_input_embeddings()]
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in names and not any(module is known for known in found):
            found.append(module)
    return found


def _layers(model: Any) -> list[Any]:
    import torch

    return [layer for module in model.modules() if isinstance(module, torch.nn.ModuleList) for layer in module]


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return _status("VmRSS")


def forget_peak() -> bool:
    """Give freed memory back and start the peak anew; False where the system cannot do that."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak() -> int:
    """The most bytes in memory since ``forget_peak``."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {name}; memory cannot be measured on this system")


def keep_within_memory() -> None:
    """Make this process fail alone, with an error, where it would take more than 70 % of what is free now."""
    import resource

    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024 * 7 // 10
            resource.setrlimit(resource.RLIMIT_DATA, (free, resource.getrlimit(resource.RLIMIT_DATA)[1]))
