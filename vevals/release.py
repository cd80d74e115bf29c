"""The release gate over a store: which runs stand for whom, what was tried before, and the verdict that is recorded."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from vevals import flips, prices, provenance, runsets
from vevals.errors import BenchmarkError, StoreError, VevalsError
from vevals.evidence import RunSet
from vevals.gate.aa import Rates, simulate
from vevals.gate.decide import Context, decide, ledger_key
from vevals.gate.lines import Flip
from vevals.gate.outputs import read_verdict
from vevals.gate.policy import load_policy, parse_policy
from vevals.gate.questions import Setting
from vevals.gate.terms import Policy
from vevals.gate.verdict import UNSIGNED, State, Verdict, digest_of, from_json
from vevals.registry import open_registry
from vevals.store import BaselineRow, Store, VerdictRow, open_store

DAY = 86_400 * 1_000_000
CI_URLS = ("CI_JOB_URL", "BUILD_URL")


@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict, the two sides it was reached on, its key in the ledger, and what the ledger knows of this policy."""

    verdict: Verdict
    setting: Setting
    key: str = ""
    tried: str = ""


def check(
    policy: str | Path,
    candidate: str,
    baseline: str | None = None,
    db: str | None = None,
    folders: Sequence[Path] = (),
) -> Verdict:
    """Judge ``candidate`` by the policy in a file and record the verdict in the store.

    Args:
        candidate: a run set: a model's title, a label, keys of runs, or ``baseline:NAME``.
        baseline: instead of the policy's ``baseline.ref``.

    Raises:
        PolicyError: the policy cannot be read. StoreError: no such runs, or the store cannot be written.
    """
    loaded = load_policy(Path(policy))
    with open_store(db, create=False) as store:
        return judge(store, loaded, candidate, baseline, folders).verdict


def judge(
    store: Store, policy: Policy, candidate: str, baseline: str | None = None, folders: Sequence[Path] = ()
) -> Checked:
    """Load both sides, pool what was tried before, decide, record."""
    return recorded(store, consider(store, policy, runsets.load(store, candidate), baseline, folders))


def consider(
    store: Store, policy: Policy, ours: RunSet, baseline: str | None = None, folders: Sequence[Path] = ()
) -> Checked:
    """The verdict on a run set as it would be recorded."""
    setting, context, key = prepare(store, policy, ours, baseline, folders)
    return Checked(_signed(decide(setting, context)), setting, key)


def recorded(store: Store, checked: Checked) -> Checked:
    """Append the verdict to the ledger; one that is there already stays as it was written."""
    verdict = checked.verdict
    row = store.add_verdict(verdict.to_json(), verdict.digest, checked.key, verdict.attempt, verdict.state.value)
    return replace(checked, verdict=from_json(row.body), tried=tried(store, checked.setting.policy))


def prepare(
    store: Store, policy: Policy, ours: RunSet, baseline: str | None, folders: Sequence[Path]
) -> tuple[Setting, Context, str]:
    """What ``decide`` needs, and the ledger's key."""
    theirs, problem, age = find_baseline(store, policy, baseline, ours)
    pooled, attempts = runsets.pool(store, ours, theirs)
    setting = Setting(policy, pooled, theirs, suites_of(policy, folders))
    key = ledger_key(setting)
    began = store.ledger_began()
    context = Context(
        today=datetime.now(UTC).date(),
        prices=prices.load_prices(),
        attempt=attempts + _earlier_looks(store, policy, key, pooled),
        ledger=began is not None and all(began <= run.finished for run in pooled.runs),
        baseline_problem=problem,
        baseline_age_days=age,
    )
    return setting, context, key


def suites_of(policy: Policy, folders: Sequence[Path]) -> Mapping[str, Sequence[str]]:
    """Benchmarks of the suites that the policy selects by."""
    wanted = sorted({name for one in policy.checks for name in one.select.suite})
    if not wanted:
        return {}
    registry = open_registry(folders)
    return {name: registry.suite(name).benchmarks for name in wanted}


