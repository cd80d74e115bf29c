"""YAML with a schema: reads a file strictly and says file and line of whatever is wrong. Knows PyYAML and pydantic.

YAML here is read in the sense of version 1.2: ``yes``, ``no`` and dates are texts, a key given twice is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vevals.errors import BenchmarkError

DEEPEST = 20
MOST_VALUES = 100_000
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
    classify: tuple[str, ...] | str | None = None
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

    @field_validator("classify")
    @classmethod
    def _text_or_pair(cls, given: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        if isinstance(given, tuple) and len(given) not in (1, 2):
            raise ValueError(f"give one template, or a list of two (a text and its pair), not {len(given)}")
        if given is not None and not all(one.strip() for one in ((given,) if isinstance(given, str) else given)):
            raise ValueError("write the text that a classifier is shown: a template is empty")
        return given

    @property
    def texts_to_classify(self) -> tuple[str, ...]:
        """The template of the text that a classifier is shown, or those of a text and its pair."""
        if self.classify is None:
            return ("{{ input }}",)
        return (self.classify,) if isinstance(self.classify, str) else self.classify


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
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of ``path``, which is UTF-8 with or without a byte-order mark; BenchmarkError if it is not."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BenchmarkError(f"{path}:{line}: the file is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read: {error.strerror}") from error


def parse_yaml(text: str, path: Path | str, text_keys: Collection[str] = TEXT_KEYS) -> tuple[Any, Lines]:
    """As ``read_yaml``, from a text; ``path`` is how errors name it, values below ``text_keys`` are texts."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[tuple[str | int, ...], int] = {}
        if node is None:
            raise BenchmarkError(f"{path}: the file is empty")
        _collect_lines(node, (), lines, path)
        _keep_texts(node, text_keys, False)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem or error)
        hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise BenchmarkError(f"{path}:{line}: not valid YAML: {problem}{hint}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BenchmarkError(
            f"{path}:{line}: the character U+{ord(text[error.position]):04X} is not allowed"
        ) from error
    except (RecursionError, ValueError) as error:
        raise BenchmarkError(f"{path}: not valid YAML: {error}") from error


def _keep_texts(node: yaml.Node, text_keys: Collection[str], text: bool) -> None:
    """Mark scalars that are texts as such: keys, and values below ``text_keys``."""
    if isinstance(node, yaml.ScalarNode) and text and node.value:
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _keep_texts(child, text_keys, text)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            _keep_texts(key, text_keys, True)
            _keep_texts(child, text_keys, text or key.value in text_keys)


def _collect_lines(
    node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path | str
) -> None:
    lines[at] = node.start_mark.line + 1
    if len(at) > DEEPEST:
        raise BenchmarkError(f"{path}:{lines[at]}: nested too deeply, or an alias that contains itself")
    if len(lines) > MOST_VALUES:
        raise BenchmarkError(f"{path}:{lines[at]}: more than {MOST_VALUES:,} values, counting aliases")
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


def validate(
    model: type[Model], document: Any, lines: Lines, path: Path | str, at: tuple[str | int, ...] = ()
) -> Model:
    """``document`` as ``model``, or a BenchmarkError that names file, line, key and a near miss."""
    if not isinstance(document, Mapping):
        raise BenchmarkError(f"{path}:{lines.get(at, 1)}: expected 'key: value' lines")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = min(error.errors(), key=_vagueness)
        steps = _steps(first["loc"], model, lines, at)
        raise BenchmarkError(f"{path}:{_line_of((*at, *steps), lines)}: {_sentence(first, model, steps)}") from None


def _sentence(problem: Mapping[str, Any], model: type[BaseModel], steps: tuple[str | int, ...]) -> str:
    """What is wrong, in words for somebody who does not know Python."""
    kind, name = problem["type"], ".".join(map(str, steps))
    if kind == "extra_forbidden":
        known = [key for one in _models_at(model, problem["loc"][:-1]) for key in _keys(one)]
        return f"unknown key '{problem['loc'][-1]}'{near_miss(problem['loc'][-1], known)}"
    if kind == "missing":
        return f"'{name}' is missing"
    if kind == "literal_error":
        expected = problem["ctx"]["expected"]
        hint = near_miss(problem["input"], expected.split("'")[1::2])
        return f"'{name}' is {problem['input']!r}; use {expected}{hint}"
    message = _PLAIN.get(kind, problem["msg"].removeprefix("Value error, "))
    return f"'{name}': {message[0].lower()}{message[1:]}"


def near_miss(word: object, known: Collection[str]) -> str:
    """``; did you mean 'title'?`` where one of ``known`` is close, else nothing."""
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


_PLAIN = {
    "tuple_type": "write a list, as in [one, two]",
    "float_parsing": "write a number, with a decimal point",
    "float_type": "write a number, with a decimal point",
    "bool_type": "write true or false",
    "string_too_short": "write something: it is empty",
    "too_short": "write at least one",
    "model_type": "write 'key: value' lines below it",
    "model_attributes_type": "write 'key: value' lines below it",
    "dict_type": "write 'key: value' lines below it",
}
"""What pydantic says of a wrong type, in words for somebody who does not know Python."""


def _vagueness(problem: Mapping[str, Any]) -> tuple[bool, bool]:
    """Of several problems the most telling first: a misspelt key, then anything but 'a text would do as well'."""
    return problem["type"] != "extra_forbidden", problem["type"] == "string_type"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _steps(
    location: tuple[str | int, ...], model: type[BaseModel], lines: Lines, at: tuple[str | int, ...]
) -> tuple[str | int, ...]:
    """The part of pydantic's ``location`` that stands in the file: without the names of union members."""
    steps: tuple[str | int, ...] = ()
    for depth, step in enumerate(location):
        fields = [key for one in _models_at(model, location[:depth]) for key in _keys(one)]
        if isinstance(step, int) or step in fields or (*at, *steps, step) in lines:
            steps = (*steps, step)
    return steps


def _models_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """The models that can stand at ``location`` below ``model``."""
    models = [model]
    for step in location:
        fields = [field for one in models for name, field in one.model_fields.items() if step in (name, field.alias)]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    inner = get_args(annotation)
    if inner:
        return [found for part in inner for found in _models_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _line_of(location: tuple[str | int, ...], lines: Lines) -> int:
    known = list(location)
    while known:
        if tuple(known) in lines:
            return lines[tuple(known)]
        known.pop()
    return lines.get((), 1)
