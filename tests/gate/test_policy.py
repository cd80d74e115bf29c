"""The policy file: what it means, and one sentence with file and line for whatever cannot be meant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from vevals.errors import PolicyError
from vevals.gate.policy import load_policy, parse_policy, policy_schema
from vevals.gate.terms import PARTS, RESERVED, Errors, JudgeLimits, Limit, Policy, Select, waiver_problems
from vevals.gate.verdict import Severity
from vevals.spec import parse_yaml

FULL = """\
schema: vevals.gate/v1
name: support-bot-release
baseline: {ref: prod, max_age_days: 90, on_missing: invalid}      # invalid | skip_relative (first release)
statistics:
  confidence: 0.95             # one-sided, per check
  method: auto                 # auto | plus2 | anytime
  cluster: auto                # auto = what the benchmark says; a field; or null
  repeats: 1                   # least K, on both sides
  min_samples: 50
  errors: {rule: worst_case, max_rate: 0.02}                      # worst_case | drop (only on a warn check)
  seed: 20260101
comparability: {must_match: [dataset, prompt, generation, scorer, judge, sandbox, harness]}
require: {domains: [customer_service, medical, legal], present: 0.99}
ledger: required               # required | optional
checks:
  - {id: med-floor, select: {domain: medical, metric: accuracy}, at_least: 0.80, severity: block}
  - id: no-regression
    select: {domain: [customer_service, legal], metric: score}
    combine: each              # each | mean
    no_worse_than: {baseline: true, margin: 0.02}                 # or margin_relative: 0.05
    severity: block            # block | warn | info
  - {id: unsafe, select: {tag: safety, metric: unsafe_rate}, at_most: 0.005, severity: block}
  - id: slices
    select: {metric: score}
    for_each: [language, intent]
    no_worse_than: {baseline: true, margin: 0.05}
    min_samples: 30
    severity: warn
  - {id: cost, select: {metric: usd_per_1k_samples}, at_most: 1.20, severity: block}
  - {id: p95, select: {metric: seconds.p95}, at_most: 2.5, max_increase: 0.10, severity: warn}     # two limits
  - {id: judge-fit, judge: {min_labels: 50, min_rare: 10, min_kappa_lower: 0.4}, severity: block}
  - {id: clean, contamination: {max_flagged_rate: 0.01}, severity: warn}
on_inconclusive: block         # block | warn | extend
budget: {max_samples: 4000, max_usd: 50, stop_early: false}
waivers:
  - check: no-regression
    where: {domain: legal}
    down_to: -0.03
    reason: "new statute"
    owner: a@b.example
    issue: https://issues.example/17
    expires: 2026-12-31
"""

SMALL = """\
schema: vevals.gate/v1
name: small
baseline: {ref: prod}
checks:
  - id: floor
    select: {domain: medical}
    at_least: 0.8
  - id: same
    select: {metric: accuracy}
    no_worse_than: {baseline: true, margin: 0.02}
  - id: fast
    select: {metric: seconds.p95}
    max_increase: 0.1
    severity: warn
