"""What vevals adds to JMESPath: functions for the shapes in which public data comes. Pure.

| function | gives |
|---|---|
| items(object) | its pairs as ``[{key, value}]`` |
| pick(object, keys) | the pairs of these keys, in their order, as ``[{key, value}]`` |
| unnest(list, 'field') | each element merged with each object in its ``field``, which goes; the inner value wins |
| parallel(object of lists) | one object a position: objects give their columns, texts a column named as the list |
| split(text, separator) | the parts, stripped, without the empty ones |
| lines(text) | the lines, as in ``format: lines`` |
| before(text, marker), after(text, marker) | what is before the first, after the last marker |
| at(list, index) | one element; index is a number or digits, 0 is the first |
| unique(list) | each value once, in order of first appearance |
| text(value) | a text as it is, anything else as compact JSON |
| number(text) | the number that the text is, as a whole or decimal number |
| replace(text, old, new), strip(text) | as in Python |

What cannot be done is an error, never null: a missing key or marker, an index out of range, a text that is no number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from jmespath.exceptions import JMESPathError
from jmespath.functions import FunctionRegistry, Functions

from vevals.data.documents import kind, split_lines

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_SHOWN = 40
_ANY: tuple[str, ...] = ()

Function = Callable[..., Any]
_methods: dict[str, Function] = {}


def _function(*types: str | tuple[str, ...]) -> Callable[[Function], Function]:
    """Register a function under its name; one entry an argument: JMESPath's type, several of them, or any."""

    def register(fn: Function) -> Function:
        def method(_self: Any, *arguments: Any) -> Any:
            return fn(*arguments)

        signature = tuple({"types": [one] if isinstance(one, str) else list(one)} for one in types)
        method.signature = signature  # type: ignore[attr-defined]
        _methods[f"_func_{fn.__name__}"] = method
        return fn

    return register


def _wrong(what: str) -> JMESPathError:
    return JMESPathError(what)


def _show(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


# ---- lists and objects


@_function("object")
def items(of: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in of.items()]


@_function("object", "array-string")
def pick(of: dict[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    missing = [key for key in keys if key not in of]
    if missing:
        raise _wrong(
            f"pick(): {len(missing)} of {len(keys)} keys are not in the object, the first is {_show(missing[0])}"
        )
    return [{"key": key, "value": of[key]} for key in keys]


@_function("array-object", "string")
def unnest(elements: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, element in enumerate(elements, start=1):
        children = element.get(field)
        if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
            raise _wrong(f"unnest(): element {number} has no list of objects named '{field}'")
        parent = {name: value for name, value in element.items() if name != field}
        found += [parent | child for child in children]
    return found


@_function("object")
def parallel(lists: dict[str, Any]) -> list[dict[str, Any]]:
    """Raises for unequal lengths, and where two lists have the same column with different values."""
    for name, values in lists.items():
        if not isinstance(values, list):
            raise _wrong(f"parallel(): '{name}' is {kind(values)}, not a list")
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise _wrong("the lists differ in length: " + ", ".join(f"'{name}' has {n:,}" for name, n in lengths.items()))
    columns = [_as_columns(name, values) for name, values in lists.items()]
    return [_merged(parts, number) for number, parts in enumerate(zip(*columns, strict=True), start=1)]


def _as_columns(name: str, values: list[Any]) -> list[dict[str, Any]]:
    objects = sum(isinstance(value, dict) for value in values)
    if objects not in (0, len(values)):
        raise _wrong(f"'{name}' has {objects:,} objects among {len(values):,} elements; all or none must be objects")
    return values if objects else [{name: value} for value in values]


def _merged(parts: tuple[dict[str, Any], ...], number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if row.setdefault(name, value) != value:
                raise _wrong(f"row {number}: '{name}' is {_show(row[name])} in one file and {_show(value)} in another")
    return row


@_function("array", ("number", "string"))
def at(of: list[Any], index: float | str) -> Any:
    whole = index if isinstance(index, str) else f"{index:.0f}" if index == int(index) else ""
    if not _INDEX.fullmatch(whole) or int(whole) >= len(of):
        raise _wrong(
            f"at(): {_show(index)} is no index of a list with {len(of)} elements, which are 0 to {len(of) - 1}"
        )
    return of[int(whole)]


@_function("array")
def unique(of: list[Any]) -> list[Any]:
    first: dict[str, Any] = {}
    for value in of:
        first.setdefault(json.dumps(value, sort_keys=True), value)
    return list(first.values())


# ---- texts


@_function("string", "string")
def split(of: str, separator: str) -> list[str]:
    if not separator:
        raise _wrong("split(): the separator is empty")
    return [part.strip() for part in of.split(separator) if part.strip()]


@_function("string")
def lines(of: str) -> list[str]:
    return split_lines(of)


@_function("string", "string")
def after(of: str, marker: str) -> str:
    return of.rpartition(_found(of, marker, "after"))[2]


@_function("string", "string")
def before(of: str, marker: str) -> str:
    return of.partition(_found(of, marker, "before"))[0]


def _found(of: str, marker: str, name: str) -> str:
    if not marker or marker not in of:
        raise _wrong(f"{name}(): the marker {_show(marker)} is not in the text {_show(of)}")
    return marker


@_function(_ANY)
def text(of: Any) -> str:
    if of is None:
        raise _wrong("text(): there is no value (null)")
    return of if isinstance(of, str) else json.dumps(of, ensure_ascii=False, separators=(",", ":"))


@_function(("string", "number"))
def number(of: str | float) -> float:
    if not isinstance(of, str):
        return of
    stripped = of.strip()
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    if not _NUMBER.fullmatch(stripped) or (value := float(stripped)) in (float("inf"), float("-inf")):
        raise _wrong(
            f"number(): the text {_show(of)} is not a number; remove what stands around it with replace() or after()"
        )
    return value


@_function("string", "string", "string")
def replace(of: str, old: str, new: str) -> str:
    if not old:
        raise _wrong("replace(): the text to replace is empty")
    return of.replace(old, new)


@_function("string")
def strip(of: str) -> str:
    return of.strip()


FUNCTIONS: Any = FunctionRegistry("VevalsFunctions", (Functions,), _methods)
