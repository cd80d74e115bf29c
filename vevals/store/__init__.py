"""Where runs live: SQLite through SQLAlchemy Core. The only package that imports SQLAlchemy."""

from vevals.store.queries import Store, open_store
from vevals.store.rows import Answer, MetricRow, RunRow

__all__ = ["Answer", "MetricRow", "RunRow", "Store", "open_store"]
