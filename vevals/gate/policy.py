"""The gate's policy file: YAML -> Policy, or one sentence with file and line. Knows pydantic, as ``vevals.spec`` does.

The models whose names end in ``Spec`` read the file and describe it to editors (JSON Schema); the rest of the package
uses only the frozen values of ``vevals.gate.terms``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from vevals.canonical import sha256_hex
from vevals.errors import BenchmarkError, PolicyError
from vevals.gate.terms import (
    PARTS,
    RATES,
    RESERVED,
    SCORE,
    USAGE,
    BaselineRule,
    Budget,
    Check,
    ContaminationLimit,
    Errors,
    JudgeLimits,
    Level,
    Limit,
    LimitKind,
    Method,
    Part,
    Policy,
    Require,
    Rule,
    Select,
    Statistics,
    Waiver,
)
from vevals.gate.verdict import Severity
from vevals.spec import Lines, Strict, near_miss, parse_yaml, read_text, validate

SCHEMA = "vevals.gate/v1"
_TEXT_KEYS = (
    *("name", "ref", "domains", "cluster", "id", "select", "for_each"),
    *("check", "where", "reason", "owner", "issue", "expires"),
)
SMALLEST_MARGIN = 1e-6
_USAGE_PREFIXES = ("usd_per", "input_tokens", "output_tokens", "seconds")

Place = tuple[str | int, ...]
Problem = tuple[Place, str]
"""Where in the document, and one sentence."""


# What the file may say.


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _field_or_null(value: Any) -> Any:
    """``null`` as somebody wrote it. Nothing at all is no value: a forgotten one must not undo the clusters."""
    return None if value in ("null", "~") else value


def _key(about: str, example: Any, default: Any = ..., **rules: Any) -> Any:
    """A key of the file: what it means, an example, its default (none: required) and pydantic's constraints."""
    return Field(default, description=about, examples=[example], **rules)


_LISTED = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ]
}
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema(_LISTED)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Flag = Annotated[bool, Field(strict=True)]
Cluster = Annotated[Text | None, BeforeValidator(_field_or_null)]


class BaselineSpec(Strict):
    """The baseline: a run set that stands for the model in production."""

    ref: Text = _key("Name of a baseline (vevals baseline set), a run label or a digest.", "prod")
    max_age_days: Count | None = _key("A baseline older than this makes the gate INVALID. Default: any age.", 90, None)
    on_missing: Literal["invalid", "skip_relative"] = _key(
        "Without a baseline: the gate is INVALID, or checks against it are skipped (first release).",
        "invalid",
        "invalid",
    )


class ErrorsSpec(Strict):
    """What rows without a value do to a check."""

    rule: Rule = _key(
        "They count as badly as they could, or are left out (only where no check blocks).", "worst_case", "worst_case"
    )
    max_rate: Share = _key("A larger share of such rows, on either side, makes a check INVALID.", 0.02, 0.02)


class ErrorsChangeSpec(Strict):
    """What rows without a value do to this check; a key that is not given is as in statistics.errors."""

    rule: Rule | None = _key(
        "They count as badly as they could, or are left out (only on a check that does not block).", "drop", None
    )
    max_rate: Share | None = _key("A larger share of such rows, on either side, makes this check INVALID.", 0.05, None)


_CLUSTER = "Samples that stand or fall together: auto (what the benchmark says), a field of the samples, or null."


class StatisticsSpec(Strict):
    """Confidence and method, the same for all checks unless a check says otherwise."""

    confidence: Number = _key("One-sided confidence of each check.", 0.95, 0.95, gt=0.5, le=0.9999)
    method: Method = _key(
        "auto, plus2, or anytime (an e-process: samples may be added and looked at again).", "auto", "auto"
    )
    cluster: Cluster = _key(_CLUSTER, "auto", "auto")
    repeats: Count = _key("Fewest repeats of each sample, on both sides.", 1, 1)
    min_samples: Count = _key("A check on fewer samples is INCONCLUSIVE.", 50, 50)
    errors: ErrorsSpec = _key("Rows that failed or could not be judged.", {"max_rate": 0.02}, ErrorsSpec())
    seed: Annotated[int, Field(strict=True, ge=0)] = _key("Seed of everything that is drawn.", 20260101, 0)


