"""The rows of a hub data set at a commit, or of a directory that the hub's library can read. The only user of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vevals.data.remote import offline
from vevals.data.sources import HubSource
from vevals.errors import DataError, MissingExtra


def read_hub(source: HubSource, folder: Path) -> list[dict[str, Any]]:
    """All rows of the split, as plain values; dates and times become ISO 8601 texts.

    A source without a revision must be a directory, relative to ``folder`` or absolute. No code in it is ever run.
    """
    found = _dataset(source, folder)
    return [{name: _plain(value, name, source) for name, value in row.items()} for row in found]


def hub_files(source: HubSource, folder: Path) -> list[Path]:
    """The files in the library's own cache that hold the split; they are fetched if they are not there yet."""
    return [Path(entry["filename"]) for entry in _dataset(source, folder).cache_files]


def place(source: HubSource) -> str:
    """The data set as error messages name it."""
    return " ".join(part for part in (source.path, source.name, source.split) if part)


def directory(source: HubSource, folder: Path) -> Path | None:
    """The directory that a source without a revision names; None for one with a revision, which is of the hub."""
    if source.revision is not None:
        return None
    local = folder / source.path
    if not local.is_dir():
        raise DataError(f"{source.path}: a hub data set needs its revision, a commit of 40 hexadecimal digits")
    return local


def _dataset(source: HubSource, folder: Path) -> Any:
    local = directory(source, folder)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("hub: data", "hub") from error
    try:
        with as_offline_as_vevals():
            found = datasets.load_dataset(
                str(local) if local else source.path,
                source.name,
                split=source.split,
                revision=source.revision,
                keep_in_memory=False,
            )
    except Exception as error:  # whatever that library and the builders under it raise is about this data set
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"{place(source)}: the data set cannot be loaded: {type(error).__name__}: {first}") from error
    _check_revision(found, source)
    return found


def _check_revision(found: Any, source: HubSource) -> None:
    """DataError unless all rows are of the commit.

    The library needs this: without a connection it takes the newest revision in its cache, and a directory of the same
    name in the working directory comes before the hub. What it keeps of a hub data set lies in a folder named after the
    commit.
    """
    if source.revision is None:
        return
    files = [Path(entry["filename"]) for entry in found.cache_files]
    if not files or any(source.revision not in file.parts for file in files):
        raise DataError(
            f"{place(source)}: the rows found on this machine are not of the revision {source.revision}; "
            "connect to the hub once to fetch it"
        )


@contextmanager
def as_offline_as_vevals() -> Iterator[None]:
    """Hold the library's own offline switches, which it reads from the environment when it is first imported."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if offline():
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _plain(value: Any, name: str, source: HubSource) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(element, name, source) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element, name, source) for key, element in value.items()}
    raise DataError(
        f"{place(source)}: column '{name}' holds a {type(value).__name__}; only text and numbers can be used"
    )
