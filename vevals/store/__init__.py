"""Where runs live: SQLite through SQLAlchemy Core. The only package that imports SQLAlchemy."""

from vevals.store.queries import Store, open_store
from vevals.store.rows import Answer, BaselineRow, MetricRow, Observation, Place, RunRow, VerdictRow

__all__ = [
    "Answer",
    "BaselineRow",
    "MetricRow",
    "Observation",
    "Place",
    "RunRow",
    "Store",
    "VerdictRow",
    "open_store",
]
