"""The peers: lm-eval's ``hf`` model (causal and seq2seq) and the pipeline of transformers (classification)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf.tools import Task
from perf.workloads import Item, Part


class LmEval:
    """lm-eval's HFLM in float32 with sdpa. The setting is ``batch_size``: a number or ``auto``."""

    def __init__(self, folder: Path, part: Part) -> None:
        from lm_eval.models.huggingface import HFLM

        backend = "seq2seq" if part == "seq2seq" else "causal"
        shape = {"device": "cpu", "dtype": "float32", "batch_size": 1, "backend": backend}
        if backend == "causal":
            shape["attn_implementation"] = "sdpa"
        self._model: Any = HFLM(pretrained=str(folder), **shape)
        self._items: tuple[Item, ...] = ()

    def prepared(self, task: Task) -> Callable[[], Any]:
        from lm_eval.api.instance import Instance

        name, arguments = _ARGUMENTS[task.kind]
        given = [one for item in task.items for one in arguments(item)]
        instances = [Instance(name, {}, one, number) for number, one in enumerate(given)]
        setting = task.setting or "1"
        self._model.batch_size_per_gpu = setting if setting == "auto" else int(setting)
        self._items = task.items
        ask = getattr(self._model, name)
        return lambda: ask(instances, disable_tqdm=True)

    def results(self, raw: Any) -> list[dict[str, Any]]:
        if isinstance(raw[0], str):
            return [{"text": text} for text in raw]
        if isinstance(raw[0], float):
            return [{"logprobs": [value], "greedy": []} for value in raw]
        found, rest = [], iter(raw)
        for item in self._items:
            both = [next(rest) for _ in item.choices]
            found.append({"logprobs": [float(value) for value, _ in both], "greedy": [bool(own) for _, own in both]})
        return found


def _choices(item: Item) -> list[tuple[Any, ...]]:
    return [(item.context, choice) for choice in item.choices]


def _texts(item: Item) -> list[tuple[Any, ...]]:
    return [(item.context,)]


def _prompts(item: Item) -> list[tuple[Any, ...]]:
    return [(item.context, {"until": list(item.stop), "max_gen_toks": item.max_tokens, "do_sample": False})]


_ARGUMENTS: dict[str, tuple[Any, Callable[[Item], list[tuple[Any, ...]]]]] = {
    "loglikelihood": ("loglikelihood", _choices),
    "rolling": ("loglikelihood_rolling", _texts),
    "generate": ("generate_until", _prompts),
}


class Pipeline:
    """transformers' ``pipeline("text-classification")`` with all scores. The setting is its ``batch_size``."""

    def __init__(self, folder: Path, part: Part) -> None:
        import torch
        from transformers import pipeline

        self._pipeline: Any = pipeline("text-classification", model=str(folder), device="cpu", dtype=torch.float32)
        self._items: tuple[Item, ...] = ()

    def prepared(self, task: Task) -> Callable[[], Any]:
        self._items = task.items
        given = [item.context for item in task.items]
        size = int(task.setting or "1")
        return lambda: self._pipeline(given, batch_size=size, top_k=None)

    def results(self, raw: Any) -> list[dict[str, Any]]:
        found = []
        for item, scores in zip(self._items, raw, strict=True):
            known = {one["label"]: math.log(one["score"]) for one in scores}
            found.append({"logprobs": [known[label] for label in item.choices], "greedy": []})
        return found