class ComparabilitySpec(Strict):
    """What must be the same on both sides of a comparison."""

    must_match: tuple[Part, ...] = _key(
        "Parts of the fingerprint that must be equal on both sides; a difference makes a check INVALID.",
        ["dataset", "prompt"],
        PARTS,
    )


class RequireSpec(Strict):
    """What a candidate must bring, whatever it scores."""

    domains: Texts | None = _key("Domains that the candidate must have been run on.", ["medical", "legal"], None)
    present: Share = _key("Least share of the rows that must exist, whatever their outcome.", 0.99, 0.99)


class SelectSpec(Strict):
    """What is looked at: keys are joined by AND, values of a key by OR."""

    benchmark: Texts | None = _key("Name of a benchmark, or a pattern.", "medical/*", None)
    suite: Texts | None = _key("Name of a suite.", "core", None)
    domain: Texts | None = _key("Domain: the first part of a benchmark's name.", ["customer_service", "legal"], None)
    tag: Texts | None = _key("Tag of a benchmark.", "safety", None)
    metric: Texts | None = _key(
        f"A benchmark's metric; score (the default of a check): each benchmark's first; or {', '.join(RESERVED)}.",
        "score",
        None,
    )
    slice: dict[Text, Texts] | None = _key(
        "Values of slice fields: narrows the samples.", {"language": ["de", "fr"]}, None, min_length=1
    )


class NoWorseThanSpec(Strict):
    """How much worse than the baseline a score may be; give one of the two margins."""

    baseline: Flag = _key("Always true: the comparison is with the policy's baseline.", True, True)
    margin: Number | None = _key("In the metric's units: 0.02 is 2 points of a share.", 0.02, None)
    margin_relative: Number | None = _key("As a share of the baseline's value: 0.05 is 5%.", 0.05, None)


class JudgeSpec(Strict):
    """How well the judge of judged metrics must agree with human labels."""

    min_labels: Count = _key("Fewest labelled samples.", 50, 50)
    min_rare: Count = _key("Fewest labelled samples of the rarer class.", 10, 10)
    min_kappa_lower: Number = _key("What the one-sided lower bound of kappa must reach.", 0.4, 0.4, ge=-1, le=1)


class ContaminationSpec(Strict):
    """How much of the questions the model may have seen in training."""

    max_flagged_rate: Share = _key("Largest share of flagged samples.", 0.01)


class CheckSpec(Strict):
    """One check: select with at least one limit, or judge, or contamination."""

    id: Text = _key("Name of the check, once in a policy.", "no-regression")
    select: SelectSpec | None = _key("What the check looks at.", {"domain": "medical", "metric": "accuracy"}, None)
    at_least: Number | None = _key("The value must be at least this.", 0.8, None)
    at_most: Number | None = _key("The value must be at most this.", 0.005, None)
    no_worse_than: NoWorseThanSpec | None = _key(
        "A score may be worse than the baseline's by no more than a margin.", {"baseline": True, "margin": 0.02}, None
    )
    max_increase: Number | None = _key(
        "Cost, tokens or latency may exceed the baseline's by this share: 0.1 is 10%.", 0.1, None
    )
    combine: Literal["each", "mean"] = _key("Several benchmarks: a decision on each, or on their mean.", "each", "each")
    for_each: Texts | None = _key("Slice fields: a decision on each of their values.", ["language", "intent"], None)
    severity: Level = _key("block decides, warn is listed, info is reported.", "block", "block")
    cluster: Cluster = _key(f"{_CLUSTER} Default: as in statistics.", "dialogue", None)
    min_samples: Count | None = _key("As in statistics, for this check.", 30, None)
    repeats: Count | None = _key("As in statistics, for this check.", 3, None)
    errors: ErrorsChangeSpec | None = _key("As in statistics, for this check.", {"max_rate": 0.05}, None)
    judge: JudgeSpec | None = _key(
        "Instead of limits: agreement of the judge with human labels.", {"min_labels": 50}, None
    )
    contamination: ContaminationSpec | None = _key(
        "Instead of limits: share of questions that the model may have seen.", {"max_flagged_rate": 0.01}, None
    )