"""


def small(right: str = "", wrong: str = "", more: str = "") -> Policy:
    assert right in SMALL
    return parse_policy((SMALL.replace(right, wrong, 1) if right else SMALL) + more, "release.yaml")


def message(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "release.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def waiver(check: str = "same", down_to: str = "-0.03", expires: str = "2026-06-30", more: str = "") -> str:
    rest = "reason: r, owner: o, issue: i"
    return f"waivers:\n  - {{check: {check}, down_to: {down_to}, {rest}, expires: {expires}{more}}}\n"


def test_the_full_example_says_what_it_says() -> None:
    policy = parse_policy(FULL, "release.yaml")
    assert (policy.schema, policy.name, policy.path) == ("vevals.gate/v1", "support-bot-release", "release.yaml")
    assert policy.baseline is not None
    assert (policy.baseline.ref, policy.baseline.max_age_days, policy.baseline.on_missing) == ("prod", 90, "invalid")
    assert (policy.statistics.confidence, policy.statistics.alpha, policy.statistics.seed) == (0.95, 0.05, 20260101)
    assert policy.must_match == PARTS
    assert policy.require.domains == ("customer_service", "medical", "legal")
    assert (policy.ledger, policy.on_inconclusive) == ("required", "block")
    assert (policy.budget.max_samples, policy.budget.max_usd, policy.budget.stop_early) == (4000, 50.0, False)
    assert policy.text == FULL


def test_the_checks_of_the_full_example_keep_their_order_line_and_limits() -> None:
    checks = parse_policy(FULL, "release.yaml").checks
    found = [(check.id, check.line, check.severity.name, check.limits) for check in checks]
    assert found == [
        ("med-floor", 16, "block", (Limit("at_least", 0.8),)),
        ("no-regression", 17, "block", (Limit("no_worse_than", 0.02),)),
        ("unsafe", 22, "block", (Limit("at_most", 0.005),)),
        ("slices", 23, "warn", (Limit("no_worse_than", 0.05),)),
        ("cost", 29, "block", (Limit("at_most", 1.2),)),
        ("p95", 30, "warn", (Limit("at_most", 2.5), Limit("max_increase", 0.1))),
        ("judge-fit", 31, "block", ()),
        ("clean", 32, "warn", ()),
    ]
    assert checks[0].select == Select(domain=("medical",), metric=("accuracy",))
    assert (checks[3].for_each, checks[3].statistics.min_samples) == (("language", "intent"), 30)
    assert checks[6].judge == JudgeLimits(50, 10, 0.4)
    assert checks[7].contamination is not None and checks[7].contamination.max_flagged_rate == 0.01
    assert [limit.against_baseline for limit in checks[5].limits] == [False, True]


def test_a_waiver_replaces_the_limit_by_the_signed_difference() -> None:
    policy = parse_policy(FULL, "release.yaml")
    (waived,) = policy.waivers
    assert (waived.where, waived.expires, waived.line) == (Select(domain=("legal",)), date(2026, 12, 31), 36)
    assert waived.limit_for(policy.checks[1].limits[0]) == Limit("no_worse_than", 0.03)


@pytest.mark.parametrize(
    ("check", "down_to", "limit"),
    [
        ("floor", "0.75", Limit("at_least", 0.75)),
        ("same", "-0.05", Limit("no_worse_than", 0.05)),
        ("fast", "0.3", Limit("max_increase", 0.3)),
    ],
)
def test_a_waiver_of_any_other_limit_is_the_new_limit(check: str, down_to: str, limit: Limit) -> None:
    policy = small(more=waiver(check, down_to))
    (waived,) = [item for item in policy.checks if item.id == check]
    assert policy.waivers[0].limit_for(waived.limits[0]) == limit


def test_a_relative_margin_stays_relative_under_a_waiver() -> None:
    policy = small("margin: 0.02", "margin_relative: 0.05", waiver(down_to="-0.08"))
    assert policy.checks[1].limits == (Limit("no_worse_than", 0.05, relative=True),)
    assert policy.waivers[0].limit_for(policy.checks[1].limits[0]) == Limit("no_worse_than", 0.08, relative=True)


def test_what_is_not_said_has_the_documented_default() -> None:
    policy = parse_policy(
        "schema: vevals.gate/v1\nname: n\nchecks: [{id: a, select: {tag: x}, at_least: 0.5}]", "p.yaml"
    )
    statistics = policy.statistics
    assert (statistics.confidence, statistics.method, statistics.cluster) == (0.95, "auto", "auto")
    assert (statistics.repeats, statistics.min_samples, statistics.seed) == (1, 50, 0)
    assert statistics.errors == Errors("worst_case", 0.02)
    assert (policy.baseline, policy.must_match, policy.ledger) == (None, PARTS, "optional")
    assert (policy.require.domains, policy.require.present, policy.waivers) == ((), 0.99, ())
    assert (policy.on_inconclusive, policy.budget.stop_early) == ("block", False)
    (check,) = policy.checks
    assert (check.severity, check.combine, check.select.metric) == (Severity.block, "each", ("score",))


def test_a_check_overrides_parts_of_the_statistics_and_keeps_the_rest() -> None:
    own = "severity: warn\n    cluster: null\n    repeats: 3\n    errors: {rule: drop}\n"
    policy = small("severity: warn\n", own, "statistics: {cluster: patient, errors: {max_rate: 0.1}, seed: 7}\n")
    first, _, last = (check.statistics for check in policy.checks)
    assert first == policy.statistics
    assert (first.cluster, first.repeats, first.errors) == ("patient", 1, Errors("worst_case", 0.1))
    assert (last.cluster, last.repeats, last.errors, last.seed) == (None, 3, Errors("drop", 0.1), 7)


def test_values_of_selects_and_names_are_texts_as_written() -> None:
    policy = small("{domain: medical}", "{slice: {level: [1.10, yes, 2026-01-01], urgent: true}, metric: score}")
    assert policy.checks[0].select.slice == {"level": ("1.10", "yes", "2026-01-01"), "urgent": ("true",)}
    renamed = small("ref: prod", "ref: 2.50")
    assert renamed.baseline is not None and renamed.baseline.ref == "2.50"


def test_a_cluster_is_a_field_as_written_or_null() -> None:
    for written, cluster in (("null", None), ("~", None), ("auto", "auto"), ("2024", "2024")):
        assert small("name: small", f"name: small\nstatistics: {{cluster: {written}}}").statistics.cluster == cluster


def test_comments_key_order_and_single_values_do_not_change_the_sha() -> None:
    sha = small().sha256
    assert small("name: small\n", "name: small   # a comment\n\n").sha256 == sha
    assert small("{domain: medical}\n    at_least: 0.8\n", "{domain: [medical]}\n    at_least: 0.80\n").sha256 == sha
    header = "schema: vevals.gate/v1\nname: small\n"
    assert parse_policy(SMALL.removeprefix(header) + header, "elsewhere.yaml").sha256 == sha
    assert small("{baseline: true, margin: 0.02}", "{margin: 0.02, baseline: true}").sha256 == sha


def test_writing_a_default_does_not_change_the_sha() -> None:
    sha = small().sha256
    assert small(more="ledger: optional\nstatistics: {confidence: 0.95, errors: {}}\nwaivers: []\n").sha256 == sha


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("at_least: 0.8", "at_least: 0.81"),
        ("margin: 0.02", "margin_relative: 0.02"),
        ("severity: warn", "severity: info"),
        ("{ref: prod}", "{ref: prod, max_age_days: 90}"),
        ("severity: warn", "severity: warn\n    cluster: null"),
        ("name: small", "name: small\nstatistics: {cluster: null}"),
    ],
)
def test_whatever_decides_changes_the_sha(right: str, wrong: str) -> None:
    assert small(right, wrong).sha256 != small().sha256


def test_a_policy_read_from_a_file_is_the_same_from_its_kept_text(tmp_path: Path) -> None:
    path = tmp_path / "release.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    policy = load_policy(path)
    assert policy.path == str(path)
    assert policy.sha256 == parse_policy(policy.text, "verdict").sha256 == parse_policy(FULL, "x").sha256


BROKEN = [
    ("name: small", "nmae: small", "release.yaml:2: unknown key 'nmae'; did you mean 'name'?"),
    ("at_least: 0.8", "at_lest: 0.8", "release.yaml:7: unknown key 'at_lest'; did you mean 'at_least'?"),
    ("{metric: accuracy}", "{metirc: accuracy}", "release.yaml:9: unknown key 'metirc'; did you mean 'metric'?"),
    ("margin: 0.02", "margn: 0.02", "release.yaml:10: unknown key 'margn'; did you mean 'margin'?"),
    (
        "name: small",
        "name: small\nstatistics: {errors: {max_rte: 0.1}}",
        "release.yaml:3: unknown key 'max_rte'; did you",
    ),
    ("id: floor", "name: floor", "release.yaml:5: unknown key 'name'"),
    ("  - id: floor\n    select", "  - select", "release.yaml:5: 'checks.0.id' is missing"),
    ("vevals.gate/v1", "vevals.gate/v2", "release.yaml:1: 'schema' is 'vevals.gate/v2'; use 'vevals.gate/v1'"),
    ("id: same", "id: floor", "release.yaml:8: the id 'floor' is taken by another check"),
    ("baseline: {ref: prod}\n", "", "release.yaml:9: 'no_worse_than' needs something to compare with"),
    (
        "margin: 0.02",
        "margin: -0.02",
        "release.yaml:10: margin is -0.02; write how much worse is acceptable, 0 or more",
    ),
    ("margin: 0.02", "margin_relative: -0.1", "release.yaml:10: margin_relative is -0.1; write how much worse"),
    ("margin: 0.02", "margin_relative: 5", "release.yaml:10: margin_relative is 5; it is a share: 0.05 for 5%"),
    ("margin: 0.02", "margin: 0.02, margin_relative: 0.1", "release.yaml:10: give either margin"),
    (", margin: 0.02", "", "release.yaml:10: give either margin (in the metric's units) or margin_relative"),
    ("baseline: true", "baseline: false", "release.yaml:10: no_worse_than compares with the policy's baseline"),
    ("    at_least: 0.8\n", "", "release.yaml:5: 'floor' has no limit; add at_least, at_most, no_worse_than or max_"),
    ("    select: {domain: medical}\n", "", "release.yaml:5: 'floor' selects nothing"),
    ("{domain: medical}", "{}", "release.yaml:6: 'floor' selects nothing; select: {metric: score} is the score of"),
    ("{domain: medical}", "{domain: []}", "release.yaml:6: 'checks.0.select.domain': write at least one"),
    ("{domain: medical}", "medical/*", "release.yaml:6: 'checks.0.select': write 'key: value' lines below it"),
    ("at_least: 0.8", "at_least: 0.8\n    at_most: 0.7", "release.yaml:7: no value passes at_least 0.8 together with"),
    ("at_least: 0.8", "at_least:", "release.yaml:7: 'checks.0.at_least' has no value; write one, or delete the key"),
    ("at_least: 0.8", "at_least: 0.8\n    cluster:", "release.yaml:8: 'checks.0.cluster' has no value; write one, or"),
    ("at_least: 0.8", "at_least: 80%", "release.yaml:7: 'checks.0.at_least': write a number, with a decimal point"),
    ("at_least: 0.8", "at_least: true", "release.yaml:7: 'checks.0.at_least': write a number, with a decimal point"),
    ("at_least: 0.8", "at_least: .inf", "release.yaml:7: 'checks.0.at_least': write a number, with a decimal point"),
    ("at_least: 0.8", "at_least: 1e999", "release.yaml:7: 'checks.0.at_least': input should be a finite number"),
    (
        "at_least: 0.8",
        "at_least: 0.8\n    severity: blok",
        "release.yaml:8: 'checks.0.severity' is 'blok'; use 'block', ",
    ),
    ("at_least: 0.8", "at_least: 0.8\n    errors: {rule: drop}", "release.yaml:8: 'floor' blocks, so it cannot use"),
    (
        "name: small",
        "name: small\nstatistics: {errors: {rule: drop}}",
        "release.yaml:6: 'floor' blocks, so it cannot use",
    ),
    (
        "at_least: 0.8",
        "at_least: 0.8\n    combine: mean\n    for_each: language",
        "release.yaml:8: 'combine: mean' and",
    ),
    (
        "name: small",
        "name: small\non_inconclusive: extend\nbudget: {max_samples: 9}",
        "release.yaml:3: 'extend' is not va",
    ),
    (
        "name: small",
        "name: small\nbudget: {stop_early: true}",
        "release.yaml:3: 'stop_early' is not valid with method: ",
    ),
    (
        "name: small",
        "name: small\nstatistics: {method: anytime}\non_inconclusive: extend",
        "release.yaml:4: 'extend' needs an end; add budget: {max_samples: 4000} or a max_usd",
    ),
    (
        "name: small",
        "name: small\ncomparability: {must_match: [dataset, promt]}",
        "release.yaml:3: 'comparability.must_match.1' is 'promt'; use 'dataset', 'prompt', 'generation', 'scorer', "
        "'judge', 'sandbox' or 'harness'; did you mean 'prompt'?",
    ),
    (
        "name: small",
        "name: small\nstatistics: {confidence: 95}",
        "release.yaml:3: 'statistics.confidence': input should",
    ),
    (
        "name: small",
        "name: small\nstatistics: {min_samples: 1.5}",
        "release.yaml:3: 'statistics.min_samples': input shou",
    ),
    ("name: small", "name: ''", "release.yaml:2: 'name': write something: it is empty"),
    (
        "max_increase: 0.1",
        "max_increase: -0.1",
        "release.yaml:13: max_increase is -0.1; write the increase that is all",
    ),
    (
        "max_increase: 0.1",
        "no_worse_than: {margin: 0.1}",
        "release.yaml:13: 'seconds.p95' is compared as a ratio; write max",
    ),
    ("seconds.p95", "accuracy", "release.yaml:13: max_increase is for cost, tokens and latency, not for 'accuracy'"),
    (
        "seconds.p95",
        "failed_rate",
        "release.yaml:13: max_increase is for cost, tokens and latency, not for 'failed_rate'",
    ),
    ("seconds.p95", "seconds.p90", "release.yaml:12: unknown metric 'seconds.p90'; did you mean 'seconds.p"),
    (
        "{metric: accuracy}",
        "{metric: [accuracy, usd_per_1k_samples]}",
        "release.yaml:10: 'usd_per_1k_samples' is compared as a ratio",
    ),
    (
        "{domain: medical}\n    at_least: 0.8",
        "{metric: failed_rate}\n    at_most: 5",
        "release.yaml:7: at_most is 5, but 'failed_rate' is a share from 0 to 1",
    ),
    (
        "select: {domain: medical}\n    at_least: 0.8",
        "judge: {}\n    at_least: 0.8",
        "release.yaml:7: a check of 'judge' has no 'at_least'; put that into a check of its own",
    ),
    (
        "at_least: 0.8",
        "contamination: {max_flagged_rate: 0.1}",
        "release.yaml:6: a check of 'contamination' has no 'select'",
    ),
    ("name: small\n", "name: small\nname: big\n", "release.yaml:3: 'name' is given twice (first in line 2)"),
    ("{ref: prod}", "{ref: prod", "release.yaml:"),
    ("name: small", "name: \x07", "release.yaml:2: the character U+0007 is not allowed"),
]


@pytest.mark.parametrize(("right", "wrong", "sentence"), BROKEN)
def test_a_mistake_in_the_policy_names_file_line_and_remedy(right: str, wrong: str, sentence: str) -> None:
    assert right in SMALL
    assert message(SMALL.replace(right, wrong, 1)).startswith(sentence)


BROKEN_WAIVERS = [
    (waiver("smae"), "release.yaml:16: no check has the id 'smae'; did you mean 'same'?"),
    (waiver(down_to="-0.01"), "release.yaml:16: down_to -0.01 is stricter than the limit that it waives (-0.02)"),
    (
        waiver(down_to="0.03"),
        "release.yaml:16: for no_worse_than, down_to is the difference that is allowed: -0.03, with",
    ),
    (waiver("floor", "0.9"), "release.yaml:16: down_to 0.9 is stricter than the limit that it waives (0.8)"),
    (waiver("fast", "0.05"), "release.yaml:16: down_to 0.05 is stricter than the limit that it waives (0.1)"),
    (waiver(expires="31.12.2026"), "release.yaml:16: expires is '31.12.2026'; write a date as in 2026-12-31"),
    (waiver(expires="2026-02-30"), "release.yaml:16: expires is '2026-02-30'; write a date as in 2026-12-31"),
    (waiver(expires="20261231"), "release.yaml:16: expires is '20261231'; write a date as in 2026-12-31"),
    (waiver(more=", where: {domian: x}"), "release.yaml:16: unknown key 'domian'; did you mean 'domain'?"),
    (waiver(more=", where: {}"), "release.yaml:16: 'where' is empty; say which part of the check, or delete the key"),
    (waiver() + waiver().removeprefix("waivers:\n"), "release.yaml:17: the same part of 'same' is waived twice"),
    (waiver().replace(", owner: o", ""), "release.yaml:16: 'waivers.0.owner' is missing"),
]


@pytest.mark.parametrize(("block", "sentence"), BROKEN_WAIVERS)
def test_a_mistake_in_a_waiver_names_file_line_and_remedy(block: str, sentence: str) -> None:
    assert message(SMALL + block).startswith(sentence)


def test_a_waiver_of_a_check_with_two_limits_must_say_which() -> None:
    text = SMALL.replace("max_increase: 0.1", "max_increase: 0.1\n    at_most: 2.5") + waiver("fast", "0.3")
    assert message(text) == (
        "release.yaml:17: the check 'fast' has two limits; split it, so that the waiver is for one"
    )


def test_a_policy_without_checks_is_refused() -> None:
    assert (
        message("schema: vevals.gate/v1\nname: n\nchecks: []\n") == "release.yaml:3: a policy needs at least one check"
    )
    assert message("schema: vevals.gate/v1\nname: n\n") == "release.yaml:1: 'checks' is missing"


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "release.yaml: the file is empty"), ("- a", "release.yaml:1: expected")]
)
def test_a_file_that_holds_no_keys_is_refused(text: str, sentence: str) -> None:
    assert message(text).startswith(sentence)


def test_aliases_cannot_multiply_without_end() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 15)]
    assert "more than 100,000 values" in message("\n".join(rows))


def test_of_several_mistakes_the_first_in_the_file_is_told() -> None:
    text = SMALL.replace("margin: 0.02", "margin: -1").replace("    at_least: 0.8\n", "")
    assert message(text).startswith("release.yaml:5: 'floor' has no limit")


def test_an_absent_file_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")


def test_waivers_count_up_to_their_last_day_and_at_most_180_days_ahead() -> None:
    policy = small(more=waiver(expires="2026-06-30"))
    assert waiver_problems(policy, date(2026, 6, 30)) == []
    assert waiver_problems(policy, date(2026, 1, 1)) == []
    assert waiver_problems(policy, date(2026, 7, 1)) == [
        "release.yaml:16: the waiver of 'same' expired on 2026-06-30 and is ignored; renew it or delete it"
    ]
    assert waiver_problems(policy, date(2025, 12, 31)) == [
        "release.yaml:16: the waiver of 'same' expires on 2026-06-30, more than 180 days ahead; "
        "write 2026-06-29 or earlier"
    ]


def test_every_reserved_metric_can_be_limited() -> None:
    for metric in RESERVED:
        check = small("seconds.p95}\n    max_increase: 0.1", f"{metric}}}\n    at_most: 0.5").checks[2]
        assert check.select.metric == (metric,)


def properties(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for model in (schema, *schema["$defs"].values()):
        assert model["additionalProperties"] is False
        yield from model["properties"].items()


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = json.loads((ROOT / "docs" / "gate-v1.schema.json").read_text(encoding="utf-8"))
    assert published == policy_schema()


def test_the_schema_describes_every_key() -> None:
    schema = policy_schema()
    assert (schema["$id"], schema["$schema"]) == ("vevals.gate/v1", "https://json-schema.org/draft/2020-12/schema")
    for key, described in properties(schema):
        assert described["title"] and described["description"] and described["examples"], key
        assert "null" not in json.dumps(described) or key == "cluster", key


def test_the_schema_accepts_the_example_and_refuses_typos_nulls_and_contradictions() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(policy_schema())
    validator.check_schema(policy_schema())

    def accepted(text: str) -> bool:
        return bool(validator.is_valid(parse_yaml(text, "release.yaml", ("select", "where", "expires"))[0]))

    assert accepted(FULL) and accepted(SMALL)
    assert accepted(FULL.replace("cluster: auto", "cluster: null"))
    assert not accepted(SMALL.replace("at_least", "at_lest"))
    assert not accepted(SMALL.replace("{metric: accuracy}", "{metirc: accuracy}"))
    assert not accepted(SMALL.replace("at_least: 0.8", "at_least:"))
    assert not accepted(SMALL.replace("margin: 0.02", "margin: 0.02, margin_relative: 0.1"))
    assert not accepted(SMALL.replace("severity: warn", "severity: loud"))


def test_the_examples_of_the_schema_are_valid_themselves() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = policy_schema()
    for key, described in properties(schema):
        body = {"$defs": schema["$defs"], **described}
        assert jsonschema.Draft202012Validator(body).is_valid(described["examples"][0]), key
