"""How a response becomes a number, and how many become one; one file a family of metrics."""

from vevals.metrics.base import Metric, get, metric, names

__all__ = ["Metric", "get", "metric", "names"]
