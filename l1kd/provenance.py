"""Where a run comes from: versions and the checkout's commit."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from l1kd import __version__

__all__ = ["git_commit", "versions"]


def versions() -> dict[str, str]:
    """Of this package, Python and what decides numbers; absent packages are left out."""
    found = {"l1kd": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "qkeras", "hls4ml", "da4ml", "alkaid", "numpy", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit() -> str | None:
    """The checkout's commit, if this package runs from one."""
    package = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return None
    return answer[1] if Path(answer[0], "l1kd", "__init__.py").is_file() else None
