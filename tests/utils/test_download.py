"""utils/download.py against a small server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from utils.download import download
from utils.errors import UserError

CONTENT = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at any path; remembers the Range header of each request (None = the whole file)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str | None] = []
        self.content = CONTENT
        self.ranges = True  # answers Range requests with the rest only
        self.states_length = True
        self.sends_at_most = len(CONTENT)  # bytes before the connection breaks


@contextmanager
def serve() -> Iterator[Server]:
    """A server that answers at most 20 requests, so that a faulty client cannot run on for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.requests.append(wanted)
            if len(state.requests) > 20:
                self.send_error(503)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last, total = len(state.content) - 1, len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
            if state.states_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.sends_at_most])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state = Server(f"http://127.0.0.1:{http.server_address[1]}/weights.pth")
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


def fetch(server: Server, target: Path) -> None:
    download(server.url, target, len(CONTENT), SHA256)


def test_fresh_download_asks_for_the_whole_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "weights.pth"
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None]
    assert not target.with_name("weights.pth.part").exists()


def test_rest_of_a_partial_download_is_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:123_456])
    fetch(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.requests == ["bytes=123456-"]


@pytest.mark.parametrize("states_length", [True, False])
def test_broken_connection_is_taken_up_again(server: Server, tmp_path: Path, states_length: bool) -> None:
    server.sends_at_most, server.states_length = 250_000, states_length
    fetch(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=250000-", "bytes=500000-"]


def test_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "weights.pth.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]


def test_server_that_never_gets_further_ends_in_an_error(server: Server, tmp_path: Path) -> None:
    server.ranges, server.sends_at_most = False, 1000
    with pytest.raises(OSError, match=r"."):
        fetch(server, tmp_path / "weights.pth")
    assert server.requests == [None, "bytes=1000-"]
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "weights.pth").exists()


def test_complete_part_file_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("part", [None, b"x" * 1000, b"x" * 700_000])
def test_wrong_content_is_removed(server: Server, tmp_path: Path, part: bytes | None) -> None:
    if part is None:
        server.content = CONTENT[::-1]
    else:
        (tmp_path / "weights.pth.part").write_bytes(part)
    with pytest.raises(UserError, match=SHA256):
        fetch(server, tmp_path / "weights.pth")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_file_of_another_size_is_refused_before_it_is_fetched(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + b"more"
    with pytest.raises(UserError, match="expected a file of 600,000 bytes, the server has 600,004"):
        fetch(server, tmp_path / "weights.pth")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_refused_connection_is_an_os_error(tmp_path: Path) -> None:
    with serve() as server:
        pass
    with pytest.raises(OSError, match="refused"):
        fetch(server, tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()


def test_http_error_names_the_status_and_keeps_the_part(server: Server, tmp_path: Path) -> None:
    server.requests = [None] * 20
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:10])
    with pytest.raises(OSError, match="503"):
        fetch(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT[:10]


def test_two_runs_fetch_the_file_once(server: Server, tmp_path: Path) -> None:
    runs = [threading.Thread(target=fetch, args=(server, tmp_path / "weights.pth")) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.requests == [None]
