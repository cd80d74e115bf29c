"""Pinned addresses: mirror, cache and download, against a real server that cuts, fails and lies."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vevals.data import DataSpec, FileSource, fetch, load, verify
from vevals.data.download import Patience, UnreachableError, download
from vevals.data.remote import cache_path, mirror_paths
from vevals.errors import DataError

ROOT = Path(__file__).parents[1]
QUICK = Patience(tries=3, timeout_seconds=5.0, pause_seconds=0.01)
CONTENT = ("text,label\n" + "".join(f"text {i},{i % 3}\n" for i in range(20_000))).encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Served:
    """What the server has, and what it does with the next requests: cut after n bytes, answer a status, or be slow."""

    content: bytes = CONTENT
    tag: str = '"v1"'
    length: bool = True
    ranges: bool = True
    shift: int = 0
    plan: list[int] = field(default_factory=list)  # below 0: cut after that many bytes; else a status
    pause_seconds: float = 0.0
    seen: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def source(self, sha256: str = SHA256, name: str = "data.csv") -> FileSource:
        return FileSource(url=f"{self.address}/files/{name}", sha256=sha256)

    def spec(self, sha256: str = SHA256) -> DataSpec:
        return DataSpec({"data": self.source(sha256)})


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Keep the test output clean."""

        def do_GET(self) -> None:
            served.seen.append(dict(self.headers) | {"path": self.path})
            time.sleep(served.pause_seconds)
            step = served.plan.pop(0) if served.plan else 200
            self.close_connection = True
            if step >= 300:
                self.send_error(step)
                return
            start = self.start()
            if start > len(served.content) - 1:
                self.send_error(416)
                return
            self.head(start)
            self.wfile.write(served.content[start : start - step] if step < 0 else served.content[start:])

        def start(self) -> int:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range", served.tag) == served.tag
            return int(asked[1]) if asked and same and served.ranges else 0

        def head(self, start: int) -> None:
            self.send_response(206 if start else 200)
            if start:
                whole = len(served.content)
                self.send_header("Content-Range", f"bytes {start + served.shift}-{whole - 1}/{whole}")
            if served.length:
                self.send_header("Content-Length", str(len(served.content) - start))
            if served.tag:
                self.send_header("ETag", served.tag)
            self.end_headers()

    return Handler


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A running server; the cache is an empty folder, there is no mirror and no proxy."""
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("VEVALS_MIRROR", "VEVALS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    state = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def mirrored(served: Served, folder: Path, name: str = "files/data.csv", content: bytes = CONTENT) -> Path:
    file = folder / served.address.removeprefix("http://") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# ---- download


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(served: Served, tmp_path: Path) -> None:
    rows = load(served.spec(), tmp_path)
    assert (len(rows), rows[0], rows.where(0)) == (20_000, {"text": "text 0", "label": "0"}, "data.csv:2")
    assert load(served.spec(), tmp_path).sha256 == rows.sha256
    assert len(served.seen) == 1
    assert fetch(served.spec(), tmp_path) == [tmp_path / "cache" / "data" / SHA256]
    left = {file.name for file in (tmp_path / "cache" / "data").iterdir()}
    assert left - {f"{SHA256}.lock"} == {SHA256}


@pytest.mark.parametrize("length", [True, False])
def test_a_connection_that_breaks_is_resumed_where_it_broke(served: Served, tmp_path: Path, length: bool) -> None:
    served.plan, served.length = [-1000, -5000], length
    if not length:  # nobody can tell that bytes are missing, until the hash does not fit
        with pytest.raises(DataError, match="the file there has sha256"):
            download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
        return
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [seen.get("Range") for seen in served.seen] == [None, "bytes=1000-", "bytes=6000-"]
    assert [seen.get("If-Range") for seen in served.seen] == [None, '"v1"', '"v1"']


def test_what_an_earlier_process_left_is_resumed(served: Served, tmp_path: Path) -> None:
    served.plan = [-1000, 503, 503]
    with pytest.raises(UnreachableError, match="503 Service Unavailable, 3 times"):
        download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert not (tmp_path / "x").exists()
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert served.seen[-1]["Range"] == "bytes=1000-"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_a_part_that_is_complete_needs_no_request(served: Served, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT)
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert (served.seen, (tmp_path / "x").read_bytes()) == ([], CONTENT)


@pytest.mark.parametrize("content", [b"wrong", CONTENT + b"too long"])
def test_a_part_that_does_not_fit_is_dropped_and_fetched_anew(served: Served, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.part").write_bytes(content)
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [seen.get("Range") for seen in served.seen] == [f"bytes={len(content)}-", None]


def test_a_file_that_changed_on_the_server_meanwhile_is_fetched_from_its_start(served: Served, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"an older version")
    (tmp_path / "x.mark").write_text('"v0"')
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert len(served.seen) == 1 and (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_it_all_again(served: Served, tmp_path: Path) -> None:
    served.plan, served.ranges, served.tag = [-1000], False, ""
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_part_from_another_offset_than_asked_is_not_used(served: Served, tmp_path: Path) -> None:
    served.plan, served.shift = [-1000], 7
    download(f"{served.address}/x", SHA256, tmp_path / "x", QUICK)
    assert [seen.get("Range") for seen in served.seen] == [None, "bytes=1000-", None]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_error_is_tried_again_and_a_missing_file_is_not(served: Served, tmp_path: Path) -> None:
    served.plan = [500]
    assert len(load(served.spec(), tmp_path)) == 20_000
    assert len(served.seen) == 2
    served.plan = [404]
    with pytest.raises(DataError, match="the download failed \\(the server answered 404 Not Found"):
        load(served.spec("1" * 64), tmp_path)
    assert len(served.seen) == 3


def test_bytes_with_a_wrong_hash_are_refused_and_not_kept(served: Served, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(served.spec("1" * 64), tmp_path)
    for part in (served.source().url, SHA256, "1" * 64, "pin the new sha256"):
        assert str(part) in str(caught.value)
    assert [file.suffix for file in (tmp_path / "cache" / "data").iterdir()] in ([".lock"], [])
    assert len(served.seen) == 1


def test_an_address_without_a_server_is_one_sentence_that_says_what_to_put_where(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path))
    source = FileSource(url=f"http://{address}/a%20b/data.csv", sha256=SHA256)
    with pytest.raises(DataError) as caught:
        load(DataSpec({"data": source}), tmp_path)
    for part in (source.url, SHA256, str(tmp_path / address / "a b" / "data.csv"), "no connection", "3 times"):
        assert str(part) in str(caught.value)


def test_an_address_in_any_script_is_asked_for_percent_encoded(served: Served, tmp_path: Path) -> None:
    source = served.source(name="金融 %E9%87%91.csv")
    assert len(load(DataSpec({"data": source}), tmp_path)) == 20_000
    assert served.seen[0]["path"] == "/files/%E9%87%91%E8%9E%8D%20%E9%87%91.csv"
    assert source.name == "金融 金.csv"


def test_two_processes_that_need_a_file_at_the_same_time_fetch_it_once(served: Served, tmp_path: Path) -> None:
    served.pause_seconds = 0.3
    code = (
        "import sys; from pathlib import Path; from vevals.data import *\n"
        "print(len(load(DataSpec({'data': FileSource(url=sys.argv[1], sha256=sys.argv[2])}), Path('.'))))"
    )
    command = [sys.executable, "-c", code, str(served.source().url), SHA256]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == ["20000\n", "20000\n"]
    assert len(served.seen) == 1


# ---- offline, cache and mirror


def test_offline_never_touches_the_network(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    with pytest.raises(DataError, match=r"VEVALS_OFFLINE forbids .* set VEVALS_MIRROR=<folder>"):
        load(served.spec(), tmp_path)
    assert served.seen == []
    monkeypatch.setenv("VEVALS_OFFLINE", "0")
    load(served.spec(), tmp_path)
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    assert len(load(served.spec(), tmp_path)) == 20_000


def test_a_wrong_file_in_the_cache_is_moved_aside_and_fetched_again(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = cache_path(SHA256)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"text,label\nforged,1\n")
    monkeypatch.setenv("VEVALS_OFFLINE", "1")
    with pytest.raises(DataError, match="are wrong"):
        load(served.spec(), tmp_path)
    monkeypatch.delenv("VEVALS_OFFLINE")
    assert len(load(served.spec(), tmp_path)) == 20_000
    assert cached.read_bytes() == CONTENT
    assert cached.with_name(f"{SHA256}.wrong").read_bytes() == b"text,label\nforged,1\n"


def test_a_mirror_comes_before_the_network(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    file = mirrored(served, tmp_path / "mirror")
    monkeypatch.setenv("VEVALS_MIRROR", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "mirror")]))
    assert fetch(served.spec(), tmp_path) == [file]
    assert len(load(served.spec(), tmp_path)) == 20_000
    assert (served.seen, (tmp_path / "cache").exists()) == ([], False)


@pytest.mark.parametrize("written", ["files/金 融.csv", "files/%E9%87%91%20%E8%9E%8D.csv"])
def test_a_mirror_may_spell_the_address_decoded_or_as_it_is(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    mirrored(served, tmp_path, written)
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path))
    spec = DataSpec({"data": served.source(name="%E9%87%91%20%E8%9E%8D.csv")})
    assert len(load(spec, tmp_path)) == 20_000 and served.seen == []


def test_a_wrong_file_in_the_mirror_is_an_error(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = mirrored(served, tmp_path, content=b"text,label\nforged,1\n")
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load(served.spec(), tmp_path)
    assert str(file) in str(caught.value) and SHA256 in str(caught.value)
    assert served.seen == []
    file.write_bytes(CONTENT)
    assert len(load(served.spec(), tmp_path)) == 20_000


def test_a_mirror_that_is_not_there_is_an_error(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="VEVALS_MIRROR names this folder, but it is not there"):
        load(served.spec(), tmp_path)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "%2e%2e/x", "a/..%2f..%2fx", "..%5cx", "?a=../../x"])
def test_an_address_that_leaves_the_mirror_is_refused(path: str) -> None:
    with pytest.raises(DataError, match="is refused"):
        mirror_paths(f"https://example.org/{path}")


def test_an_address_with_a_query_has_a_place_in_the_mirror() -> None:
    assert mirror_paths("https://example.org/a%20b?v=1#top") == [
        "example.org/a b?v=1",
        "example.org/a%20b?v=1",
        "example.org/a b",
        "example.org/a%20b",
    ]


def test_an_address_longer_than_a_file_name_is_simply_not_in_the_mirror(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path))
    spec = DataSpec({"data": served.source(name=f"data.csv?signature={'x' * 300}")})
    assert len(load(spec, tmp_path)) == 20_000


def test_verify_says_what_is_missing_or_wrong_without_the_network(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = verify(served.spec(), tmp_path)
    assert "was not fetched yet" in problem and served.seen == []
    load(served.spec(), tmp_path)
    assert verify(served.spec(), tmp_path) == []
    mirrored(served, tmp_path, content=b"forged")
    monkeypatch.setenv("VEVALS_MIRROR", str(tmp_path))
    (problem,) = verify(served.spec(), tmp_path)
    assert "its sha256 is" in problem


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "mine"))
    assert cache_path("ab") == tmp_path / "mine" / "data" / "ab"
    monkeypatch.delenv("VEVALS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path("ab") == tmp_path / "xdg" / "vevals" / "data" / "ab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_path("ab") == tmp_path / "home" / ".cache" / "vevals" / "data" / "ab"


def test_a_cache_that_cannot_be_written_is_one_sentence(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be kept there .* set VEVALS_CACHE"):
        load(served.spec(), tmp_path)
