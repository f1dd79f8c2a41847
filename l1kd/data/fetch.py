"""Download the image sets: resumed, retried, verified before anything takes its place."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich import progress as rich_progress
from rich.console import Console

from l1kd import __version__
from l1kd.data import idx
from l1kd.data.imagesets import FILES, KNOWN, cache, offline
from l1kd.errors import UserError

__all__ = ["MIRRORS", "Progress", "bars", "fetch"]

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes it has and the bytes it will have (None: not known)."""

# Directories of gzipped IDX files; the second one is asked when the first one fails.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion_mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}
_MAX_BYTES = 1 << 26  # the largest file has 26 MB: a server must not fill the disk
_PIECE = 1 << 16
_AGAIN = (408, 425, 429)  # besides 5xx: asked later, the server may answer


class _FetchError(Exception):
    """This mirror does not give this file; the message says why."""


def fetch(
    name: str,
    out: Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: Progress | None = None,
    attempts: int = 4,
    timeout_s: float = 30.0,
    pause_s: float = 1.0,
) -> Path:
    """Download a data set that l1kd knows; what is there and whole is not downloaded again.

    Parameters
    ----------
    name
        `mnist` or `fashion_mnist`.
    out
        The directory to put the files in; None: the cache, where l1kd finds them.
    mirrors
        Addresses (http or https) of directories to ask instead of the public ones, in order.
    progress
        Told about every piece that arrives.
    attempts
        Connections in a row that bring nothing before a mirror is given up; each continues where
        the one before broke off.
    timeout_s
        How long a silent server is waited for.
    pause_s
        Before the second attempt; doubled for each further one.

    Returns
    -------
    The directory.

    Raises
    ------
    UserError
        For an unknown name, a directory that cannot be written, and when no mirror gave the right
        files.
    """
    if name not in KNOWN:
        near = difflib.get_close_matches(name, list(KNOWN), 1, 0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"nothing to fetch is named {name!r}{hint}; known are {', '.join(KNOWN)}")
    addresses = MIRRORS[name] if mirrors is None else tuple(mirrors)
    for address in addresses:
        if not address.startswith(("http://", "https://")):
            raise UserError(f"{address}: only http and https addresses are fetched from")
    directory = cache() / name if out is None else Path(out)
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    connection = _Connection(progress or _silent, attempts, timeout_s, pause_s)
    for file in FILES:
        target = directory / f"{file}.gz"
        expected = KNOWN[name].md5[file]
        if _wrong(target, expected) is None:
            continue
        reasons = []
        for address in addresses:
            url = f"{address.rstrip('/')}/{file}.gz"
            try:
                _one(connection, url, target, expected)
                break
            except _FetchError as error:
                reasons.append(f"{url}: {error}")
        else:
            raise UserError(
                f"could not fetch {KNOWN[name].title}: {'; '.join(reasons)}. Try again later, or "
                f"{offline(name)}"
            )
    return directory


@contextlib.contextmanager
def bars(console: Console | None = None) -> Iterator[Progress]:
    """A bar per file on a terminal, standard error by default; yields what `fetch` tells them."""
    console = console or Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    if not console.is_terminal:
        yield _silent  # a log needs no bars, and rich would leave empty lines in it
        return
    with rich_progress.Progress(*columns, console=console) as shown:
        tasks: dict[str, rich_progress.TaskID] = {}

        def show(file: str, have: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = shown.add_task(file, total=total)
            shown.update(tasks[file], completed=have, total=total)

        yield show


def _one(connection: _Connection, url: str, target: Path, expected: str) -> None:
    """Download one file, verify its payload, put it in place."""
    # Distributors compress differently: what one began, another cannot continue.
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{mark}.part")
    resumed, wrong = part.exists(), _wrong(part, expected)
    if wrong is not None:
        connection.download(url, part)
        wrong = _wrong(part, expected)
    if wrong is not None and resumed:
        # The file may have changed on the server since the first part came.
        _remove(part)
        connection.download(url, part)
        wrong = _wrong(part, expected)
    if wrong is not None:
        _remove(part)
        raise _FetchError(f"{wrong}, deleted")
    with _writing(target):
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)


def _wrong(path: Path, expected: str) -> str | None:
    """What is wrong with a file's payload; None if it is the one that is expected."""
    if not path.is_file():
        return "is not there"
    try:
        found = idx.md5(idx.payload(path))
    except UserError as error:
        return str(error).removeprefix(f"{path}: ").partition(";")[0]
    return None if found == expected else f"not the right content (checksum {found})"


class _Connection:
    """How to ask servers: with what patience, telling whom."""

    def __init__(self, progress: Progress, attempts: int, timeout_s: float, pause_s: float) -> None:
        self.progress, self.attempts = progress, attempts
        self.timeout_s, self.pause_s = timeout_s, pause_s
        # Only these schemes, after redirects too: the default opener also knows file and ftp.
        self.opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self.opener.add_handler(handler)
        self.opener.addheaders = [("User-Agent", f"l1kd/{__version__}")]

    def download(self, url: str, part: Path) -> None:
        """Bring `part` to its full length.

        Raises
        ------
        _FetchError
            When the server refuses, or all attempts broke off.
        """
        failures, reason = 0, ""
        while failures < self.attempts:
            if failures:
                time.sleep(self.pause_s * 2 ** (failures - 1))
            before = _size(part)
            try:
                return self._continue(url, part)
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"HTTP status {error.code}"
                if error.code == 416:
                    # More is here than the server has.
                    _remove(part)
                elif error.code < 500 and error.code not in _AGAIN:
                    raise _FetchError(reason) from error
            except (OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            # Who gets somewhat further every time arrives.
            failures = 1 if _size(part) > before else failures + 1
        raise _FetchError(f"{reason} ({self.attempts} attempts)")

    def _continue(self, url: str, part: Path) -> None:
        have = _size(part)
        request = urllib.request.Request(url)
        if have:
            request.add_header("Range", f"bytes={have}-")
        with self.opener.open(request, timeout=self.timeout_s) as response:
            if response.status == 206:
                given = re.fullmatch(
                    r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "")
                )
                if given is None or int(given[1]) != have:
                    _remove(part)
                    raise OSError("the server continued somewhere else")
                total = int(given[2]) if given[2] != "*" else None
            else:
                have = 0  # the server knows no ranges: from the beginning
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdigit() else None
            with _writing(part):
                file = part.open("ab" if have else "wb")
            with file:
                while piece := response.read(_PIECE):
                    with _writing(part):
                        file.write(piece)
                    have += len(piece)
                    self.progress(part.name.split(".")[1], have, total)
                    if have > _MAX_BYTES:
                        _remove(part)
                        raise _FetchError(f"more than {_MAX_BYTES} bytes, deleted")
                with _writing(part):
                    file.flush()
        if total is not None and have < total:
            raise OSError(f"the transfer ended after {have} of {total} bytes")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Trouble with our own disk is not the server's, and not to be tried again."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room or choose another directory "
            "with --out"
        ) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _remove(part: Path) -> None:
    with _writing(part):
        part.unlink(missing_ok=True)


def _silent(file: str, have: int, total: int | None) -> None:
    pass