class BudgetSpec(Strict):
    """Where vevals gate run stops asking for more."""

    max_samples: Count | None = _key("Most samples, all benchmarks together.", 4000, None)
    max_usd: Number | None = _key("Most money, in US dollars.", 50, None, gt=0)
    stop_early: Flag = _key("Stop once every check is decided (only with method: anytime).", False, False)


class WaiverSpec(Strict):
    """A looser limit for a time, with somebody who answers for it."""

    check: Text = _key("Id of the check, which has one limit.", "no-regression")
    where: SelectSpec | None = _key(
        "The part of the check that it is for. Default: all of it.", {"domain": "legal"}, None
    )
    down_to: Number = _key(
        "The limit instead; for no_worse_than the signed difference: -0.03 is a margin of 0.03.", -0.03
    )
    reason: Text = _key("Why this is acceptable for now.", "New statute, data follow in May.")
    owner: Text = _key("Who answers for it.", "a@b.example")
    issue: Text = _key("Where the repair is tracked.", "https://issues.example/17")
    expires: Text = _key(
        "Last day that it counts, at most 180 days ahead.", "2026-12-31", json_schema_extra={"format": "date"}
    )


class PolicySpec(Strict):
    """A release policy for vevals gate: which checks a model must pass to be released."""

    schema_: Literal["vevals.gate/v1"] = _key("Version of this format.", SCHEMA, alias="schema")
    name: Text = _key("Name of the policy.", "support-bot-release")
    baseline: BaselineSpec | None = _key("What the candidate is compared with.", {"ref": "prod"}, None)
    statistics: StatisticsSpec = _key("How checks are decided.", {"confidence": 0.95}, StatisticsSpec())
    comparability: ComparabilitySpec = _key(
        "When two runs may be compared.", {"must_match": ["dataset", "prompt"]}, ComparabilitySpec()
    )
    require: RequireSpec = _key(
        "What must be there before anything is decided.", {"domains": ["medical"]}, RequireSpec()
    )
    ledger: Literal["required", "optional"] = _key(
        "required: without a ledger of earlier verdicts, which counts attempts, the gate is INVALID.",
        "required",
        "optional",
    )
    checks: tuple[CheckSpec, ...] = _key(
        "The checks, at least one.", [{"id": "floor", "select": {"metric": "score"}, "at_least": 0.8}]
    )
    on_inconclusive: Literal["block", "warn", "extend"] = _key(
        "When a block check is INCONCLUSIVE: stop the release, let it pass with a warning, or ask more samples.",
        "block",
        "block",
    )
    budget: BudgetSpec = _key("How far vevals gate run may go.", {"max_samples": 4000}, BudgetSpec())
    waivers: tuple[WaiverSpec, ...] = _key("Looser limits for a time.", [], ())


# From the file to a policy.


def load_policy(path: Path) -> Policy:
    """The policy in ``path``; PolicyError for a file that cannot be read or says something that cannot be meant."""
    with _told_of_the_policy():
        return parse_policy(read_text(path), str(path))


