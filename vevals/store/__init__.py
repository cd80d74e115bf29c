"""Where runs live: SQLite through SQLAlchemy Core. The only package that imports SQLAlchemy."""

from vevals.store.queries import Answer, RunRow, Store, open_store

__all__ = ["Answer", "RunRow", "Store", "open_store"]
