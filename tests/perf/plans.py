"""From a workload to its bound and to the plan of the floor loop, for each kind of model and request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perf.bounds import FLOOR_ROW, Bound, Encode, Prefixes, live_rows, mean_keys, pair, shared, windows
from perf.models import Folder
from perf.workloads import Workload

CLASSIFIED_AT_ONCE = 16
FILLER = 5
"""A token id that every vocabulary has, for the decoder's rows of the floor loop."""


def prefix_of(folder: Folder) -> int | None:
    """The token that an empty context is: BOS, else EOS."""
    config = folder.config
    found = config.get("bos_token_id")
    found = config.get("eos_token_id") if found is None else found
    return found if isinstance(found, int) else None


def necessary(workload: Workload, folder: Folder, encode: Encode, lengths: Sequence[int] | None = None) -> Bound | None:
    """The least work of a workload; for answers only when their ``lengths`` are known."""
    if workload.kind == "generate":
        if lengths is None:
            return None
        tree = _prompts(workload, encode)
        return Bound(len(tree.nodes) + sum(max(0, length - 1) for length in lengths), sum(lengths))
    if workload.kind == "rolling":
        rows = _windows(workload, folder, encode)
        scored = sum(len(encode(item.context, True)) for item in workload.items)
        return Bound(sum(map(len, rows)), scored)
    if workload.kind == "classify":
        return Bound(sum(len(row) for row in _texts(workload, encode)), 0)
    if workload.part == "seq2seq":
        sources, endings = _sources(workload, encode)
        return Bound(sum(map(len, sources)) + sum(endings), sum(endings))
    tree = shared(_pairs(workload, folder, encode))
    return Bound(len(tree.nodes), len(tree.scored))


def floor_plan(workload: Workload, folder: Folder, encode: Encode, lengths: Sequence[int]) -> dict[str, Any]:
    """What the floor loop runs: as many tokens, head rows and steps as are necessary."""
    if workload.kind == "generate":
        return _generation(workload, encode, lengths)
    if workload.kind == "rolling":
        rows = _windows(workload, folder, encode)
        return {"rows": rows, "heads": [len(row) for row in rows]}
    if workload.kind == "classify":
        return {"batches": _batches(_texts(workload, encode))}
    if workload.part == "seq2seq":
        sources, endings = _sources(workload, encode)
        return {"rows": sources, "endings": [[FILLER] * count for count in endings]}
    tree = shared(_pairs(workload, folder, encode))
    return _packed(tree, len(tree.scored))


def _packed(tree: Prefixes, heads: int) -> dict[str, Any]:
    """Rows of plain causal tokens, and head rows spread evenly over them."""
    tokens = tree.tokens
    rows = [tokens[start : start + tree.row] for start in range(0, len(tokens), tree.row)]
    shares, done = [], 0
    for number, row in enumerate(rows):
        due = round(heads * (number + 1) / len(rows)) - done
        shares.append(min(due, len(row)))
        done += shares[-1]
    return {"rows": rows, "heads": shares}


def _pairs(workload: Workload, folder: Folder, encode: Encode) -> Iterator[tuple[list[int], list[int]]]:
    prefix = prefix_of(folder)
    for item in workload.items:
        for choice in item.choices:
            yield pair(encode, item.context, choice, prefix)


def _prompts(workload: Workload, encode: Encode) -> Prefixes:
    tree = Prefixes()
    for item in workload.items:
        tokens = encode(item.context, True)
        tree.add(tokens, len(tokens) - 1)
    return tree


def _generation(workload: Workload, encode: Encode, lengths: Sequence[int]) -> dict[str, Any]:
    tree = _prompts(workload, encode)
    prompts = [len(encode(item.context, True)) for item in workload.items]
    live = live_rows([length - 1 for length in lengths])
    return {**_packed(tree, len(tree.scored)), "live": live, "keys": mean_keys(prompts, lengths)}


def _windows(workload: Workload, folder: Folder, encode: Encode) -> list[list[int]]:
    prefix = prefix_of(folder)
    if prefix is None:
        raise ValueError("rolling needs a tokenizer with a BOS or EOS token")
    texts = {item.context: encode(item.context, True) for item in workload.items}
    return [row for tokens in texts.values() for row in windows(tokens, prefix, folder.max_length)]


def _texts(workload: Workload, encode: Encode) -> list[list[int]]:
    return [encode(text, True) for text in {item.context: None for item in workload.items}]


def _batches(texts: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """The tokens of all texts, in rows of their mean length, some at a time: no row is filled up."""
    tokens = [token for text in texts for token in text]
    width = max(1, round(len(tokens) / len(texts)))
    rows = [tokens[start : start + width] for start in range(0, len(tokens), width)]
    last = [rows.pop()] if len(rows[-1]) < width else []
    size = max(1, max(CLASSIFIED_AT_ONCE, 2 * FLOOR_ROW // width))
    return [rows[start : start + size] for start in range(0, len(rows), size)] + [[row] for row in last]


def _sources(workload: Workload, encode: Encode) -> tuple[list[list[int]], list[int]]:
    """Each distinct source, and how many distinct tokens the decoder reads for it: its start, and the choices'."""
    trees: dict[tuple[int, ...], Prefixes] = {}
    for item in workload.items:
        kept = item.context.rstrip()
        source = tuple(encode(kept, True))
        tree = trees.setdefault(source, Prefixes())
        for choice in item.choices:
            ending = encode(item.context[len(kept) :] + choice, False)
            tree.add([-1, *ending[:-1]], 0)
    return [list(source) for source in trees], [len(tree.nodes) for tree in trees.values()]