def parse_policy(text: str, name: str) -> Policy:
    """As ``load_policy``, from a text (one kept inside a verdict, say); ``name`` stands for the file in errors."""
    with _told_of_the_policy():
        document, lines = parse_yaml(text, name, _TEXT_KEYS)
        spec = validate(PolicySpec, document, lines, name)
    for problems in (_empty_values(document), _problems(spec), _waiver_mistakes(spec)):
        _raise_first(problems, lines, name)
    return _policy(spec, lines, name, text)


@contextmanager
def _told_of_the_policy() -> Iterator[None]:
    try:
        yield
    except BenchmarkError as error:
        raise PolicyError(str(error)) from error


def _raise_first(problems: Iterator[Problem], lines: Lines, name: str) -> None:
    """Raise the problem that stands first in the file, if there is one."""
    found = sorted(((_line(place, lines), sentence) for place, sentence in problems), key=lambda item: item[0])
    if found:
        raise PolicyError(f"{name}:{found[0][0]}: {found[0][1]}")


def _line(place: Place, lines: Lines) -> int:
    """The line of ``place``, or of what it would be a part of."""
    while place and place not in lines:
        place = place[:-1]
    return lines[place]


def _policy(spec: PolicySpec, lines: Lines, name: str, text: str) -> Policy:
    checks = tuple(_check(check, spec.statistics, lines["checks", at]) for at, check in enumerate(spec.checks))
    waivers = tuple(_waiver(waiver, lines["waivers", at]) for at, waiver in enumerate(spec.waivers))
    base, budget = spec.baseline, spec.budget
    return Policy(
        schema=spec.schema_,
        name=spec.name,
        path=name,
        text=text,
        sha256=sha256_hex(_document(spec)),
        terms=sha256_hex(_terms(_document(spec))),
        baseline=BaselineRule(base.ref, base.max_age_days, base.on_missing) if base else None,
        statistics=_statistics(spec.statistics),
        must_match=spec.comparability.must_match,
        require=Require(spec.require.domains or (), spec.require.present),
        ledger=spec.ledger,
        checks=checks,
        on_inconclusive=spec.on_inconclusive,
        budget=Budget(budget.max_samples, budget.max_usd, budget.stop_early),
        waivers=waivers,
    )


