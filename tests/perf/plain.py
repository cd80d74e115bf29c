"""The slow and obvious way, one request at a time through ``model(...)``: what to compare with where no peer is.

It also says how close a decision was, so that a difference can be told from a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf.bounds import pair, windows
from perf.tools import Task
from perf.workloads import Item, Part


class Plain:
    """Results as the other tools give them. ``gaps``: by how much the most likely token leads, least over a choice's
    tokens, or for each new token of an answer; ``steps`` are the answer's texts after each of them."""

    def __init__(self, folder: Path, part: Part) -> None:
        import torch
        import transformers as t

        kinds = {
            "causal": t.AutoModelForCausalLM,
            "seq2seq": t.AutoModelForSeq2SeqLM,
            "classifier": t.AutoModelForSequenceClassification,
        }
        self._part = part
        self._tokenizer = t.AutoTokenizer.from_pretrained(folder)
        self._model: Any = kinds[part].from_pretrained(folder, dtype=torch.float32).eval()

    def prepared(self, task: Task) -> Callable[[], Any]:
        import torch

        def step() -> list[dict[str, Any]]:
            with torch.inference_mode():
                return [getattr(self, f"_{task.kind}")(item) for item in task.items]

        return step

    def results(self, raw: Any) -> list[dict[str, Any]]:
        return list(raw)

    def _encode(self, text: str, special: bool) -> list[int]:
        bos = self._tokenizer.bos_token
        special = special and not (bos and text.startswith(bos))
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    @property
    def _prefix(self) -> int | None:
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        found: int | None = eos if bos is None else bos
        return found

    def _loglikelihood(self, item: Item) -> dict[str, Any]:
        scored = [self._choice(item.context, choice) for choice in item.choices]
        names = ("logprobs", "greedy", "gaps")
        return {name: [one[place] for one in scored] for place, name in enumerate(names)}

    def _choice(self, context: str, choice: str) -> tuple[float, bool, float]:
        import torch

        if self._part == "seq2seq":
            kept = context.rstrip()
            source, ending = self._encode(kept, True), self._encode(context[len(kept) :] + choice, False)
            inputs = {"input_ids": torch.tensor([source]), "labels": torch.tensor([ending])}
        else:
            start, ending = pair(self._encode, context, choice, self._prefix)
            inputs = {"input_ids": torch.tensor([[*start, *ending[:-1]]])}
        return _judged(self._model(**inputs).logits[0, -len(ending) :], ending)

    def _rolling(self, item: Item) -> dict[str, Any]:
        import torch

        tokens = self._encode(item.context, True)
        total, done = 0.0, 0
        for row in windows(tokens, self._prefix or 0, int(self._model.config.max_position_embeddings)):
            wanted = tokens[done : done + len(row)]
            part = row if done == 0 else row[-min(len(row), len(tokens) - done) :]
            logits = self._model(torch.tensor([row])).logits[0, -len(part) :]
            total += _judged(logits, wanted[: len(part)])[0]
            done += len(part)
        return {"logprobs": [total], "greedy": []}

    def _classify(self, item: Item) -> dict[str, Any]:
        import torch

        logits = self._model(torch.tensor([self._encode(item.context, True)])).logits[0]
        found = logits.log_softmax(-1).tolist()
        places = {name: int(number) for number, name in self._model.config.id2label.items()}
        return {"logprobs": [found[places[label]] for label in item.choices], "greedy": []}

    def _generate(self, item: Item) -> dict[str, Any]:
        import torch

        ids = torch.tensor([self._encode(item.context, True)])
        shape = {"max_new_tokens": item.max_tokens, "do_sample": False, "return_dict_in_generate": True}
        found = self._model.generate(
            ids, attention_mask=torch.ones_like(ids), output_logits=True, pad_token_id=0, **shape
        )
        new = found.sequences[0, ids.shape[1] :].tolist()
        best = [step[0].topk(2).values.tolist() for step in found.logits]
        steps = [self._tokenizer.decode(new[: end + 1], skip_special_tokens=True) for end in range(len(new))]
        cut = min((place for stop in item.stop if (place := steps[-1].find(stop)) >= 0), default=None)
        return {"text": steps[-1][:cut], "steps": steps, "gaps": [first - second for first, second in best]}


def _judged(logits: Any, ending: list[int]) -> tuple[float, bool, float]:
    """Log-probability of a choice, whether it is greedy, and the least distance between the two best tokens."""
    logprobs = logits.float().log_softmax(-1)
    best = logits.topk(2).values
    value = float(logprobs[range(len(ending)), ending].double().sum())
    return value, logits.argmax(-1).tolist() == ending, float((best[:, 0] - best[:, 1]).min())
