"""Finished runs -> one comparable table of models, and the forms in which it is given out. Pure: rows in, rows out."""

from vevals.board.entries import Entry, comparable, with_evidence
from vevals.board.formats import csv_of, notes, slice_markdown, slice_records, to_csv, to_frame, to_markdown, to_records
from vevals.board.frames import from_frame
from vevals.board.slices import SliceScore, by_slice
from vevals.board.table import NO_PRICES, Board, Pair, Row, Standing, build

__all__ = [
    "NO_PRICES",
    "Board",
    "Entry",
    "Pair",
    "Row",
    "SliceScore",
    "Standing",
    "build",
    "by_slice",
    "comparable",
    "csv_of",
    "from_frame",
    "notes",
    "slice_markdown",
    "slice_records",
    "to_csv",
    "to_frame",
    "to_markdown",
    "to_records",
    "with_evidence",
]
