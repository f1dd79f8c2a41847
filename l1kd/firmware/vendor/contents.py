"""What of a project its vendor's results follow from, and the copy of it that tools work in."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.context import Context
from l1kd.files import atomic_directory, content_hash, file_hash
from l1kd.firmware.project import FILE, Project
from l1kd.firmware.testbench import INPUTS, OUTPUTS, read_vectors
from l1kd.firmware.vendor.folder import Folder

__all__ = ["bench", "build_directory", "content", "differing", "expected", "prepare", "sources"]

_SCRIPTS = ("project.tcl", "build_prj.tcl", "vivado_synth.tcl")


def sources(directory: Path) -> dict[str, str]:
    """The files that are synthesised and the scripts, by path, each with its hash."""
    code = [path for path in sorted((directory / "firmware").rglob("*")) if path.is_file()]
    scripts = [directory / name for name in _SCRIPTS if (directory / name).is_file()]
    return {path.relative_to(directory).as_posix(): file_hash(path) for path in [*code, *scripts]}


def content(project: Project) -> str:
    """Hash of what a project's costs follow from."""
    return content_hash(sources(project.directory))


def bench(project: Project) -> str:
    """Hash of the test bench and its vectors, which simulations follow from beside the sources."""
    paths = [project.directory / name for name in _bench_files(project)]
    return content_hash([file_hash(path) if path.is_file() else None for path in paths])


def expected(project: Project) -> NDArray[np.int64]:
    """What the test bench expects, in counts of the output's LSB, (N, outputs)."""
    return read_vectors(project.directory)[1]


def differing(project: Project, folder: Folder, names: list[str] | None = None) -> list[str]:
    """Files of a directory that are not those of the project; what is missing does not differ.

    Parameters
    ----------
    project
        The run's.
    folder
        What was brought back.
    names
        Which files; by default those of `sources`.
    """
    own = sources(project.directory)
    if names is not None:
        own = {name: file_hash(project.directory / name) for name in names}
    found = []
    for name, digest in own.items():
        data = folder.data(name)
        if data is not None and hashlib.sha256(data).hexdigest() != digest:
            found.append(name)
    return found


def same_vectors(project: Project, folder: Folder) -> bool:
    """Whether a directory has the project's own vectors."""
    return all(folder.data(str(name)) is not None for name in (INPUTS, OUTPUTS)) and not differing(
        project, folder, [str(INPUTS), str(OUTPUTS)]
    )


def build_directory(context: Context, project: Project) -> Path:
    """Where tools work on a project: in a copy, which no later conversion writes over."""
    return context.directory / "vendor" / project.directory.name


def prepare(context: Context, project: Project) -> Path:
    """The copy of a project that tools work in, with what they have done in it so far.

    A copy of another version of the project is replaced; other vectors are put into it.

    Returns
    -------
    Path
        Its directory.
    """
    build = build_directory(context, project)
    for ending in (".part", ".old"):  # of a copy that was killed; the run is locked
        for left in build.parent.glob(f".{build.name}.*{ending}"):
            shutil.rmtree(left, ignore_errors=True)
    if build.is_dir() and sources(build) != sources(project.directory):
        context.say(f"{build} is a copy of another version of the project: begun anew")
        shutil.rmtree(build)
    if not build.is_dir():
        with atomic_directory(build) as temporary:
            for path in sorted(project.directory.rglob("*")):
                name = path.relative_to(project.directory)
                # Not what was compiled, and not what a tool was made to do by hand.
                if name.parts[0] == "csim" or name.parts[0].endswith("_prj"):
                    continue
                if path.is_file() and path.suffix not in (".log", ".rpt"):
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, temporary / name)
    for file in (*_bench_files(project), FILE):
        if (project.directory / file).is_file():
            shutil.copy2(project.directory / file, build / file)
    return build


def _bench_files(project: Project) -> list[str]:
    return [f"{project.record.top}_test.cpp", str(INPUTS), str(OUTPUTS)]
