"""``vevals check``: everything about a benchmark that can be proved without a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vevals.benchmark import Benchmark
from vevals.check.duplicates import exact_duplicates, near_duplicates, question
from vevals.check.finding import Finding
from vevals.check.shortcuts import shortcuts
from vevals.check.texts import Length, length_of, personal_data, unclean
from vevals.errors import BenchmarkError, DataAbsent, RowErrors, VevalsError
from vevals.metrics import Metric
from vevals.prompt import letter_of, names_in
from vevals.types import Message, Outcome, Response, Sample, Scored

UNBALANCED = 1.5
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Report:
    """What ``vevals check`` knows of one benchmark."""

    benchmark: str
    samples: int
    labels: Mapping[str, int]
    slices: Mapping[str, Mapping[str, int]]
    first: tuple[Message, ...]
    findings: tuple[Finding, ...]
    absent: bool = False
    length: Length | None = None

    @property
    def ok(self) -> bool:
        """Whether everything was looked at and nothing needs repair."""
        return not self.absent and not any(finding.repair for finding in self.findings)


def problems(benchmark: Benchmark) -> Report:
    """Read all rows, render every prompt, look for duplicates, and score every sample's own target."""
    try:
        samples = benchmark.samples
        prompts = [benchmark.messages(sample) for sample in samples]
        findings = tuple(_findings(benchmark, samples, prompts))
    except DataAbsent as error:
        return Report(benchmark.name, 0, {}, {}, (), (Finding(str(error), repair=False),), absent=True)
    except RowErrors as error:
        return Report(benchmark.name, 0, {}, {}, (), tuple(Finding(text, repair=True) for text in error.problems))
    except VevalsError as error:
        return Report(benchmark.name, 0, {}, {}, (), (Finding(str(error), repair=True),))
    length = length_of(samples)
    counts = labels(samples), slices(benchmark)
    return Report(benchmark.name, len(samples), *counts, prompts[0], findings, length=length)


def labels(samples: Sequence[Sample]) -> Mapping[str, int]:
    """How often each label is the target, commonest first; empty when targets are free text."""
    constant = len({sample.choices for sample in samples}) == 1 and samples[0].choices
    counts = Counter(target for sample in samples for target in sample.target)
    if constant:
        return dict(counts.most_common())
    if samples[0].choices:
        asked = [sample for sample in samples if sample.choices]
        letters = Counter(letter_of(sample.choices.index(target)) for sample in asked for target in sample.target)
        return dict(letters.most_common())
    return {}


def slices(benchmark: Benchmark) -> Mapping[str, Mapping[str, int]]:
    """Slice -> value -> number of samples."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in benchmark.spec.slices}
    for sample in benchmark.samples:
        for name, value in sample.slices.items():
            counted[name][value] += 1
    return {name: dict(counts.most_common()) for name, counts in counted.items()}


def _findings(
    benchmark: Benchmark, samples: Sequence[Sample], prompts: Sequence[tuple[Message, ...]]
) -> Iterator[Finding]:
    bundled = is_bundled(benchmark)
    yield from (Finding(text, repair=True) for text in _prompts(benchmark, prompts))
    yield from (Finding(text, repair=True) for text in _classified(benchmark, samples))
    yield from (Finding(text, repair=True) for text in _full_marks(benchmark, samples))
    yield from (Finding(text, repair=bundled) for text in exact_duplicates(samples))
    yield from (Finding(text, repair=bundled) for text in near_duplicates(samples))
    yield from (Finding(text, repair=False) for text in _balance(benchmark, samples))
    yield from (Finding(text, repair=True) for text in _leaks(benchmark, samples))
    if bundled:
        yield from (Finding(text, repair=True) for text in unclean(samples))
        yield from (Finding(text, repair=True) for text in personal_data(samples))
        yield from shortcuts(benchmark, samples)


def is_bundled(benchmark: Benchmark) -> bool:
    """Whether the rows lie in the folder itself: then they can be repaired."""
    source = benchmark.spec.data
    return isinstance(source, str) or source.path is not None


def _prompts(benchmark: Benchmark, prompts: Sequence[tuple[Message, ...]]) -> Iterator[str]:
    """A prompt that does not ask the question, or that gives the answer away."""
    line = f"{benchmark.path}:{benchmark.lines.get(('prompt',), 1)}"
    used = names_in(benchmark.spec.prompt)
    if used & _target_names(benchmark):
        yield f"{line}: the prompt shows the target"
    if len(prompts) > 1 and len({messages[-1] for messages in prompts}) == 1:
        yield f"{line}: the prompt is the same for every row; write {{{{ input }}}} where the question belongs"
    if benchmark.extractor.name == "letter" and "choices" not in used:
        yield f"{line}: the answer is a letter, but the prompt shows no {{{{ choices }}}}"


def _target_names(benchmark: Benchmark) -> set[str]:
    source = benchmark.spec.columns.get("target", "target")
    return {"target", *([source] if isinstance(source, str) else source)}


def _classified(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[str]:
    """What a classifier is shown, where the YAML says it: the question without the answer, and there are labels."""
    if benchmark.spec.classify is None:
        return
    line = f"{benchmark.path}:{benchmark.lines.get(('classify',), 1)}"
    used = {name for template in benchmark.spec.texts_to_classify for name in names_in(template)}
    if used & _target_names(benchmark):
        yield f"{line}: classify shows the target"
    try:
        shown = {benchmark.classified(sample).prompts for sample in samples}
    except BenchmarkError as error:
        yield f"{line}: classify: {error}"
        return
    if len(shown) == 1 < len(samples):
        yield f"{line}: classify is the same for every row; write {{{{ input }}}} where the question belongs"


def _full_marks(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[str]:
    """Every metric must give each sample's own target the best value."""
    try:
        replies = [ideal_response(benchmark, sample) for sample in samples]
    except BenchmarkError as error:
        yield f"{benchmark.path}: {error}"
        return
    lost = [sample for sample, reply in zip(samples, replies, strict=True) if reply.answer is None and sample.target]
    if lost:
        where = _where(benchmark, lost[0])
        reader = benchmark.extractor.name
        yield f"{where}: the answer '{reader}' cannot be read back from the target '{lost[0].target[0]}'"
        return
    for metric in benchmark.metrics:
        rows = [metric.judge(sample, reply, {}) for sample, reply in zip(samples, replies, strict=True)]
        yield from _marks_lost(benchmark, metric, rows)