def find_baseline(
    store: Store, policy: Policy, named: str | None, ours: RunSet
) -> tuple[RunSet | None, str, float | None]:
    """The baseline's runs, or why there are none, and how many days ago the baseline was set (or its runs were made).

    No runs and no reason: the policy's baseline was never set, which a first release may skip.
    """
    ref = named or (policy.baseline.ref if policy.baseline else None)
    if ref is None:
        return None, "", None
    entries = store.baselines(ref)
    try:
        if entries:
            return runsets.of_digests(store, f"baseline:{ref}", entries[-1].runs), "", _days_since(entries[-1].at)
        found = runsets.load(store, ref)
    except StoreError as error:
        never_set = not entries and named is None
        return None, "" if never_set else str(error), None
    if found.digest == ours.digest:
        return None, f"'{ref}' are the candidate's own runs; 'vevals gate aa' judges a model against itself", None
    return found, "", _days_since(min((run.finished for run in found.runs), default=time.time_ns() // 1000))


def _days_since(at: int) -> float:
    return (time.time_ns() // 1000 - at) / DAY


def _earlier_looks(store: Store, policy: Policy, key: str, ours: RunSet) -> int:
    """Verdicts under this key on shorter draws of the same answers: looking and going on is trying again, unless the
    method is valid at every look.
    """
    if policy.statistics.method == "anytime":
        return 0
    held = {run.digest for run in ours.runs}
    looks = set()
    for row in store.verdicts(key):
        used = {run["digest"] for run in row.body["candidate"]["runs"]}
        if row.state != State.INVALID and not used <= held:
            looks.add(row.candidate)
    return len(looks)


def _signed(verdict: Verdict) -> Verdict:
    """The verdict with when, by whom and with what it was reached."""
    url = next((os.environ[name] for name in CI_URLS if os.environ.get(name)), _github_url())
    with_url = {"ci": url} if url else {}
    times = {**verdict.times, "decided": datetime.now(UTC).isoformat(timespec="seconds")}
    return replace(verdict, times=times, actor=actor(), provenance={**provenance.describe(), **with_url})


def _github_url() -> str:
    parts = [os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else ""


def actor() -> str:
    """Who is at the keyboard: the CI's user, or the login."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(name):
            return os.environ[name]
    with suppress(Exception):  # no login name in some containers
        return getpass.getuser()
    return "unknown"


def tried(store: Store, policy: Policy, days: int = 30) -> str:
    """``7 attempts by 3 fingerprints on this policy in 30 days``; empty for the first.

    A fingerprint is a model, prompt, options and questions against a baseline: what the ledger counts as one key.
    """
    since = time.time_ns() // 1000 - days * DAY
    rows = [row for row in store.verdicts() if row.at >= since and row.state != State.INVALID]
    rows = [row for row in rows if row.body["policy"]["name"] == policy.name]
    attempts = {(row.key, row.body["candidate"]["digest"]) for row in rows}
    keys = {key for key, _ in attempts}
    if len(attempts) < 2:
        return ""
    noun = "fingerprint" if len(keys) == 1 else "fingerprints"
    return f"{len(attempts)} attempts by {len(keys)} {noun} on this policy in {days} days"


def against_itself(
    store: Store, policy: Policy, one: str, other: str, folders: Sequence[Path] = ()
) -> tuple[Verdict, Rates]:
    """Two run sets of one model judged by the policy, and how often it would pass or fail a release without a change.

    Nothing is recorded. StoreError where the two are not the same model.
    """
    ours, theirs = runsets.load(store, one), runsets.load(store, other)
    models = [_models(store, side) for side in (ours, theirs)]
    if models[0] != models[1]:
        raise StoreError(
            f"'{one}' and '{other}' are not runs of the same model; 'vevals gate check' compares two models"
        )
    setting = Setting(policy, ours, theirs, suites_of(policy, folders))
    context = Context(datetime.now(UTC).date(), prices.load_prices())
    return decide(setting, context), simulate(setting, context)


# -- looking back --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """What recomputing a verdict gave. ``missing``: evidence that this store does not have; ``differences``: instances
    and facts that came out otherwise.
    """

    digest: str
    recomputed: str
    missing: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 the same digest, 1 another, 4 evidence is missing."""
        if self.missing:
            return 4
        return 0 if self.digest == self.recomputed and not self.differences else 1


def read(store: Store, name: str) -> tuple[Verdict, bool]:
    """A verdict from a file, or from the ledger by the first digits of its digest; and whether it is as written."""
    path = Path(name)
    if not path.is_file():
        body = store.verdict(name).body
        return from_json(body), body["digest"] == digest_of(body)
    try:
        return read_verdict(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, VevalsError) as error:
        raise VevalsError(f"{path}: {error}") from error


def verify(store: Store, verdict: Verdict, intact: bool = True) -> Verified:
    """Recompute a verdict from the runs in the store that it names, by the policy text that it carries. Offline.

    ``intact``: whether the verdict still had its own digest when it was read.
    """
    if not intact:
        return Verified(verdict.digest, "", differences=("the verdict was changed after it was written",))
    try:
        again = recompute(store, verdict)
    except StoreError as error:
        return Verified(verdict.digest, "", missing=(str(error),))
    except (VevalsError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        return Verified(verdict.digest, "", differences=(f"it cannot be recomputed: {type(error).__name__}: {error}",))
    digests = [*_digests(verdict.candidate), *_digests(verdict.baseline)]
    found = (*runsets.tampered(store, digests), *_differences(verdict, again))
    if not found and verdict.digest != again.digest:
        found = tuple(f"{key} came out otherwise" for key in _changed(verdict, again))
    return Verified(verdict.digest, again.digest, differences=found)


def _changed(old: Verdict, new: Verdict) -> list[str]:
    """Parts of the verdict, besides its instances, that are not equal."""
    before, after = old.to_json(), new.to_json()
    return [key for key in before if key not in UNSIGNED and before[key] != after.get(key)]


def recompute(store: Store, verdict: Verdict) -> Verdict:
    """Decide again on the same evidence, by the same policy, as of the same day."""
    setting, context = _setting_of(store, verdict)
    again = decide(setting, context)
    return replace(again, policy={**again.policy, "path": verdict.policy["path"]})


def _setting_of(store: Store, verdict: Verdict) -> tuple[Setting, Context]:
    policy = parse_policy(str(verdict.policy["text"]), str(verdict.policy["path"]))
    ours = _side(store, verdict.candidate)
    theirs = None if verdict.baseline is None else _side(store, verdict.baseline)
    facts, times = verdict.context, verdict.times
    context = Context(
        today=date.fromisoformat(times["today"]),
        prices=prices.from_json(facts["prices"]),
        attempt=verdict.attempt,
        ledger=facts["ledger"],
        baseline_problem=facts["baseline_problem"],
        baseline_age_days=times["baseline_age_days"],
    )
    return Setting(policy, ours, theirs, facts["suites"]), context


def _side(store: Store, named: Mapping[str, Any]) -> RunSet:
    """A run set as a verdict names it, with the problems that it had."""
    found = runsets.of_digests(store, str(named["name"]), _digests(named))
    return replace(found, problems=named["problems"])


def _models(store: Store, runs: RunSet) -> set[str]:
    """Hashes of the models of a run set; recorded outputs may be anybody's, whoever names them says whose."""
    digests = {run.digest for run in runs.runs}
    found = [run for run in store.runs() if run.digest in digests]
    return {"recorded" if run.model_identity.get("kind") == "replay" else run.model_hash for run in found}


def flips_of(store: Store, verdict: Verdict, check: str | None, most: int) -> list[Flip]:
    """The samples that changed between the two sides of a verdict; none where there was no baseline."""
    try:
        setting, _ = _setting_of(store, verdict)
    except (KeyError, TypeError, ValueError) as error:
        raise VevalsError(f"this verdict cannot be explained: {type(error).__name__}: {error}") from error
    return [] if setting.baseline is None else flips.of_setting(store, setting, check, most)


def _digests(side: Mapping[str, Any] | None) -> list[str]:
    return [] if side is None else [run["digest"] for run in side["runs"]]


def _differences(old: Verdict, new: Verdict) -> list[str]:
    found = [] if old.state == new.state else [f"the state is {new.state}, it was {old.state}"]
    before = {one["name"]: one for one in old.to_json()["instances"]}
    after = {one["name"]: one for one in new.to_json()["instances"]}
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            found.append(f"{name}: {'new' if name in after else 'gone'}")
            continue
        keys = [key for key in before[name] if before[name][key] != after[name][key]]
        found += [_difference(name, key, before[name][key], after[name][key]) for key in keys]
    return found


def _difference(name: str, key: str, before: Any, after: Any) -> str:
    if key == "scores":
        sides = [side for side in before if before.get(side) != after.get(side)]
        return f"{name}: the scores of the {' and the '.join(sides)} are not those that it rests on"
    return f"{name}: {key} is {after}, it was {before}"


@dataclass(frozen=True, slots=True)
class Moved:
    """A verdict of the ledger beside what its policy says of the re-scored runs. ``problem``: why that is not known."""

    old: VerdictRow
    state: str
    problem: str = ""


def moved(store: Store, replaced: Mapping[str, str]) -> list[Moved]:
    """Decide the ledger's verdicts again with some runs (by digest, hex) replaced by re-scored ones."""
    found = []
    for row in store.verdicts():
        verdict = from_json(row.body)
        used = {*_digests(verdict.candidate), *_digests(verdict.baseline)}
        if used & replaced.keys():
            found.append(_moved(store, row, verdict, replaced))
    return found


def _moved(store: Store, row: VerdictRow, verdict: Verdict, replaced: Mapping[str, str]) -> Moved:
    try:
        again = recompute(
            store,
            replace(verdict, candidate=_with(verdict.candidate, replaced), baseline=_with(verdict.baseline, replaced)),
        )
    except StoreError as error:
        return Moved(row, "", str(error))
    return Moved(row, again.state.value)


def _with(side: Mapping[str, Any] | None, replaced: Mapping[str, str]) -> Any:
    if side is None:
        return None
    runs = [{**run, "digest": replaced.get(run["digest"], run["digest"])} for run in side["runs"]]
    return {**side, "runs": runs}


# -- baselines -----------------------------------------------------------------------------------------------------


def set_baseline(store: Store, name: str, runs: RunSet, who: str, reason: str) -> BaselineRow:
    """Append an entry to the baseline's log. Raises StoreError when the runs cannot stand for a model."""
    if runs.problems:
        benchmark, problem = next(iter(sorted(runs.problems.items())))
        raise StoreError(f"'{runs.name}' cannot be a baseline: {benchmark}: {problem}")
    if not name or name.startswith("baseline:") or set(name) & set(" ,*?[]"):
        raise BenchmarkError(f"'{name}' is no name for a baseline: use letters, digits, - and _")
    return store.add_baseline(name, runs.digest, [run.digest for run in runs.runs], who, reason)
