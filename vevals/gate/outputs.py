"""A verdict as files for others: JSON, JUnit XML, SARIF, Markdown and an in-toto statement. Pure: verdict -> text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote
from xml.etree import ElementTree as ET

from vevals import __version__
from vevals.errors import VevalsError
from vevals.gate import lines
from vevals.gate.lines import Flip
from vevals.gate.verdict import SCHEMA, Instance, Severity, State, Verdict, digest_of, from_json

BUDGET_BYTES = 60_000
MOST_RESULTS = 5_000
WHOLE = "policy"
"""Stands for a check where the policy as a whole could not be decided."""
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.block: "error", Severity.warn: "warning", Severity.info: "note"}


class VerdictError(VevalsError, ValueError):
    """A text that is no verdict, or a verdict that lacks what an output must name."""


# -- JSON ----------------------------------------------------------------------------------------------------------


def verdict_json(verdict: Verdict) -> str:
    """The verdict with its digest: what ``read_verdict`` reads and ``vevals gate verify`` recomputes."""
    return _json({**verdict.to_json(), "digest": verdict.digest})


def read_verdict(text: str) -> tuple[Verdict, bool]:
    """The verdict in a JSON text, and whether its content has the digest that it states.

    Raises VerdictError where the text is no verdict.
    """
    try:
        body = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise VerdictError(f"this is no verdict: it is not JSON ({error}); give a file that --json wrote") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise VerdictError(f"this is no verdict: it has no schema {SCHEMA}; give a file that --json wrote")
    try:
        verdict = from_json(body)
        _showable(verdict)
        return verdict, body.get("digest") == digest_of(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise VerdictError(f"this verdict cannot be read: {told}; write it again with --json") from error


def _showable(verdict: Verdict) -> None:
    """TypeError, AttributeError or ValueError where a field is of another kind than it must be."""
    lines.banner(verdict)
    for one in verdict.instances:
        lines.line(one)
        lines.explain(one)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _json(value: Any) -> str:
    """Indented JSON with sorted keys; lone surrogates are escaped so that the text is always UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
    return f"{text.encode('utf-8', 'backslashreplace').decode('utf-8')}\n"


# -- what all outputs agree on -------------------------------------------------------------------------------------


def _blocks(instance: Instance, verdict: Verdict) -> bool:
    """Whether this check keeps the release back."""
    softened = instance.state is State.INCONCLUSIVE and verdict.exit_state is State.PASS
    return instance.severity is Severity.block and instance.counted is not State.PASS and not softened


def _unexplained(verdict: Verdict) -> list[str]:
    """Why the verdict is not PASS where no blocking check says so; a red gate must never look green in a report."""
    blocking = [one for one in verdict.instances if one.severity is Severity.block]
    if verdict.state is State.PASS or any(one.counted is verdict.state for one in blocking):
        return []
    return [lines.plain(reason) for reason in verdict.reasons] or [f"the policy as a whole is {verdict.state.value}"]


def _xml(text: str) -> str:
    """Text that XML 1.0 can hold."""
    return lines.plain(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


# -- JUnit ---------------------------------------------------------------------------------------------------------


def junit(verdict: Verdict) -> str:
    """JUnit XML: a test suite for each check, a test case for each instance, its numbers as properties of the suite."""
    root = ET.Element("testsuites", name=_xml(lines.name_of(verdict.policy)))
    reasons = _unexplained(verdict)
    if reasons:
        suite = _suite(root, verdict, WHOLE)
        case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=WHOLE)
        _outcome(case, "error", verdict.state.value, "; ".join(reasons))
    by_check: dict[str, list[Instance]] = {}
    for one in verdict.instances:
        by_check.setdefault(one.check, []).append(one)
    for check, instances in by_check.items():
        suite = _suite(root, verdict, check)
        _properties(suite, instances)
        for instance in instances:
            _case(suite, instance, verdict)
    for suite in root:
        _count(suite)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(root: ET.Element, verdict: Verdict, check: str) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=_xml(f"{lines.name_of(verdict.policy)}.{check}"))
    suite.set("file", _xml(_path(verdict)))
    decided = verdict.times.get("decided")
    if decided:
        suite.set("timestamp", _xml(str(decided)))
    return suite


def _properties(suite: ET.Element, instances: Sequence[Instance]) -> None:
    """Numbers of every instance, as suite properties: the schema of test cases has none."""
    holder = ET.SubElement(suite, "properties")
    for instance in instances:
        for key, value in _numbers(instance).items():
            ET.SubElement(holder, "property", name=_xml(f"{instance.name} · {key}"), value=_xml(str(value)))


