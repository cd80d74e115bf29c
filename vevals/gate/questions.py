"""What a policy asks of two run sets: every check becomes its instances, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vevals.evidence import Evidence, RunSet, differing, pair
from vevals.gate.terms import RESERVED, SCORE, Check, Limit, Policy


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark's share of a question. Under a relative limit both sides are paired row by row."""

    candidate: Evidence
    baseline: Evidence | None
    metric: str


@dataclass(frozen=True, slots=True)
class Question:
    """One check instance to be decided: one part, or several under ``combine: mean``.

    ``problem``: why it is INVALID.
    """

    check: Check
    limit: Limit
    benchmark: str
    metric: str
    where: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """The check's id and what it was applied to."""
        what = [self.benchmark, *(f"{key}={value}" for key, value in self.where.items())]
        metric = "" if self.metric in ("", SCORE) else self.metric
        kind = self.limit.kind if len(self.check.limits) > 1 else ""
        return " · ".join(filter(None, [self.check.id, *what, metric, kind]))


@dataclass(frozen=True, slots=True)
class Setting:
    """The two sides, and the benchmarks of the suites that the policy names. ``baseline`` None: relative checks are
    skipped (a first release).
    """

    policy: Policy
    candidate: RunSet
    baseline: RunSet | None
    suites: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """All questions, and what is only listed: slices that are too small, checks that were skipped."""

    questions: tuple[Question, ...]
    listed: tuple[str, ...]


def ask(setting: Setting) -> Asked:
    """The instances of every check of the policy."""
    questions: list[Question] = []
    listed: list[str] = []
    for check in setting.policy.checks:
        for limit in check.limits:
            if limit.against_baseline and setting.baseline is None:
                listed.append(f"{check.id}: skipped, there is no baseline yet")
            else:
                found = _Asking(setting, check, limit, listed)
                questions += found.questions()
    return Asked(tuple(questions), tuple(listed))


