"""Tests of vevals. A package, so that ``python -m tests.perf`` finds this one and no other that is installed."""
