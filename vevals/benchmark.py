"""YAML + data -> Benchmark: what is asked, how it is read and scored, and the fingerprint of all that."""

from __future__ import annotations

import difflib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vevals import data, extract, prompt
from vevals import metrics as metric_registry
from vevals.canonical import sha256_hex
from vevals.errors import BenchmarkError, DataError, RowErrors, VevalsError
from vevals.spec import DataFiles, FewShot, FileSpec, Named, Spec, read_yaml, validate
from vevals.types import Message, Options, Request, RequestKind, Sample

FILE = "benchmark.yaml"
MOST_PROBLEMS = 10
KNOWN_COLUMNS = ("id", "input", "target", "choices", "cluster")
TEMPLATE_NAMES = ("id", "input", "choices")
LABEL_READERS = ("label", "labels", "letter", "most_likely", "whole")
"""Extractors whose answers are texts of ``choices``, where there are choices."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its ``name`` is its path below the folder of benchmarks (``medical/triage``).

    Data is read when ``samples`` is first needed. ``folder`` is where its files lie.
    """

    name: str
    folder: Path
    spec: Spec
    lines: Mapping[tuple[str | int, ...], int] = field(repr=False, default_factory=dict)

    @property
    def domain(self) -> str:
        """First part of the name."""
        return self.name.split("/")[0]

    @property
    def path(self) -> Path:
        """The YAML file."""
        return _shown(self.folder) / FILE

    def place(self, where: str) -> str:
        """``where`` (a file and line as the data says it) with the folder, or with the benchmark's name."""
        files = [file.path for file in data_spec(self.spec.data).files.values() if file.path]
        few = self.spec.few_shot
        files += [file.path for file in data_spec(few.data).files.values() if file.path] if few else []
        bundled = any(where.startswith(file) for file in files)
        return str(_shown(self.folder) / where) if bundled else f"{self.name}: {where}"

    @property
    def kind(self) -> RequestKind:
        """What is asked of a model: text, or the log-likelihood of each choice."""
        return "loglikelihood" if self.extractor.name == "most_likely" else "generate"

    @property
    def options(self) -> Options:
        """How text is generated. Greedy: a benchmark that samples says so by its number of repeats."""
        return Options(max_tokens=self.spec.max_tokens, stop=self.spec.stop)

    @cached_property
    def extractor(self) -> extract.Extractor:
        """Text -> answer."""
        name, options = named(self.spec.answer)
        with _at(self.path, self.lines.get(("answer",))):
            return extract.get(name, options)

    @cached_property
    def metrics(self) -> tuple[metric_registry.Metric, ...]:
        """The metrics, the first one being the score that the leaderboard shows."""
        found = []
        for index, item in enumerate(self.spec.metrics):
            with _at(self.path, self.lines.get(("metrics", index))):
                found.append(metric_registry.get(*named(item)))
        names = [metric.name for metric in found]
        if len(set(names)) < len(names):
            raise BenchmarkError(f"{self.path}:{self.lines.get(('metrics',), 1)}: a metric is listed twice")
        return tuple(found)

    @cached_property
    def rows(self) -> data.Rows:
        """The rows as they stand in the data, before columns are mapped."""
        return read_rows(self, self.spec.data, ("data",))

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The questions. Raises DataError with file and line of the first row that cannot be used."""
        return read_samples(self, self.rows)

    @cached_property
    def shots(self) -> tuple[Sample, ...]:
        """The pool of few-shot examples; empty without ``few_shot``."""
        few = self.spec.few_shot
        return () if few is None else read_samples(self, read_rows(self, few.data, ("few_shot", "data")))

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """One SHA-256 (hex) for each thing that can make two runs incomparable."""
        few = self.spec.few_shot
        shots = [content_hash(shot) for shot in self.shots]
        asked = [self.spec.prompt, self.spec.system, shots, few and [few.count, few.draw, few.seed], self.kind]
        classified = [] if self.spec.classify is None else [self.spec.texts_to_classify]
        return {
            "dataset": sha256_hex(sorted([sample.id, content_hash(sample)] for sample in self.samples)),
            "prompt": sha256_hex(asked + classified),
            "generation": sha256_hex(asdict(self.options)),
            "scorer": sha256_hex(
                {
                    "extractor": [self.extractor.name, dict(self.extractor.options), self.extractor.version],
                    "metrics": [[m.name, dict(m.options), m.source_hash] for m in self.metrics],
                    "outcome_values": dict(self.spec.outcome_values),
                    "chance": self.spec.chance,
                }
            ),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over name, version and parts: equal fingerprints, comparable scores."""
        return sha256_hex([self.name, self.spec.version, dict(self.parts)])

    def ideal(self, sample: Sample) -> str:
        """The reply that earns full marks: what a few-shot turn shows, and what ``vevals check`` scores."""
        return self.extractor.ideal(sample)

    def outcome_values(self, metric: metric_registry.Metric) -> Mapping[str, float]:
        """What refused, empty, truncated and unparsed count as under ``metric``, where the YAML says so."""
        ends = {"best": metric.best, "worst": metric.worst}
        return {outcome: ends[end] for outcome, end in self.spec.outcome_values.items()}

    def messages(self, sample: Sample) -> tuple[Message, ...]:
        """The conversation that asks ``sample``."""
        shots = [(shot, self.ideal(shot)) for shot in draw_shots(self.spec.few_shot, self.shots, sample)]
        return prompt.conversation(self.spec.prompt, sample, self.spec.system, shots)

    def request(self, sample: Sample, seed: int = 0) -> Request:
        """``sample`` as one request."""
        scored = self.kind == "loglikelihood"
        return Request(
            id=sample.id,
            kind=self.kind,
            messages=self.messages(sample),
            options=Options(max_tokens=1) if scored else self.options,
            choices=sample.choices if scored else (),
            seed=seed,
        )

    @property
    def several(self) -> bool:
        """Whether an answer is a set of labels."""
        return self.extractor.name == "labels"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of which every answer is one, or several.

        Raises:
            BenchmarkError: the answers are free text, or each row has choices of its own.
        """
        offered = {sample.choices for sample in self.samples}
        if self.extractor.name not in LABEL_READERS or offered == {()}:
            lacking = "" if offered != {()} else ", no choices"
            raise BenchmarkError(f"{self.name} has no labels (answer: {self.extractor.name}{lacking})")
        if len(offered) > 1:
            raise BenchmarkError(f"{self.name} has no labels, because each row has choices of its own")
        return offered.pop()

    def classified(self, sample: Sample) -> Request:
        """``sample`` as one request to a classifier."""
        texts = tuple(prompt.render(template, sample) for template in self.spec.texts_to_classify)
        return Request(sample.id, "classify", (), Options(max_tokens=1), self.labels, prompts=texts)

    def named(self, logprobs: Sequence[float]) -> str | None:
        """The answer that a classifier gives: its most likely label, or all that are as likely as not.

        ``logprobs``: one for each of ``labels``. None where they name none, as NaN does.
        """
        if len(logprobs) != len(self.labels) or any(map(math.isnan, logprobs)) or max(logprobs) == -math.inf:
            return None
        if self.several:
            given = [label for label, value in zip(self.labels, logprobs, strict=True) if value >= math.log(0.5)]
            return json.dumps(given, ensure_ascii=False)
        return self.labels[logprobs.index(max(logprobs))]

    def draw(self, count: int | None, seed: int = 0) -> tuple[Sample, ...]:
        """The first ``count`` samples of the seeded order, in file order; all of them for None.

        The order is that of hashes of the ids: it does not depend on the order of the rows, and samples keep their
        place when others are added.
        """
        if count is None or count >= len(self.samples):
            return self.samples
        ranked = sorted(self.samples, key=lambda sample: sha256_hex(["draw", seed, sample.id]))
        chosen = {sample.id for sample in ranked[:count]}
        return tuple(sample for sample in self.samples if sample.id in chosen)


def load(folder: Path, name: str) -> Benchmark:
    """Read ``folder/benchmark.yaml`` strictly; the data is not touched yet.

    Raises:
        BenchmarkError: file, line, and what is wrong with the YAML.
    """
    path = _shown(folder) / FILE
    document, lines = read_yaml(path)
    benchmark = Benchmark(name, folder, validate(Spec, document, lines, path), lines)
    _ = benchmark.extractor, benchmark.metrics
    return benchmark


def named(item: Named) -> tuple[str, Mapping[str, Any]]:
    """``accuracy`` or ``{rouge1: {stemmer: true}}`` -> name and options."""
    if isinstance(item, str):
        return item, {}
    if len(item) != 1:
        raise BenchmarkError(f"write one name with its options, not {len(item)}: {', '.join(item)}")
    return next(iter(item.items()))


def data_spec(source: str | DataFiles) -> data.DataSpec:
    """``data:`` of the YAML as the data module wants it."""
    if isinstance(source, str):
        return data.DataSpec({"data": data.FileSource(path=source)})
    if source.hub is not None:
        hub = data.HubSource(source.hub.path, source.hub.name, source.hub.split, source.hub.revision)
        return data.DataSpec({}, source.rows, hub)
    files = source.files or {"data": source}
    return data.DataSpec({name: _file_source(spec) for name, spec in files.items()}, source.rows)


def read_rows(benchmark: Benchmark, source: str | DataFiles, key: tuple[str, ...]) -> data.Rows:
    """The rows of ``source``; an error names the file as it lies on this machine."""
    with _at(benchmark.path, benchmark.lines.get(key)):
        spec = data_spec(source)
    try:
        return data.load(spec, benchmark.folder)
    except DataError as error:
        raise type(error)(benchmark.place(str(error))) from error


def _file_source(spec: FileSpec) -> data.FileSource:
    return data.FileSource(spec.path, spec.url, spec.sha256, spec.format, spec.member, spec.header)


def content_hash(sample: Sample) -> str:
    """SHA-256 (hex) of everything that a question consists of, without its id."""
    parts = [sample.input, sample.target, sample.choices, sample.cluster, dict(sample.slices), dict(sample.fields)]
    return sha256_hex(parts)


def draw_shots(few: FewShot | None, pool: Sequence[Sample], sample: Sample) -> list[Sample]:
    """The worked examples for ``sample``: the same for all (fixed), or drawn anew for each (per_sample)."""
    if few is None:
        return []
    if few.count > len(pool):
        raise BenchmarkError(f"few_shot asks for {few.count} examples, but its file has {len(pool)}; lower count")
    key = "fixed" if few.draw == "fixed" else sample.id
    return random.Random(f"shots/{few.seed}/{key}").sample(list(pool), few.count)


def read_samples(benchmark: Benchmark, rows: data.Rows) -> tuple[Sample, ...]:
    """Map the columns of every row.

    Raises:
        RowErrors: rows that cannot be used, each with file and line (the first ten).
    """
    _check_names(benchmark, rows)
    samples: dict[str, tuple[Sample, str]] = {}
    problems: list[str] = []
    for index, row in enumerate(rows):
        if all(value in (None, "") for value in row.values()):
            continue  # what a spreadsheet leaves below its table
        where = benchmark.place(rows.where(index))
        try:
            sample = _sample(benchmark.spec, row, index, where)
            if sample.id in samples:
                first = samples[sample.id][1]
                raise DataError(f"{where}: the id '{sample.id}' is there already ({first}); ids must be unique")
            samples[sample.id] = sample, where
        except DataError as error:
            problems.append(str(error))
            if len(problems) == MOST_PROBLEMS:
                break
    if problems:
        raise RowErrors(problems, benchmark.name)
    if not samples:
        raise DataError(f"{benchmark.path}: the data has no rows")
    return tuple(sample for sample, _ in samples.values())


def _check_names(benchmark: Benchmark, rows: data.Rows) -> None:
    """Everything the YAML calls by name exists: columns, slices, and the names in the prompt."""
    spec, path, lines = benchmark.spec, benchmark.path, benchmark.lines
    for key, expression in spec.columns.items():
        for part in (expression,) if isinstance(expression, str) else expression:
            problem = data.check_expression(part, rows.names)
            if problem:
                raise BenchmarkError(f"{path}:{lines.get(('columns', key), 1)}: columns.{key}: {problem}")
    names = [*rows.names, *spec.columns]
    for needed in ("input", "target"):
        if needed not in names:
            line = lines.get(("columns",), 1)
            raise BenchmarkError(
                f"{path}:{line}: which column is the {needed}? columns are {', '.join(rows.names)}; "
                f"write columns: {{{needed}: COLUMN}}"
            )
    _check_used(benchmark)
    for index, name in enumerate(spec.slices):
        if name not in names:
            line = lines.get(("slices", index), 1)
            raise BenchmarkError(f"{path}:{line}: the slice '{name}' is no column; columns are {', '.join(rows.names)}")
    _check_templates(benchmark, sorted({*names, *TEMPLATE_NAMES}))


def _check_templates(benchmark: Benchmark, names: Sequence[str]) -> None:
    """The prompt, and what a classifier is shown, use only ``names``."""
    problem = prompt.check_template(benchmark.spec.prompt, names)
    if problem:
        raise BenchmarkError(f"{benchmark.path}:{benchmark.lines.get(('prompt',), 1)}: {problem}")
    for index, template in enumerate(benchmark.spec.texts_to_classify):
        problem = prompt.check_template(template, names)
        if problem:
            line = benchmark.lines.get(("classify", index), benchmark.lines.get(("classify",), 1))
            raise BenchmarkError(f"{benchmark.path}:{line}: {problem.replace('the prompt', 'classify', 1)}")


def _check_used(benchmark: Benchmark) -> None:
    """A mapped column must be one that vevals knows, or be used: a misspelt 'cluster' would be lost silently."""
    spec = benchmark.spec
    used = {name for template in (spec.prompt, *spec.texts_to_classify) for name in prompt.names_in(template)}
    known = (*KNOWN_COLUMNS, *spec.slices, *used)
    for name in spec.columns:
        if name not in known:
            close = difflib.get_close_matches(name, KNOWN_COLUMNS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "use it in the prompt or in slices, or remove it"
            line = benchmark.lines.get(("columns", name), 1)
            raise BenchmarkError(f"{benchmark.path}:{line}: columns.{name} is used nowhere; {hint}")


def _sample(spec: Spec, row: Mapping[str, Any], index: int, where: str) -> Sample:
    fields = {**row, **{key: _column(row, value, where) for key, value in spec.columns.items()}}
    choices = _choices(spec, fields, where)
    targets = _texts(fields.get("target"), "target", where)
    if not targets and not (spec.columns.get("target") and isinstance(fields.get("target"), list)):
        raise DataError(f"{where}: the target is empty; give the right answer")
    cluster = fields.get("cluster")
    return Sample(
        id=str(fields["id"]) if fields.get("id") not in (None, "") else str(index + 1),
        input=_one_text(fields.get("input"), where),
        target=tuple(_resolve(target, choices, where) for target in targets),
        choices=choices,
        cluster=None if cluster in (None, "") else str(cluster),
        slices={name: str(fields[name]) for name in spec.slices if fields.get(name) not in (None, "")},
        fields=fields,
    )


def _column(row: Mapping[str, Any], expression: str | tuple[str, ...], where: str) -> Any:
    try:
        if isinstance(expression, str):
            return data.column(row, expression)
        return [data.column(row, part) for part in expression]
    except VevalsError as error:
        raise DataError(f"{where}: {error}") from error


def _choices(spec: Spec, fields: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The choices of this row; empty cells at the end (questions with fewer choices) are dropped."""
    if spec.choices:
        return spec.choices
    value = fields.get("choices")
    if value in (None, ""):
        return ()
    if not isinstance(value, list):
        raise DataError(f"{where}: choices must be several columns or a list; got {type(value).__name__}")
    while value and value[-1] in (None, ""):
        value = value[:-1]
    if any(choice in (None, "") for choice in value) or len(value) < 2:
        raise DataError(f"{where}: a choice is empty, or there are fewer than two")
    texts = tuple(_plain(choice).strip() for choice in value)
    if len(set(texts)) < len(texts):
        raise DataError(f"{where}: two choices are the same: no answer can tell them apart")
    return texts