def _marks_lost(benchmark: Benchmark, metric: Metric, rows: Sequence[Scored]) -> Iterator[str]:
    if metric.statistic is None:
        wrong = [row for row in rows if row.value is None or abs(row.value - metric.best) > TOLERANCE]
    else:
        whole = metric.value(rows)
        if math.isnan(whole):
            yield f"{metric.name} has no value: are there rows that share a cluster?"
            return
        wrong = [] if abs(whole - metric.best) <= TOLERANCE else [row for row in rows if row.outcome != Outcome.scored]
        if abs(whole - metric.best) > TOLERANCE and not wrong:
            yield f"{metric.name} gives the targets themselves {whole:.4f}, not {metric.best:g}"
    if wrong:
        where, count = _where(benchmark, wrong[0].sample), f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        if wrong[0].value is None:
            yield f"{where}: {metric.name} cannot judge the target itself: {wrong[0].note}{count}"
        else:
            yield f"{where}: {metric.name} gives the target itself {wrong[0].value:g}, not {metric.best:g}{count}"


def _where(benchmark: Benchmark, sample: Sample) -> str:
    return benchmark.place(benchmark.rows.where(benchmark.samples.index(sample)))


def ideal_response(benchmark: Benchmark, sample: Sample) -> Response:
    """The response of a model that gives the target as its answer."""
    if benchmark.kind == "loglikelihood":
        logprobs = tuple(0.0 if choice in sample.target else -1000.0 for choice in sample.choices)
        ones = tuple(1 for _ in sample.choices)
        response = Response(sample.id, logprobs=logprobs, choice_tokens=ones, greedy=tuple(x == 0 for x in logprobs))
    else:
        response = Response(sample.id, text=benchmark.ideal(sample))
    answer = benchmark.extractor.answer(sample, response)
    return Response(sample.id, response.text, response.logprobs, response.choice_tokens, response.greedy, answer=answer)


def _balance(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[str]:
    counts = labels(samples)
    if samples[0].choices and not benchmark.spec.chance and benchmark.extractor.name != "labels":
        number = len(samples[0].choices)
        yield f"chance is 0, but there are {number} choices; guessing scores about {1 / number:.4f}"
    if len(counts) > 1:
        share = max(counts.values()) / sum(counts.values())
        if share * len(counts) > UNBALANCED:
            top = next(iter(counts))
            yield f"label '{top}' is {100 * share:.0f}% of the targets; a fair share is {100 / len(counts):.0f}%"


def _leaks(benchmark: Benchmark, samples: Sequence[Sample]) -> Iterator[str]:
    """A few-shot example that is itself a question of the set."""
    asked = {question(sample): sample.id for sample in samples}
    for shot in benchmark.shots:
        if question(shot) in asked:
            yield f"the few-shot example '{shot.id}' is the question '{asked[question(shot)]}'"
