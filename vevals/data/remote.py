"""From a pinned address to a verified file on this machine: the mirror, then the cache, then a download.

| variable | meaning |
|---|---|
| VEVALS_MIRROR | folders (separated as in PATH) that hold files as ``host/path``: an offline copy of the addresses |
| VEVALS_CACHE | folder of what was downloaded (default: the user's cache folder); files are named after their sha256 |
| VEVALS_OFFLINE | 1: never touch the network |

Bytes with a wrong hash are never used: an error in the mirror, moved aside and fetched again in the cache.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from vevals.data.download import UnreachableError, download
from vevals.data.sources import FileSource
from vevals.errors import DataAbsent, DataError
from vevals.places import cache_folder


def obtain(source: FileSource) -> Path:
    """The verified file of a source with a url, from wherever it is first found; DataError if it cannot be had."""
    sha256, url = str(source.digest), str(source.url)
    if (mirrored := find_mirrored(source)) is not None:
        return mirrored
    cached = cache_path(sha256)
    try:
        if is_right(cached, sha256):
            return cached
        if offline():
            raise DataAbsent(absent(source, "VEVALS_OFFLINE forbids to download it"))
        cached.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cached.with_name(f"{sha256}.lock")):
            if not is_right(cached, sha256):
                _set_aside(cached)
                download(url, sha256, cached)
    except UnreachableError as error:
        raise DataAbsent(absent(source, f"the download failed ({error})")) from error
    except OSError as error:
        raise DataError(f"{cached.parent}: {url} cannot be kept there ({error}); set VEVALS_CACHE") from error
    return cached


def is_right(cached: Path, sha256: str) -> bool:
    """Whether the cache has the file, with the right bytes."""
    try:
        return digest(cached) == sha256
    except FileNotFoundError:
        return False


def find_mirrored(source: FileSource) -> Path | None:
    """The file in the mirror, verified; None if no mirror has it; DataError if one has it with other bytes."""
    for folder in mirrors():
        for relative in mirror_paths(str(source.url)):
            file = folder / relative
            if _is_file(file):
                check_digest(file, source)
                return file
    return None


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # an address may be longer than a file's name can be
        return False


def check_digest(file: Path, source: FileSource) -> None:
    """DataError unless the bytes of ``file`` have the sha256 of ``source``."""
    try:
        found = digest(file)
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read: {error.strerror or error}") from error
    if found != source.digest:
        raise DataError(
            f"{file}: its sha256 is {found}, but {source.digest} is expected; put the right file there, or pin the new "
            "sha256 if the change is wanted"
        )


def absent(source: FileSource, why: str) -> str:
    """The sentence for a file that is nowhere: it says which bytes to put where."""
    folders = mirrors()
    relative = mirror_paths(str(source.url))[0]
    place = str(folders[0] / relative) if folders else f"<folder>/{relative} and set VEVALS_MIRROR=<folder>"
    cached = cache_path(str(source.digest))
    where = f"in the cache (the bytes of {cached} are wrong)" if cached.exists() else "in the cache"
    return (
        f"{source.url} is neither in the mirror nor {where}, and {why}; put the file with sha256 {source.digest} "
        f"at {place}"
    )


# ---- places


def mirrors() -> list[Path]:
    """The folders of VEVALS_MIRROR; DataError for one that is not there."""
    folders = [Path(name) for name in os.environ.get("VEVALS_MIRROR", "").split(os.pathsep) if name]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: VEVALS_MIRROR names this folder, but it is not there; correct or unset it")
    return folders


def mirror_paths(url: str) -> list[str]:
    """Where a mirror may hold ``url``, relative to its folder: as a person reads the address, then as it is written.

    Raises DataError for an address that would leave the folder.
    """
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    found: list[str] = []
    for path in (unquote(parts.path) + unquote(query), parts.path + query, unquote(parts.path), parts.path):
        relative = f"{parts.netloc}/{path.lstrip('/')}"
        pieces = relative.replace("\\", "/").split("/")
        if ".." in pieces or "\0" in relative:
            raise DataError(f"{url}: an address with '..' in its path is refused")
        if relative not in found:
            found.append(relative)
    return found


def cache_path(sha256: str) -> Path:
    """Where the file with this hash is kept."""
    return cache_folder() / "data" / sha256


def offline() -> bool:
    """Whether VEVALS_OFFLINE forbids the network."""
    return os.environ.get("VEVALS_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def _set_aside(wrong: Path) -> None:
    if wrong.exists():
        wrong.replace(wrong.with_name(f"{wrong.name}.wrong"))


# ---- hashes


def digest(file: Path) -> str:
    """The sha256 of a file, read once in a process for each path, size and time of change."""
    state = file.stat()
    return _digest(file.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(file: Path, _size: int, _changed_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
