"""What every tool under measurement is, and vevals as one of them: through its own model class, as a user has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from perf.workloads import Item, Kind, Part


@dataclass(frozen=True, slots=True)
class Task:
    """Requests of one kind. ``setting`` is the tool's batch size; ``extra`` is what only the floor needs."""

    kind: Kind
    items: tuple[Item, ...]
    setting: str | None
    extra: Mapping[str, Any]


class Tool(Protocol):
    """``prepared`` does all that is not measured, ``results`` makes plain lists of what the measured step gave.

    A result has ``logprobs`` and ``greedy`` (one entry a choice), or ``text``.
    """

    def __init__(self, folder: Path, part: Part) -> None: ...

    def prepared(self, task: Task) -> Callable[[], Any]: ...

    def results(self, raw: Any) -> list[dict[str, Any]]: ...


class Vevals:
    """The engine of this repository, loaded by name; prompts are plain texts, without a chat template."""

    def __init__(self, folder: Path, part: Part) -> None:
        from vevals.models import load_model

        self._model: Any = load_model(f"hf:{folder}?device=cpu&dtype=float32")

    def prepared(self, task: Task) -> Callable[[], Any]:
        from vevals.types import Options, Request

        requests = [
            Request(
                item.id,
                task.kind,
                (),
                Options(max_tokens=item.max_tokens or 1, stop=item.stop),
                item.choices,
                prompts=(item.context,),
            )
            for item in task.items
        ]
        places = {item.id: place for place, item in enumerate(task.items)}
        ask = getattr(self._model, task.kind)

        def step() -> list[Any]:
            found: list[Any] = [None] * len(places)
            for response in ask(requests):
                found[places[response.id]] = response
            return found

        return step

    def results(self, raw: Any) -> list[dict[str, Any]]:
        return [self._result(response) for response in raw]

    @staticmethod
    def _result(response: Any) -> dict[str, Any]:
        if response is None or response.failed:
            raise RuntimeError(f"vevals did not answer: {getattr(response, 'error', 'no response')}")
        if response.logprobs:
            return {"logprobs": list(response.logprobs), "greedy": list(response.greedy)}
        return {"text": response.text, "new": response.output_tokens}