def _resolve(target: str, choices: tuple[str, ...], where: str) -> str:
    """A target given as a choice's text or letter -> its text."""
    if not choices or target in choices:
        return target
    letters = [prompt.letter_of(index) for index in range(len(choices))]
    if target in letters:
        return choices[letters.index(target)]
    span = f"{letters[0]} to {letters[-1]}"
    several = "; for several, map it with split(target, ';')" if ";" in target else ""
    raise DataError(
        f"{where}: the target is '{target}'; with {len(choices)} choices use {span} or the choice's text{several}"
    )


def _texts(value: Any, name: str, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [_plain(item).strip() for item in values if item is not None]
    if any(isinstance(item, dict | list) for item in values):
        raise DataError(f"{where}: {name} holds nested data; map it in columns to texts")
    return [text for text in texts if text]


def _one_text(value: Any, where: str) -> str:
    if value is None or isinstance(value, dict | list):
        raise DataError(f"{where}: the input must be one text; map it in columns")
    text = _plain(value)
    if not text.strip():
        raise DataError(f"{where}: the input is empty")
    return text


def _shown(path: Path) -> Path:
    """``path`` as a person in the current folder would write it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@contextmanager
def _at(path: Path, line: int | None) -> Iterator[None]:
    """Put file and line before the message of an error raised inside."""
    try:
        yield
    except VevalsError as error:
        raise type(error)(f"{path}:{line or 1}: {error}") from error
