"""JMESPath over documents and rows: how rows are found in a document, and values in a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import (
    ArityError,
    IncompleteExpressionError,
    JMESPathError,
    JMESPathTypeError,
    LexerError,
    ParseError,
)

from vevals.data.functions import FUNCTIONS
from vevals.errors import DataError

_OPTIONS = jmespath.Options(custom_functions=FUNCTIONS())
_LEFT_ONLY = ("subexpression", "index_expression", "projection", "value_projection", "filter_projection", "pipe")


def column(row: Mapping[str, Any], expression: str) -> Any:
    """The value of a column, if ``expression`` is literally the name of one, else of the JMESPath expression.

    What is not there is None, as in JMESPath. Raises DataError (without a place: the caller knows file and line) for an
    expression that is not valid or cannot be computed for this row.
    """
    if expression in row:
        return row[expression]
    return evaluate(expression, row if type(row) is dict else dict(row))


def check_expression(expression: str, names: Collection[str]) -> str | None:
    """What is wrong with a column expression for rows with the columns ``names``, or None.

    Found without any row: an expression that is not JMESPath, a column that does not exist, an unknown function or one
    with a wrong number of arguments.
    """
    if expression in names:
        return None
    try:
        tree = _compiled(expression).parsed
    except DataError as error:
        return str(error)
    for name in _root_fields(tree):
        if name not in names:
            return _unknown("column", name, names)
    return next(_function_problems(tree), None)


def evaluate(expression: str, document: Any) -> Any:
    """The value of a JMESPath expression over a document; DataError says what is wrong with it."""
    compiled = _compiled(expression)
    try:
        return compiled.search(document, options=_OPTIONS)
    except JMESPathError as error:
        raise DataError(f"'{expression}': {_sentence(error)}") from error


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Any:
    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise DataError(f"'{expression}' is neither a column here nor JMESPath: {_sentence(error)}") from error


def _sentence(error: JMESPathError) -> str:
    """One line for an error of jmespath, whose own texts are several lines or hold the whole document."""
    if isinstance(error, JMESPathTypeError):
        needed = " or ".join(kind.split("-")[0] for kind in error.expected_types)
        return f"{error.function_name}() needs {needed} where it has {error.actual_type}"
    if isinstance(error, ArityError):
        return str(error)
    if isinstance(error, IncompleteExpressionError):
        return "it ends too early"
    if isinstance(error, LexerError):
        return f"{error.message} at character {error.lexer_position + 1}"
    if isinstance(error, ParseError):
        return f"'{error.token_value}' is not expected at character {error.lex_position + 1}"
    return str(error)


def _root_fields(tree: Mapping[str, Any]) -> Iterator[str]:
    """The names that an expression looks up in the row itself, not in something that it found there."""
    if tree["type"] == "field":
        yield tree["value"]
    elif tree["type"] in _LEFT_ONLY:
        yield from _root_fields(tree["children"][0])
    elif tree["type"] not in ("expref", "slice"):
        for child in tree["children"]:
            yield from _root_fields(child)


def _function_problems(tree: Mapping[str, Any]) -> Iterator[str]:
    if tree["type"] == "slice":
        return
    if tree["type"] == "function_expression":
        name, given = tree["value"], len(tree["children"])
        entry = FUNCTIONS.FUNCTION_TABLE.get(name)
        if entry is None:
            yield _unknown("function", name, FUNCTIONS.FUNCTION_TABLE)
        else:
            signature = entry["signature"]
            variadic = bool(signature) and bool(signature[-1].get("variadic"))
            if given < len(signature) or (given > len(signature) and not variadic):
                yield f"{name}() takes {len(signature)} arguments{' or more' if variadic else ''}, not {given}"
    for child in tree["children"]:
        yield from _function_problems(child)


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"there is no {what} '{name}'; {hint}There are: {', '.join(known)}"
