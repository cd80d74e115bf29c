"""The release gate: a policy, evidence, and a verdict with an exit code."""
