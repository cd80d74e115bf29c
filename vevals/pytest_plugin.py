"""The pytest marker ``vevals_gate``: a test whose outcome is a release gate's. Loaded in every session: imports little.

::

    @pytest.mark.vevals_gate("gates/release.yaml", candidate="my-release", baseline="prod", db="results/vevals.db")
    def test_the_release(vevals_verdict):
        assert vevals_verdict.attempt == 1        # optional: runs once the gate has passed

FAIL fails the test; INCONCLUSIVE, INVALID and a policy that cannot be read are errors of it. The path of the policy is
relative to the root folder of the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vevals.gate.verdict import Verdict

MARKER = "vevals_gate"
USAGE = (
    "vevals_gate(policy, candidate, baseline=None, db=None): the test passes, fails or errs as this release gate does"
)
_VERDICT: pytest.StashKey[Verdict] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", USAGE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Reach the verdict; where it is neither PASS nor FAIL, end the test here, which pytest counts as an error."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return
    verdict = _judge(item, _asked(marker))
    item.stash[_VERDICT] = verdict
    if verdict.exit_state not in ("PASS", "FAIL"):
        pytest.fail(_report(verdict), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail the test whose gate failed, before its body runs."""
    verdict = item.stash.get(_VERDICT, None)
    if verdict is not None and verdict.exit_state == "FAIL":
        pytest.fail(_report(verdict), pytrace=False)


@pytest.fixture
def vevals_verdict(request: pytest.FixtureRequest) -> Verdict:
    """The verdict that the test's marker ``vevals_gate`` asked for."""
    verdict = request.node.stash.get(_VERDICT, None)
    if verdict is None:
        pytest.fail("the fixture vevals_verdict needs the marker @pytest.mark.vevals_gate on its test", pytrace=False)
    found: Verdict = verdict
    return found


def _asked(marker: pytest.Mark) -> Mapping[str, Any]:
    """The marker's arguments by name."""
    try:
        return _arguments(*marker.args, **marker.kwargs)
    except TypeError as error:
        told = str(error).replace("_arguments()", f"the marker {MARKER}")
        pytest.fail(f"{told}; write {USAGE.partition(':')[0]}", pytrace=False)


def _arguments(policy: str, candidate: str, baseline: str | None = None, db: str | None = None) -> Mapping[str, Any]:
    return {"policy": policy, "candidate": candidate, "baseline": baseline, "db": db}


def _judge(item: pytest.Item, asked: Mapping[str, Any]) -> Verdict:
    from vevals.errors import VevalsError
    from vevals.release import check

    policy = item.config.rootpath / asked["policy"]
    try:
        return check(policy, asked["candidate"], baseline=asked["baseline"], db=asked["db"])
    except VevalsError as error:
        pytest.fail(f"the release gate cannot be decided: {error}", pytrace=False)


def _report(verdict: Verdict) -> str:
    """The banner, and the lines of all checks that are not plainly passed."""
    from vevals.gate import lines

    open_checks = [one for one in verdict.instances if lines.word(one) != "PASS"]
    told = [f"{lines.plain(one.name)} ({one.severity.value})\n    {lines.line(one)}" for one in open_checks]
    return "\n".join([*lines.banner(verdict), *told])