NUMBERS = (
    *("estimate", "low", "high", "limit", "observed", "n", "n_eff", "clusters", "repeats", "fixed", "broke"),
    *("alpha", "p_pass", "p_fail", "holm_p", "needed", "method"),
)


def _numbers(instance: Instance) -> dict[str, Any]:
    given = {"state": instance.state.value, "severity": instance.severity.value}
    given |= {name: getattr(instance, name) for name in NUMBERS}
    return {name: value for name, value in given.items() if value not in (None, "")}


def _case(suite: ET.Element, instance: Instance, verdict: Verdict) -> None:
    case = ET.SubElement(suite, "testcase", classname=suite.get("name", ""), name=_xml(instance.name))
    told = lines.line(instance)
    if instance.counted is State.FAIL and instance.severity is Severity.block:
        _outcome(case, "failure", instance.severity.value, told)
    elif _blocks(instance, verdict):
        _outcome(case, "error", instance.state.value, told)
    elif instance.state is not State.PASS:
        _outcome(case, "skipped", lines.word(instance), told)
    report = [told, *lines.explain(instance)]
    ET.SubElement(case, "system-out").text = "\n".join(_xml(text) for text in report)


def _outcome(case: ET.Element, tag: str, kind: str, message: str) -> None:
    ET.SubElement(case, tag, type=_xml(kind), message=_xml(message)).text = _xml(message)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))


# -- SARIF ---------------------------------------------------------------------------------------------------------


def sarif(verdict: Verdict) -> str:
    """SARIF 2.1.0: a rule for each check, a result at its line of the policy for each instance that is not PASS."""
    found = [one for one in verdict.instances if one.state is not State.PASS]
    found.sort(key=lambda one: (not _blocks(one, verdict), list(Severity).index(one.severity)))
    results = [_whole_result(verdict, reason) for reason in _unexplained(verdict)]
    results += [_result(one, verdict) for one in found]
    kept = results[:MOST_RESULTS]
    run = {
        "tool": {"driver": {"name": "vevals", "version": __version__, "rules": _rules(verdict, kept)}},
        "results": kept,
        "invocations": [_invocation(verdict, len(results) - len(kept))],
        "columnKind": "unicodeCodePoints",
        "automationDetails": {"id": _sarif_text(f"vevals-gate/{lines.name_of(verdict.policy)}/")},
        "properties": {"state": verdict.state.value, "exitCode": verdict.exit_code, "digest": verdict.digest},
    }
    return _json({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _rules(verdict: Verdict, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A rule for each check of the policy, and for the policy where a result is about it as a whole."""
    levels = {one.check: LEVELS[one.severity] for one in reversed(verdict.instances)}
    if any(result["ruleId"] == WHOLE for result in results):
        levels.setdefault(WHOLE, "error")
    return [
        {
            "id": _sarif_text(check),
            "shortDescription": {"text": _sarif_text(f"Check {check} of {lines.name_of(verdict.policy)}")},
            "defaultConfiguration": {"level": level},
        }
        for check, level in sorted(levels.items())
    ]


def _whole_result(verdict: Verdict, reason: str) -> dict[str, Any]:
    return {
        "ruleId": WHOLE,
        "level": "error",
        "message": {"text": _sarif_text(f"{verdict.state.value}  {reason}")},
        "locations": [_location(verdict, 0)],
        "partialFingerprints": {"vevals/v1": _fingerprint(WHOLE, reason)},
    }


def _result(instance: Instance, verdict: Verdict) -> dict[str, Any]:
    result = {
        "ruleId": _sarif_text(instance.check),
        "level": LEVELS[instance.severity],
        "message": {"text": _sarif_text(f"{instance.name}: {lines.line(instance)}")},
        "locations": [_location(verdict, instance.line)],
        "partialFingerprints": {"vevals/v1": _fingerprint(instance.check, instance.name)},
        "properties": {"state": instance.state.value, "severity": instance.severity.value},
    }
    if instance.waiver:
        reason = f"{instance.waiver.reason} ({instance.waiver.owner}, {instance.waiver.issue})"
        told = _sarif_text(f"{reason}, until {instance.waiver.expires}")
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": told}]
    return result


def _location(verdict: Verdict, line: int) -> dict[str, Any]:
    """A line of the policy; its first where a check's line is not known, as a file alone is not shown by viewers."""
    region = {"startLine": max(1, line)}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(_path(verdict))}, "region": region}}


