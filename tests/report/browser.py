"""A headless Chromium, driven over its debugging pipe: what it shows, asks for and complains of."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A4 without its margins (report.css), in pixels of CSS.
PAPER = round((210 - 2 * 12) / 25.4 * 96)
_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-sync"),
    *("--disable-background-networking", "--remote-debugging-pipe", "about:blank"),
)


def program() -> str | None:
    """A Chromium on the path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab. `events` are those of the protocol, in their order."""

    def __init__(self, process: subprocess.Popen[bytes], send: int, receive: int) -> None:
        self._process, self._send, self._receive = process, send, receive
        self._numbers, self._rest, self.events = itertools.count(1), b"", list[dict[str, Any]]()
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the protocol and wait for its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return dict(told["result"])
            self.events.append(told)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not (more := os.read(self._receive, 1 << 20)):
                raise RuntimeError("Chromium ended")
            self._rest += more
        told, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(told))

    def open(
        self,
        page: Path,
        width: int,
        *,
        dark: bool = False,
        printed: bool = False,
        wait: bool = True,
    ) -> None:
        """Load a page, at a width, and `wait` until it is drawn, which takes a script."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if printed else "", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(told.get("method") == "Page.loadEventFired" for told in self.events):
            self.events.append(self._read())
        if wait:
            self.run(
                "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", **given)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def picture(self, *, whole: bool = False) -> bytes:
        """PNG of what is seen, or of the whole page."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        )

    def pdf(self) -> bytes:
        """The page on A4."""
        size = {"paperWidth": 210 / 25.4, "paperHeight": 297 / 25.4}
        given = {"printBackground": True, "preferCSSPageSize": False, **size}
        return base64.b64decode(self.call("Page.printToPDF", **given)["data"])

    @property
    def said(self) -> list[str]:
        """Messages of console and log, exceptions."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(told) for told in self.events if told.get("method") in kinds]

    @property
    def asked(self) -> list[str]:
        """Addresses that were asked for; what the page holds itself, `data:`, is none."""
        sent = (t for t in self.events if t.get("method") == "Network.requestWillBeSent")
        urls = [told["params"]["request"]["url"] for told in sent]
        return [url for url in urls if not url.startswith("data:")]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium with a profile of its own; RuntimeError if there is none."""
    if (path := program()) is None:
        raise RuntimeError("no Chromium on the path")
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The protocol: it reads from descriptor 3 and writes to 4.
        line = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        command = [path, f"--user-data-dir={profile}", *_ARGUMENTS]
        process = subprocess.Popen(
            ["bash", "-c", line, "bash", str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, ours_out, ours_in)
        finally:
            os.close(ours_out)
            process.kill()
            process.wait()
            os.close(ours_in)
