"""Every Python process with this directory on its PYTHONPATH stops where a test holds it.

What is tested is a kill at a certain point: a process that only the clock brings there may be
elsewhere when the signal comes. A test writes the point's name into the file `.hold` of a sweep or
study and locks it; a process that comes to the point writes `.held-PID` beside it and waits for
the lock, which goes with the test's process. No code of l1kd knows of this.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path


def _wait(point: str, root: Path) -> None:
    hold = root / ".hold"
    try:
        if hold.read_text() != point:
            return
        with hold.open() as handle:
            (root / f".held-{os.getpid()}").touch()
            fcntl.flock(handle, fcntl.LOCK_SH)
    except FileNotFoundError:
        return


def _root() -> Path | None:
    """The sweep or study that this process works for, by its command line."""
    if "--run" in sys.argv:
        return Path(sys.argv[sys.argv.index("--run") + 1]).parents[1]
    return Path(sys.argv[2]) if "--join" in sys.argv else None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.rename":
        target = Path(os.fsdecode(arguments[1]))  # type: ignore[call-overload]
        if target.name == "checkpoint.npz" and target.exists():  # an epoch was kept before
            _wait("checkpoint", target.parents[2])
        elif target.parent.name == "students" and len(target.parts) > 2:
            _wait("student", target.parents[1])
    elif event == "import" and arguments[0] == "tensorflow" and (root := _root()) is not None:
        _wait("tensorflow", root)


sys.addaudithook(_watch)
