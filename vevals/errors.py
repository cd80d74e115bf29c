"""What vevals raises. The command line prints these without a traceback; anything else is a bug of ours.

::

    VevalsError              one sentence: what is wrong, where, what to do
    |-- BenchmarkError       a benchmark.yaml, suite or name that cannot be used
    |   `-- DataError        rows: a bad line, a missing column, a wrong hash
    |       |-- RowErrors    several rows at once
    |       `-- DataAbsent   a pinned file that is not on this machine and cannot be fetched
    |-- MetricError          an unknown metric, or an option that it does not have
    |-- ModelError           a model that cannot be loaded, or one that stopped as a whole
    |   `-- MissingExtra     an optional dependency is not installed
    |-- StoreError           a database that cannot be read or written
    |   `-- RunLocked        another process is writing the same run
    `-- PolicyError          a release gate's policy that cannot be used
"""

from __future__ import annotations

from collections.abc import Sequence


class VevalsError(Exception):
    """Base of all expected errors. ``str(error)`` is one sentence for the person at the keyboard."""

    exit_code = 2


class BenchmarkError(VevalsError):
    """A benchmark, suite or name that cannot be used."""


class DataError(BenchmarkError):
    """Rows that cannot be used: where (file and line), what, and what to do."""


class RowErrors(DataError):
    """Several rows that cannot be used. ``problems`` has a sentence for each, the first of which is the message."""

    def __init__(self, problems: Sequence[str], benchmark: str) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more; vevals check {benchmark} lists them)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class DataAbsent(DataError):
    """A pinned file that is neither in the mirror nor in the cache, and cannot be fetched."""


class MetricError(VevalsError):
    """An unknown metric, or an option that it does not have."""


class ModelError(VevalsError):
    """A model that cannot be loaded, or that stopped as a whole."""


class MissingExtra(ModelError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'vevals[{extra}]'")


class StoreError(VevalsError):
    """A database that cannot be read or written."""


class RunLocked(StoreError):
    """Another process is writing the same run."""


class PolicyError(VevalsError):
    """A release gate's policy that cannot be used: file and line, what, and what to do."""