def _terms(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is decided by: without the name, the waivers and the seed."""
    kept = {key: value for key, value in document.items() if key not in ("name", "waivers")}
    statistics = {key: value for key, value in document["statistics"].items() if key != "seed"}
    return {**kept, "statistics": statistics}


def _document(value: Any) -> Any:
    """What the file says as plain values, defaults filled in; keys that are not given and have none are left out."""
    if isinstance(value, BaseModel):
        given = value.model_fields_set
        pairs = ((key.alias or name, name, getattr(value, name)) for name, key in type(value).model_fields.items())
        return {key: _document(item) for key, name, item in pairs if item is not None or name in given}
    if isinstance(value, dict):
        return {key: _document(item) for key, item in value.items()}
    return [_document(item) for item in value] if isinstance(value, tuple) else value


def _statistics(spec: StatisticsSpec, check: CheckSpec | None = None) -> Statistics:
    """The policy's statistics, with what ``check`` says otherwise."""
    errors = Errors(spec.errors.rule, spec.errors.max_rate)
    common = Statistics(spec.confidence, spec.method, spec.cluster, spec.repeats, spec.min_samples, errors, spec.seed)
    if check is None:
        return common
    own: dict[str, Any] = {
        key: getattr(check, key) for key in ("cluster", "repeats", "min_samples") if key in check.model_fields_set
    }
    if check.errors is not None:
        own["errors"] = replace(errors, **{key: getattr(check.errors, key) for key in check.errors.model_fields_set})
    return replace(common, **own)


def _check(spec: CheckSpec, statistics: StatisticsSpec, line: int) -> Check:
    judge, contamination = spec.judge, spec.contamination
    return Check(
        id=spec.id,
        select=_select(spec.select, () if judge or contamination else (SCORE,)),
        limits=tuple(_limits(spec)),
        combine=spec.combine,
        for_each=spec.for_each or (),
        severity=Severity(spec.severity),
        statistics=_statistics(statistics, spec),
        judge=JudgeLimits(judge.min_labels, judge.min_rare, judge.min_kappa_lower) if judge else None,
        contamination=ContaminationLimit(contamination.max_flagged_rate) if contamination else None,
        line=line,
    )


def _select(spec: SelectSpec | None, metric: tuple[str, ...]) -> Select:
    """``metric`` stands where none is given."""
    if spec is None:
        return Select(metric=metric)
    parts = (spec.benchmark or (), spec.suite or (), spec.domain or (), spec.tag or ())
    return Select(*parts, spec.metric or metric, spec.slice or {})


def _limits(spec: CheckSpec) -> Iterator[Limit]:
    """In this order, whatever the order in the file."""
    if spec.at_least is not None:
        yield Limit("at_least", spec.at_least)
    if spec.at_most is not None:
        yield Limit("at_most", spec.at_most)
    worse = spec.no_worse_than
    if worse is not None and worse.margin is not None:
        yield Limit("no_worse_than", worse.margin)
    if worse is not None and worse.margin_relative is not None:
        yield Limit("no_worse_than", worse.margin_relative, relative=True)
    if spec.max_increase is not None:
        yield Limit("max_increase", spec.max_increase)


def _waiver(spec: WaiverSpec, line: int) -> Waiver:
    where, expires = _select(spec.where, ()), date.fromisoformat(spec.expires)
    return Waiver(spec.check, where, spec.down_to, spec.reason, spec.owner, spec.issue, expires, line)


# What the file must not say.


def _empty_values(document: Any, at: Place = ()) -> Iterator[Problem]:
    """Keys without a value: somebody forgot it."""
    if document is None:
        yield at, f"'{'.'.join(map(str, at))}' has no value; write one, or delete the key"
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from _empty_values(value, (*at, key))


def _problems(spec: PolicySpec) -> Iterator[Problem]:
    if not spec.checks:
        yield ("checks",), "a policy needs at least one check"
    yield from _looking_again(spec)
    first: dict[str, int] = {}
    for at, check in enumerate(spec.checks):
        if first.setdefault(check.id, at) != at:
            yield ("checks", at, "id"), f"the id '{check.id}' is taken by another check; give each check its own"
        special = check.judge or check.contamination
        for place, sentence in _special_problems(check) if special else _limit_problems(check, spec):
            yield ("checks", at, *place), sentence


def _looking_again(spec: PolicySpec) -> Iterator[Problem]:
    """A bound for a fixed number of samples does not hold for somebody who looks, adds samples and looks again."""
    remedy = "set statistics: {method: anytime}, whose bounds stay valid when looked at again"
    fixed, budget = spec.statistics.method != "anytime", spec.budget
    if spec.on_inconclusive == "extend" and fixed:
        yield ("on_inconclusive",), f"'extend' is not valid with method: {spec.statistics.method}; {remedy}"
    if budget.stop_early and fixed:
        yield ("budget", "stop_early"), f"'stop_early' is not valid with method: {spec.statistics.method}; {remedy}"
    if spec.on_inconclusive == "extend" and budget.max_samples is None and budget.max_usd is None:
        yield ("on_inconclusive",), "'extend' needs an end; add budget: {max_samples: 4000} or a max_usd"


def _special_problems(check: CheckSpec) -> Iterator[Problem]:
    kind = "judge" if check.judge else "contamination"
    for key in sorted(check.model_fields_set - {"id", "severity", kind}):
        yield (key,), f"a check of '{kind}' has no '{key}'; put that into a check of its own"


def _limit_problems(check: CheckSpec, spec: PolicySpec) -> Iterator[Problem]:
    yield from _select_problems(check)
    yield from _absolute_problems(check)
    yield from _relative_problems(check, spec.baseline is not None)
    for metric in _select(check.select, (SCORE,)).metric:
        yield from _metric_problems(check, metric)
    if check.combine == "mean" and check.for_each:
        yield ("combine",), "'combine: mean' and 'for_each' exclude each other; write two checks"
    if check.severity == "block" and _statistics(spec.statistics, check).errors.rule == "drop":
        own = check.errors is not None and check.errors.rule is not None
        place = ("errors", "rule") if own else ()
        yield place, f"'{check.id}' blocks, so it cannot use errors.rule: drop; use worst_case, or severity: warn"


def _select_problems(check: CheckSpec) -> Iterator[Problem]:
    if all(getattr(check, kind) is None for kind in get_args(LimitKind)):
        yield (), f"'{check.id}' has no limit; add at_least, at_most, no_worse_than or max_increase"
    if check.select is None or not check.select.model_fields_set:
        yield ("select",), f"'{check.id}' selects nothing; select: {{metric: score}} is the score of every benchmark"


def _absolute_problems(check: CheckSpec) -> Iterator[Problem]:
    low, high = check.at_least, check.at_most
    if low is not None and high is not None and low >= high:
        yield ("at_least",), f"no value passes at_least {low:g} together with at_most {high:g}"


def _relative_problems(check: CheckSpec, has_baseline: bool) -> Iterator[Problem]:
    worse, increase = check.no_worse_than, check.max_increase
    key = "no_worse_than" if worse is not None else "max_increase"
    if (worse is not None or increase is not None) and not has_baseline:
        yield (key,), f"'{key}' needs something to compare with; add a line baseline: {{ref: NAME}} to the policy"
    if increase is not None and increase < 0:
        yield ("max_increase",), f"max_increase is {increase:g}; write the increase that is allowed, 0 or more"
    if worse is not None:
        for place, sentence in _margin_problems(worse):
            yield ("no_worse_than", *place), sentence


def _margin_problems(worse: NoWorseThanSpec) -> Iterator[Problem]:
    if not worse.baseline:
        yield ("baseline",), "no_worse_than compares with the policy's baseline; write baseline: true"
    if (worse.margin is None) == (worse.margin_relative is None):
        yield (), "give either margin (in the metric's units) or margin_relative (a share of the baseline)"
    for key, margin in (("margin", worse.margin), ("margin_relative", worse.margin_relative)):
        if margin is not None and margin < 0:
            yield (key,), f"{key} is {margin:g}; write how much worse is acceptable, 0 or more"
        elif margin is not None and 0 < margin < SMALLEST_MARGIN:
            yield (
                (key,),
                f"{key} is {margin:g}, which nothing can show; write 0 or at least {SMALLEST_MARGIN:g}",
            )
    if worse.margin_relative is not None and worse.margin_relative >= 1:
        yield ("margin_relative",), f"margin_relative is {worse.margin_relative:g}; it is a share: 0.05 for 5%"


def _metric_problems(check: CheckSpec, metric: str) -> Iterator[Problem]:
    usage = metric in USAGE
    if not usage and metric.startswith(_USAGE_PREFIXES):
        hint = near_miss(metric, USAGE) or f"; there are {', '.join(USAGE)}"
        yield ("select", "metric"), f"unknown metric '{metric}'{hint}"
    elif usage and check.at_least is not None:
        yield ("at_least",), f"'{metric}' is better when it is lower; write at_most"
    elif usage and check.no_worse_than is not None:
        yield ("no_worse_than",), f"'{metric}' is compared as a ratio; write max_increase: 0.10 for at most 10% more"
    elif not usage and check.max_increase is not None:
        remedy = "write no_worse_than: {baseline: true, margin: 0.02}"
        yield ("max_increase",), f"max_increase is for cost, tokens and latency, not for '{metric}'; {remedy}"
    for key in ("at_least", "at_most"):
        value = getattr(check, key)
        if metric in RATES and value is not None and not 0 <= value <= 1:
            yield (key,), f"{key} is {value:g}, but '{metric}' is a share from 0 to 1: write 0.05 for 5%"


def _waiver_mistakes(spec: PolicySpec) -> Iterator[Problem]:
    """What is wrong with waivers whatever the date; the checks are known to be sound."""
    checks = {check.id: check for check in spec.checks}
    for at, waiver in enumerate(spec.waivers):
        if any((other.check, other.where) == (waiver.check, waiver.where) for other in spec.waivers[:at]):
            yield ("waivers", at), f"the same part of '{waiver.check}' is waived twice"
        if waiver.where is not None and not waiver.where.model_fields_set:
            yield ("waivers", at, "where"), "'where' is empty; say which part of the check, or delete the key"
        for key in ("suite", "tag"):
            if waiver.where is not None and getattr(waiver.where, key) is not None:
                sentence = f"a waiver is for benchmarks, domains, metrics or slices, not for a {key}; name them"
                yield ("waivers", at, "where", key), sentence
        if not _is_date(waiver.expires):
            yield ("waivers", at, "expires"), f"expires is '{waiver.expires}'; write a date as in 2026-12-31"
        elif waiver.check not in checks:
            sentence = f"no check has the id '{waiver.check}'{near_miss(waiver.check, list(checks))}"
            yield ("waivers", at, "check"), sentence
        else:
            yield from _depth_problems(waiver, tuple(_limits(checks[waiver.check])), at)


def _is_date(text: str) -> bool:
    try:
        return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _depth_problems(spec: WaiverSpec, limits: tuple[Limit, ...], at: int) -> Iterator[Problem]:
    """``down_to`` replaces one number, and must let more through than it."""
    if len(limits) != 1:
        has = "two limits; split it, so that the waiver is for one" if limits else "no limit that down_to could replace"
        yield ("waivers", at, "check"), f"the check '{spec.check}' has {has}"
        return
    now, waived = limits[0], _waiver(spec, 0).limit_for(limits[0])
    if waived.value < 0 and now.kind == "no_worse_than":
        sentence = f"for no_worse_than, down_to is the difference that is allowed: {-spec.down_to:g}, with a minus"
        yield ("waivers", at, "down_to"), sentence
    elif waived.stricter_than(now):
        standing = -now.value if now.kind == "no_worse_than" else now.value
        sentence = f"down_to {spec.down_to:g} is stricter than the limit that it waives ({standing:g})"
        yield ("waivers", at, "down_to"), sentence


# For editors.


def policy_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, with a title, a description and an example for every key."""
    body = PolicySpec.model_json_schema(by_alias=True)
    for model in (body, *body["$defs"].values()):
        model["properties"] = {key: _described(key, value) for key, value in model["properties"].items()}
    body["title"] = "Release policy"
    for name, model in body["$defs"].items():
        model["title"] = _words(name.removesuffix("Spec"))
    margins = [{"required": ["margin"]}, {"required": ["margin_relative"]}]
    body["$defs"]["NoWorseThanSpec"]["oneOf"] = margins
    kinds = [{"required": [key]} for key in ("select", "judge", "contamination")]
    body["$defs"]["CheckSpec"]["oneOf"] = kinds
    body["properties"]["checks"]["minItems"] = 1
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **body}


def _described(key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A key as the file may say it: null only for ``cluster``; the defaults of a block stand at its own keys."""
    kept = dict(schema)
    if kept.get("default") is None or isinstance(kept["default"], dict):
        kept.pop("default", None)
    left = [option for option in kept.get("anyOf", []) if option != {"type": "null"}]
    if key != "cluster" and left:
        kept.pop("anyOf")
        kept |= left[0] if len(left) == 1 else {"anyOf": left}
    return kept | {"title": _words(key)}


def _words(key: str) -> str:
    """``min_samples`` and ``MinSamples`` as ``Min samples``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", key).capitalize()