def _invocation(verdict: Verdict, left: int) -> dict[str, Any]:
    made: dict[str, Any] = {"executionSuccessful": True, "exitCode": verdict.exit_code}
    if left:
        text = f"{left:,} results not shown, {MOST_RESULTS:,} are the most that viewers take"
        made["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return made


def _sarif_text(text: str) -> str:
    """Text in which SARIF finds no link: ``[text](target)`` would be one."""
    return lines.plain(text).replace("](", "] (")


def _fingerprint(check: str, name: str) -> str:
    return hashlib.sha256(f"{check}\n{name}".encode("utf-8", "backslashreplace")).hexdigest()


def _path(verdict: Verdict) -> str:
    return str(verdict.policy.get("path") or "policy.yaml")


def _uri(path: str) -> str:
    """A path as a URI reference: relative to the repository, or a file URI where it is absolute."""
    posix = path.replace("\\", "/").removeprefix("./")
    if re.match(r"[A-Za-z]:/", posix):
        posix = f"/{posix}"
    quoted = quote(posix, safe="/~:" if posix.startswith("/") else "/~", errors="backslashreplace")
    return f"file://{quoted}" if posix.startswith("/") else quoted


# -- in-toto -------------------------------------------------------------------------------------------------------


def in_toto(verdict: Verdict) -> str:
    """An in-toto Statement v1 about the candidate's run set, to be signed by whoever runs the gate.

    Raises VerdictError where the candidate or the policy has no digest: a statement about nothing must not be signed.
    """
    names: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for one in verdict.instances:
        key = "passedTests" if one.state is State.PASS else "warnedTests"
        names["failedTests" if _blocks(one, verdict) else key].append(lines.plain(one.name))
    predicate: dict[str, Any] = {
        "result": _summary(verdict, bool(names["warnedTests"])),
        "configuration": [
            _resource(_path(verdict), verdict.policy.get("sha256"), "the policy"),
            _resource(SCHEMA, verdict.digest, "the verdict"),
        ],
        **names,
    }
    url = verdict.provenance.get("ci")
    if isinstance(url, str) and url:
        predicate["url"] = url
    subject = _resource(lines.name_of(verdict.candidate), verdict.candidate.get("digest"), "the candidate")
    return _json({"_type": STATEMENT, "subject": [subject], "predicateType": PREDICATE, "predicate": predicate})


def _summary(verdict: Verdict, warned: bool) -> str:
    if verdict.exit_state is not State.PASS:
        return "FAILED"
    return "WARNED" if warned or verdict.state is not State.PASS else "PASSED"


def _resource(name: str, digest: Any, what: str) -> dict[str, Any]:
    if not isinstance(digest, str) or not digest:
        raise VerdictError(f"{what} has no digest, so no statement can be made about it: judge it again")
    return {"name": lines.plain(name), "digest": {"sha256": digest}}


# -- Markdown ------------------------------------------------------------------------------------------------------

LONGEST_NAME = 200
LONGEST_LINE = 600
LONGEST_ANSWER = 120
SPECIAL = {char: f"&#{ord(char)};" for char in "|`\\*_[]~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MENTIONS = {"@": "@\u200b", "#": "#\u200b"}
"""A zero-width space behind them: forges link users and issues only where a name or number follows at once."""
_ESCAPES = str.maketrans(SPECIAL | MENTIONS)
_WEB = re.compile(r"(?i)\b(www)\.")


@dataclass(frozen=True, slots=True)
class _Section:
    """A part of the page: what stands above its rows, its rows, and what closes them."""

    title: str
    rows: Sequence[str]
    head: Sequence[str] = ()
    tail: Sequence[str] = ()

    def text(self, keep: int) -> list[str]:
        """The first ``keep`` rows, and how many are not shown."""
        if not self.rows:
            return []
        told = [f"### {self.title}", ""] if self.title else []
        if keep:
            told += [*self.head, *self.rows[:keep], *self.tail, ""]
        left = len(self.rows) - max(keep, 0)
        return [*told, f"_{left:,} not shown_", ""] if left else told


def markdown(verdict: Verdict, budget_bytes: int = BUDGET_BYTES, flips: Sequence[Flip] = ()) -> str:
    """A page for a step summary or a comment: at most ``budget_bytes`` of UTF-8, cut from the end by whole rows."""
    ours = [one for one in verdict.instances if one.severity is Severity.block]
    others = [one for one in verdict.instances if one.severity is not Severity.block]
    listed = [f"| listed | {_cell(text, LONGEST_LINE)} | |" for text in verdict.listed]
    parts = [one for one in others if one.where]
    sections = [
        _Section("", _banner(verdict)),
        _Section("Blocking checks", [_row(one) for one in ours], _CHECKS),
        _Section("Other checks", [_row(one) for one in others if not one.where], _CHECKS),
        _Section("Flips", [_flip(one) for one in sorted(flips, key=lambda flip: flip.direction != "broke")], _FLIPS),
        _Section("Slices", [*(_row(one) for one in parts), *listed], _CHECKS),
        _Section("Provenance", _provenance(verdict), *_folded("How each number was computed, and from what")),
    ]
    return _fit(sections, budget_bytes)


_CHECKS = ("| | Check | Result |", "|---|---|---|")
_FLIPS = ("| | Benchmark | Sample | Baseline | Candidate | Target |", "|---|---|---|---|---|---|")


def _folded(title: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (f"<details><summary>{title}</summary>", ""), ("", "</details>")


def _fit(sections: Sequence[_Section], budget: int) -> str:
    """As many rows as the budget takes: those of earlier sections first."""
    low, high = 0, sum(len(section.rows) for section in sections)
    if len(_render(sections, high).encode()) <= budget:
        return _render(sections, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(_render(sections, middle).encode()) <= budget else (low, middle)
    return _render(sections, low).encode()[:budget].decode("utf-8", "ignore")


def _render(sections: Sequence[_Section], keep: int) -> str:
    told: list[str] = []
    for section in sections:
        told += section.text(min(keep, len(section.rows)))
        keep = max(0, keep - len(section.rows))
    return "\n".join(told)


def _banner(verdict: Verdict) -> list[str]:
    head, *rest = lines.banner(verdict)
    state, _, told = head.partition("  ")
    return [f"## {state}", "", _cell(told, LONGEST_LINE), *(f"\n- {_cell(text, LONGEST_LINE)}" for text in rest)]


def _row(instance: Instance) -> str:
    severity = "" if instance.severity is Severity.block else f" ({instance.severity.value})"
    told = _cell(lines.body(instance), LONGEST_LINE)
    return f"| **{lines.word(instance)}**{severity} | {_code(instance.name, LONGEST_NAME)} | {told} |"


def _flip(flip: Flip) -> str:
    texts = [_code(text, LONGEST_ANSWER) for text in (flip.baseline, flip.candidate, flip.target)]
    places = [_code(text, LONGEST_NAME) for text in (flip.benchmark, flip.sample)]
    return f"| {flip.direction} | {' | '.join([*places, *texts])} |"


def _provenance(verdict: Verdict) -> list[str]:
    """Digests, circumstances, and how each number was computed."""
    told = [
        _fact("verdict", verdict.digest),
        _fact("policy", f"{_path(verdict)}, sha256 {verdict.policy.get('sha256')}"),
    ]
    told += _side("candidate", verdict.candidate)
    told += [] if verdict.baseline is None else _side("baseline", verdict.baseline)
    told += [_fact("by", verdict.actor)] if verdict.actor else []
    for facts in (verdict.times, verdict.provenance, verdict.context):
        told += [_fact(str(key), _text(value)) for key, value in sorted(facts.items()) if value not in (None, "", {})]
    told += [_fact(one.name, "; ".join(lines.computed(one)), 3 * LONGEST_LINE) for one in verdict.instances]
    return [*told, _fact("estimand", lines.ESTIMAND)]


def _side(name: str, side: Mapping[str, Any]) -> list[str]:
    told = [_fact(name, f"{lines.name_of(side)}, set {side.get('digest')}")]
    runs = [run for run in side.get("runs", ()) if isinstance(run, Mapping)]
    return told + [
        _fact(f"{name}'s run", ", ".join(f"{key} {_text(value)}" for key, value in run.items())) for run in runs
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _fact(name: str, text: str, longest: int = LONGEST_LINE) -> str:
    return f"- {_cell(name, LONGEST_NAME)}: {_code(text, longest)}"


def _cell(text: str, longest: int) -> str:
    """Text from outside as one line of at most ``longest`` characters, inert as Markdown, HTML and mention."""
    shown = lines.plain(text)
    cut = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return _WEB.sub(r"\1&#46;", cut.translate(_ESCAPES)).replace("://", "&#58;//")


def _code(text: str, longest: int) -> str:
    """The same in a fixed-width face, where forges look for no mentions at all."""
    return f"<code>{_cell(text, longest)}</code>" if text.strip() else ""
