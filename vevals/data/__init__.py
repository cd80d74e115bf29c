"""Where the rows come from: bundled files, pinned addresses, mirrors or the hub. Only this package knows.

::

    sources      what a YAML may say about data: FileSource, HubSource, DataSpec
    remote       address -> verified file on this machine: mirror, then cache, then download
    download     one address, one file: resumed, verified while it arrives
    archive      file -> bytes: .gz and .zip opened in memory, within a limit
    documents    bytes -> parsed document with line numbers: csv, tsv, json, jsonl, lines
    expressions  JMESPath over documents and rows, with functions for the shapes that public data has
    hub          a data set of the hub, at a commit
    rows         all of it together: load, fetch, verify
"""

from __future__ import annotations

from vevals.data.expressions import check_expression, column
from vevals.data.rows import Rows, fetch, load, verify
from vevals.data.sources import FORMATS, DataSpec, FileSource, HubSource

__all__ = [
    "FORMATS",
    "DataSpec",
    "FileSource",
    "HubSource",
    "Rows",
    "check_expression",
    "column",
    "fetch",
    "load",
    "verify",
]