@dataclass(frozen=True, slots=True)
class _Asking:
    """One limit of one check being applied."""

    setting: Setting
    check: Check
    limit: Limit
    listed: list[str]

    def questions(self) -> list[Question]:
        stray = [self._invalid("", self._metric(), problem) for problem in self._strays()]
        names = self._benchmarks()
        if not names:
            nothing = f"selects nothing: no benchmark of these runs has {self._wanted()}"
            return stray or [self._invalid("", self._metric(), nothing)]
        whole = [question for name in names for question in self._whole(name)]
        if self.check.for_each:
            return [*stray, *self._sliced(whole)]
        if self.check.combine == "mean" and len(whole) > 1:
            return [*stray, self._mean(whole)]
        return [*stray, *whole]

    def _strays(self) -> list[str]:
        """Values of the select and fields of ``for_each`` that nothing here has: a typo must not pass."""
        select, known = self.check.select, [one for side in self._sides() for one in side.evidence.values()]
        names = {name for side in self._sides() for name in (*side.evidence, *side.problems)}
        domains = {name.split("/")[0] for name in names}
        tags = {tag for one in known for tag in one.tags}
        fields = {key for one in known for slices in one.slices for key in slices}
        found = [f"domain {one}" for one in select.domain if one not in domains]
        found += [f"tag {one}" for one in select.tag if one not in tags]
        found += [f"benchmark {one}" for one in select.benchmark if not any(fnmatchcase(name, one) for name in names)]
        found += [f"metric {one}" for one in self._metrics() if not any(_column(evidence, one) for evidence in known)]
        found += [f"slice {one}" for one in (*select.slice, *self.check.for_each) if one not in fields]
        for key in sorted(set(select.slice) & fields):
            have = {slices.get(key) for one in known for slices in one.slices}
            found += [f"{key}={value}" for value in select.slice[key] if value not in have]
        return [f"selects nothing: no benchmark of these runs has the {one}" for one in found] if known else []

    def _sides(self) -> list[RunSet]:
        return [side for side in (self.setting.candidate, self.setting.baseline) if side is not None]

    def _benchmarks(self) -> list[str]:
        """Names that either side has and the select matches: what only the baseline has is not forgotten."""
        names = {name for side in self._sides() for name in (*side.evidence, *side.problems)}
        names |= {name for suite in self.check.select.suite for name in self.setting.suites.get(suite, ())}
        names |= {name for name in self.check.select.benchmark if not set(name) & set("*?[")}
        return sorted(name for name in names if self._selected(name))

    def _selected(self, name: str) -> bool:
        select = self.check.select
        if select.benchmark and not any(fnmatchcase(name, pattern) for pattern in select.benchmark):
            return False
        if select.domain and name.split("/")[0] not in select.domain:
            return False
        if select.suite and not any(name in self.setting.suites.get(suite, ()) for suite in select.suite):
            return False
        known = [side.evidence[name] for side in self._sides() if name in side.evidence]
        if select.tag and known and not any(tag in evidence.tags for evidence in known for tag in select.tag):
            return False
        return not known or any(_column(evidence, wanted) for evidence in known for wanted in self._metrics())

    def _metrics(self) -> tuple[str, ...]:
        return self.check.select.metric or (SCORE,)

    def _metric(self) -> str:
        return " or ".join(self._metrics())

    def _wanted(self) -> str:
        select = self.check.select
        told = {"benchmark": select.benchmark, "suite": select.suite, "domain": select.domain, "tag": select.tag}
        parts = [f"{key} {' or '.join(values)}" for key, values in told.items() if values]
        return " and ".join([*parts, f"the metric {self._metric()}"])

    def _invalid(self, benchmark: str, metric: str, problem: str) -> Question:
        return Question(self.check, self.limit, benchmark, metric, problem=problem)

    def _whole(self, name: str) -> list[Question]:
        """A question for each metric on all selected samples of one benchmark, or why it cannot be asked."""
        known = [side.evidence[name] for side in self._sides() if name in side.evidence]
        wanted = [metric for metric in self._metrics() if not known or any(_column(one, metric) for one in known)]
        names = dict.fromkeys(_column(known[0], metric) or metric if known else metric for metric in wanted)
        return [self._of_metric(name, metric) for metric in names]

    def _of_metric(self, name: str, metric: str) -> Question:
        problem = self._problem(name, metric)
        if problem:
            return self._invalid(name, metric, problem)
        candidate = self.setting.candidate.evidence[name]
        baseline = self.setting.baseline.evidence[name] if self._relative() and self.setting.baseline else None
        if baseline is not None:
            candidate, baseline = pair(candidate, baseline)
        part = Part(candidate, baseline, metric)
        if self.check.select.slice:
            part = self._cut(part)
        if not part.candidate.ids:
            return self._invalid(name, metric, "no sample is in the selected slice")
        return Question(self.check, self.limit, name, metric, parts=(part,))

    def _cut(self, part: Part) -> Part:
        """The part on the samples of the selected slice."""
        rows = [row for row, slices in enumerate(part.candidate.slices) if self._in_slice(slices)]
        baseline = None if part.baseline is None else part.baseline.take(rows)
        return Part(part.candidate.take(rows), baseline, part.metric)

    def _relative(self) -> bool:
        return self.limit.against_baseline

    def _in_slice(self, slices: Mapping[str, str]) -> bool:
        return all(slices.get(key) in values for key, values in self.check.select.slice.items())

    def _problem(self, name: str, metric: str) -> str:
        for side, word in ((self.setting.candidate, "candidate"), (self.setting.baseline, "baseline")):
            if side is None or (word == "baseline" and not self._relative()):
                continue
            if name in side.problems:
                return f"{word}: {side.problems[name]}"
            if name not in side.evidence:
                return f"the {word} has no finished run of {name}"
            if not _column(side.evidence[name], metric):
                return f"the {word}'s run of {name} has no metric {metric}"
        if not self._relative() or self.setting.baseline is None:
            return ""
        return self._incomparable(self.setting.candidate.evidence[name], self.setting.baseline.evidence[name])

    def _incomparable(self, candidate: Evidence, baseline: Evidence) -> str:
        parts = differing(candidate, baseline, self.setting.policy.must_match)
        if parts:
            return f"not comparable: the runs differ in {' and '.join(parts)}"
        shared = set(zip(candidate.ids, candidate.contents, strict=True)) & set(
            zip(baseline.ids, baseline.contents, strict=True)
        )
        return "" if shared else "not comparable: the runs share no sample"

    def _sliced(self, whole: Sequence[Question]) -> list[Question]:
        """One question a value of each field of ``for_each``; small slices are listed, but not all of them can be."""
        found = [question for question in whole if question.problem]
        for question in whole:
            for field_name in self.check.for_each:
                found += self._values(question, field_name)
        if not found:
            least = self.check.statistics.min_samples
            return [self._invalid("", self._metric(), f"decides nothing: no slice has {least} samples")]
        return found

    def _values(self, question: Question, field_name: str) -> Iterator[Question]:
        if question.problem:
            return
        part = question.parts[0]
        values = [slices.get(field_name) for slices in part.candidate.slices]
        for value in sorted({value for value in values if value is not None}):
            rows = [row for row, own in enumerate(values) if own == value]
            least = self.check.statistics.min_samples
            if len(rows) < least:
                self.listed.append(
                    f"{self.check.id} · {question.benchmark} · {field_name}={value}: {len(rows)} samples, "
                    f"fewer than {least}: not judged"
                )
                continue
            baseline = None if part.baseline is None else part.baseline.take(rows)
            cut = Part(part.candidate.take(rows), baseline, part.metric)
            where = {field_name: value}
            yield Question(self.check, self.limit, question.benchmark, question.metric, where, (cut,))

    def _mean(self, whole: Sequence[Question]) -> Question:
        """One stratified mean over several benchmarks; one that cannot be asked makes the mean INVALID."""
        for question in whole:
            if question.problem:
                return self._invalid(question.benchmark, question.metric, question.problem)
        label = f"mean of {len(whole)} benchmarks"
        parts = tuple(part for question in whole for part in question.parts)
        return Question(self.check, self.limit, label, self._metric(), parts=parts)


def _column(evidence: Evidence, wanted: str) -> str:
    """The metric's name in this benchmark, or nothing."""
    if wanted == SCORE:
        return evidence.score.name
    return wanted if wanted in evidence.columns or wanted in RESERVED else ""
