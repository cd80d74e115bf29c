"""``vevals check``: everything about a benchmark that can be proved without a model."""

from vevals.check.duplicates import across
from vevals.check.finding import Finding
from vevals.check.report import Report, ideal_response, is_bundled, labels, problems, slices

__all__ = ["Finding", "Report", "across", "ideal_response", "is_bundled", "labels", "problems", "slices"]
