"""YAML with a schema: reads a file strictly and says file and line of whatever is wrong. Knows PyYAML and pydantic.

YAML here is read in the sense of version 1.2: ``yes``, ``no`` and dates are texts, a key given twice is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vevals.errors import BenchmarkError

DEEPEST = 20
Named = str | dict[str, dict[str, Any]]
Lines = Mapping[tuple[str | int, ...], int]


class Strict(BaseModel):
    """A part of a YAML file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class FileSpec(Strict):
    """One data file: bundled (``path``) or pinned (``url`` with ``sha256``)."""

    path: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    format: Literal["csv", "tsv", "tsv_raw", "json", "jsonl", "lines"] | None = None
    member: str | None = None
    header: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_place(self) -> FileSpec:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either path (a file in this folder) or url")
        return self._pinned()

    def _pinned(self) -> Self:
        if self.url is not None and self.sha256 is None:
            raise ValueError("a url needs its sha256: data that can change is no benchmark")
        return self


class HubSpec(Strict):
    """A dataset of the Hugging Face hub at a fixed revision."""

    path: str
    name: str | None = None
    split: str
    revision: str


class DataFiles(FileSpec):
    """``data:`` one file, several ``files``, or a ``hub`` dataset; ``rows`` is a JMESPath expression over them."""

    files: dict[str, FileSpec] = {}
    rows: str | None = None
    hub: HubSpec | None = None

    @model_validator(mode="after")
    def _one_place(self) -> DataFiles:
        given = [self.path or self.url, self.files or None, self.hub]
        if sum(source is not None for source in given) != 1:
            raise ValueError("give one of path, url (with sha256), files or hub")
        return self._pinned()


class FewShot(Strict):
    """Worked examples before the question, from a file of their own with the same columns."""

    data: str | DataFiles
    count: Annotated[int, Field(ge=1, le=64)]
    draw: Literal["fixed", "per_sample"] = "fixed"
    seed: int = 0


class Spec(Strict):
    """``benchmark.yaml``: the benchmark in the expert's words. Every key is described in docs/benchmarks.md."""

    title: str
    version: Annotated[int, Field(ge=1)]
    language: tuple[str, ...] = ("en",)
    data: str | DataFiles
    columns: dict[str, str | tuple[str, ...]] = {}
    choices: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    system: str | None = None
    prompt: str
    few_shot: FewShot | None = None
    answer: Named
    metrics: Annotated[tuple[Named, ...], Field(min_length=1)]
    chance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, le=32768)] = 256
    stop: tuple[str, ...] = ()
    outcome_values: dict[Literal["refused", "empty", "truncated", "unparsed"], Literal["best", "worst"]] = {}
    license: str
    license_terms: str | None = None
    source: str
    citation: str | None = None
    tags: tuple[str, ...] = ()


class SuiteEntry(Strict):
    """Benchmarks of a suite: a name or pattern, and how many samples of the seeded order (all by default)."""

    benchmark: str
    draw: Annotated[int, Field(ge=1)] | None = None


class SuiteSpec(Strict):
    """One suite of ``suites.yaml``."""

    title: str
    benchmarks: Annotated[tuple[str | SuiteEntry, ...], Field(min_length=1)]
    weights: dict[str, Annotated[float, Field(gt=0)]] = {}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: only true and false are booleans, nothing is a date."""


_SCALARS = {
    "tag:yaml.org,2002:null": (r"^(?:~|null|)$", ["~", "n", ""]),
    "tag:yaml.org,2002:bool": (r"^(?:true|false)$", list("tf")),
    "tag:yaml.org,2002:int": (r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
TEXT_KEYS = ("choices", "columns", "header", "language", "slices", "stop", "tags")
"""Keys below which every value is a text, exactly as written: the choice 2.50 is not the number 2.5."""

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """The document in ``path`` and the line of each value, by its path of keys and indices.

    Raises:
        BenchmarkError: not readable, not UTF-8, not YAML, or a key twice.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        lines: dict[tuple[str | int, ...], int] = {}
        if node is None:
            raise BenchmarkError(f"{path}: the file is empty")
        _collect_lines(node, (), lines, path)
        _keep_texts(node, False)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem or error)
        hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise BenchmarkError(f"{path}:{line}: not valid YAML: {problem}{hint}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BenchmarkError(f"{path}:{line}: the file is not UTF-8; save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise BenchmarkError(f"{path}: not valid YAML: {error}") from error
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read: {error.strerror}") from error


def _keep_texts(node: yaml.Node, text: bool) -> None:
    """Mark scalars that are texts as such: keys, and values below ``TEXT_KEYS``."""
    if isinstance(node, yaml.ScalarNode) and text and node.value:
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _keep_texts(child, text)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            _keep_texts(key, True)
            _keep_texts(child, text or key.value in TEXT_KEYS)


def _collect_lines(
    node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path
) -> None:
    lines[at] = node.start_mark.line + 1
    if len(at) > DEEPEST:
        raise BenchmarkError(f"{path}:{lines[at]}: nested too deeply, or an alias that contains itself")
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _collect_lines(child, (*at, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            inner = (*at, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                raise BenchmarkError(f"{path}:{line}: '{key.value}' is given twice (first in line {lines[inner]})")
            _collect_lines(child, inner, lines, path)
            lines[inner] = line


def validate(model: type[Model], document: Any, lines: Lines, path: Path, at: tuple[str | int, ...] = ()) -> Model:
    """``document`` as ``model``, or a BenchmarkError that names file, line, key and a near miss."""
    if not isinstance(document, Mapping):
        raise BenchmarkError(f"{path}:{lines.get(at, 1)}: expected 'key: value' lines")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BenchmarkError(_first_problem(error, model, lines, path, at)) from None


def _first_problem(
    error: ValidationError, model: type[BaseModel], lines: Lines, path: Path, at: tuple[str | int, ...]
) -> str:
    first = min(error.errors(), key=_vagueness)
    steps = [step for step in first["loc"] if (*at, step) in lines or isinstance(step, int) or step in _keys(model)]
    line = _line_of((*at, *first["loc"]), lines)
    name = ".".join(str(step) for step in (steps or first["loc"]) if step not in ("str", "DataFiles", "SuiteEntry"))
    if first["type"] == "extra_forbidden":
        known = _keys(model) if len(first["loc"]) == 1 else []
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"{path}:{line}: unknown key '{first['loc'][-1]}'{hint}"
    if first["type"] == "missing":
        return f"{path}:{line}: '{name}' is missing"
    message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{path}:{line}: '{name}': {message[0].lower()}{message[1:]}"


_PLAIN = {
    "tuple_type": "write a list, as in [one, two]",
    "float_parsing": "write a number, with a decimal point",
    "model_type": "write 'key: value' lines below it",
    "model_attributes_type": "write 'key: value' lines below it",
    "dict_type": "write 'key: value' lines below it",
}
"""What pydantic says of a wrong type, in words for somebody who does not know Python."""


def _vagueness(problem: Mapping[str, Any]) -> tuple[bool, bool]:
    """Of several problems the most telling first: a misspelt key, then anything but 'a text would do as well'."""
    return problem["type"] != "extra_forbidden", problem["type"] == "string_type"


def _keys(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def _line_of(location: tuple[str | int, ...], lines: Lines) -> int:
    known = list(location)
    while known:
        if tuple(known) in lines:
            return lines[tuple(known)]
        known.pop()
    return lines.get((), 1)
