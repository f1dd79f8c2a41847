"""A project as the shared library that trigger software loads, and its Python loader.

All but the field's interface is hidden, so that any number of versions work in one process.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from l1kd import __version__
from l1kd.core import run_files
from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import (
    atomic_directory,
    check_replaceable,
    content_hash,
    file_hash,
    write_json,
)
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.processes import version_text
from l1kd.firmware.hls import c_simulation, testbench
from l1kd.firmware.hls.project import Port, Project, counts_of
from l1kd.firmware.hls.testbench import template
from l1kd.firmware.run_firmware import certificate_of, projects_of_student

_FORMAT = 1
_FLAGS = (
    *("-std=c++17", "-O1", "-fwrapv", "-w", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wl,--version-script=source/exports.map", "-Wl,-z,defs"),
    *("-Iinclude", "-Isource/firmware/ap_types"),
)
_AGAIN = "build it again with `l1kd emulator RUN`, or with make in its directory"
_CHANGED = "// Changed by l1kd: see NOTICE.\n"
_SHARE = 256  # events that are worth a thread
_Counts = ctypes.POINTER(ctypes.c_int64)


class Library(BaseModel, extra="forbid", frozen=True):
    """The library's file, its hash and the machine that it is for."""

    file: str
    sha256: str
    machine: str


class Manifest(BaseModel, extra="forbid", frozen=True):
    """`manifest.json` of an emulator."""

    format_version: int = _FORMAT
    name: str
    version: str
    namespace: str
    io_type: str
    input: Port
    output: Port
    project: str  # hash of the project's C++
    model: str  # hash of the network
    versions: dict[str, str]
    compiler: str
    library: Library


def read_manifest(directory: Path, remedy: str = _AGAIN) -> Manifest:
    """Manifest of an emulator's directory; UserError, with a remedy, if it is none."""
    path = directory / "manifest.json"
    none = f"{directory} is no emulator: it has no {path.name}; `l1kd emulator RUN` builds one"
    manifest: Manifest = run_files.read_as(Manifest, path, none, remedy, version=_FORMAT)
    return manifest


@dataclass(frozen=True)
class Emulator:
    """A loaded emulator."""

    directory: Path
    manifest: Manifest
    _library: ctypes.CDLL = field(repr=False)

    def predict(self, events: ArrayLike) -> NDArray[np.float64]:
        """Outputs (N, outputs) of events (N, *shape) or (N, inputs); UserError as `counts_of`."""
        counts = np.ascontiguousarray(counts_of(events, self.manifest.input, self.manifest.name))
        found = np.empty((len(counts), self.manifest.output.size), np.int64)
        # Each call has a model of its own, and Python waits outside of its lock.
        share = max(_SHARE, -(-len(counts) // cores()))

        def run(start: int) -> int:
            given, shown = (part[start : start + share] for part in (counts, found))
            places = (array.ctypes.data_as(_Counts) for array in (given, shown))
            return int(self._library.l1kd_predict(*places, len(given)))

        with ThreadPoolExecutor(cores()) as pool:
            if any(pool.map(run, range(0, len(counts), share))):
                raise RuntimeError(f"{self.directory}: the emulator failed")
        return found * FixedPoint.parse(self.manifest.output.type).lsb


def build(
    project: Project, directory: Path | str, check: Callable[[Emulator], None] | None = None
) -> Emulator:
    """Build a project's emulator, or leave what was there if `check` raises, and load it."""
    directory = Path(directory)
    check_replaceable(directory, ("manifest.json",))
    if (directory / "manifest.json").exists():  # a web page has one too
        read_manifest(
            directory, "it is not replaced: move it away, or name another place with --out"
        )
    with atomic_directory(directory) as written:
        _compile(project, written)
        if check is not None:
            check(load(written))
    made = load(directory)
    _mark(made.manifest.library).touch()
    return made


def built_here(directory: Path) -> bool:
    """True if this user's l1kd built a library, so that `verify` may load it from a run."""
    return _mark(read_manifest(directory).library).exists()


def _mark(library: Library) -> Path:
    """A file in the user's cache that says that a library of this hash was built here."""
    place = c_simulation.cache_directory() / "emulators"
    place.mkdir(exist_ok=True)
    return place / content_hash(library.sha256)


def _compile(project: Project, directory: Path) -> None:
    """Write and compile an emulator into a new directory."""
    description, record = project.description, project.record
    name = record.top.removeprefix("l1kd_")
    version = description.namespace.removeprefix(f"{record.top}_")
    code = _write(project, directory, name, version)
    command, library = c_simulation.compiler(), f"lib{name}_{version}.so"
    flags = (*_FLAGS, f"-Wl,-soname,{library}")
    sources = ("source/emulator.cpp", f"source/{record.top}_version.cpp")
    texts = {"library": library, "flags": " ".join(flags), "sources": " ".join(sources)}
    (directory / "Makefile").write_text(template("emulator.mk", **texts), encoding="utf-8")
    arguments = (*flags, *sources, "-o", library)
    c_simulation.compile_cpp(command, arguments, directory, project.directory, "the emulator")
    manifest = Manifest(
        name=name,
        version=version,
        namespace=description.namespace,
        io_type=record.io_type,
        input=description.input,
        output=description.output,
        project=content_hash({path: content.decode() for path, content in code.items()}),
        model=description.model,
        versions={**description.versions, "emulator": __version__},
        compiler=version_text([*command, "--version"]).partition("\n")[0].strip() or command[0],
        library=Library(
            file=library, sha256=file_hash(directory / library), machine=platform.machine()
        ),
    )
    write_json(directory / "manifest.json", manifest.model_dump(mode="json"))


def _write(project: Project, directory: Path, name: str, version: str) -> dict[str, bytes]:
    """Write everything that is compiled; the project's own C++ by path."""
    record, namespace = project.record, project.description.namespace
    code = dict(c_simulation.sources(project.directory))
    for path, content in code.items():
        target = directory / "source" / "firmware" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        mark = _CHANGED if path.endswith("etc/ap_private.h") else ""
        target.write_bytes(mark.encode() + content)
    header = f"{name}_{version}.h"
    values: dict[str, object] = {
        "name": name,
        "version": version,
        "namespace": namespace,
        "top": record.top,
        "header": header,
        "inputs": project.description.input.size,
        "outputs": project.description.output.size,
        "compute": template(f"emulate_{record.io_type}.cpp", top=record.top).strip("\n"),
    }
    # The names of the ports' types, as the project's `ports.h` has them.
    kinds = re.findall(r"static_assert\(port_bits<(\w+)>", code["ports.h"].decode())
    ports = (("input", project.input_type), ("output", project.output_type))
    for (what, port), kind in zip(ports, (kinds[0], kinds[-1]), strict=True):
        plain = replace(port, rounding="TRN", overflow="WRAP")
        whole = replace(plain, rounding="TRN_ZERO") if not port.fraction else plain
        values |= {what: port.text, f"{what}_plain": plain.text, f"{what}_integer": whole.text}
        values[f"{what}_t"] = kind
    own = testbench.rendered(project.description, (kinds[0], kinds[-1]))
    licence = "LICENSE-Apache-2.0.txt"
    texts = {
        "include/emulator.h": template("emulator.h"),
        f"include/{header}": template("emulator_ports.h", **values),
        "source/emulator.cpp": template("emulator.cpp", **values),
        "source/exports.map": template("emulator.map"),
        "NOTICE": template("emulator.notice"),
        licence: template(licence),
        **{f"source/{path}": text for path, text in own.items() if "_version." in path},
    }
    (directory / "include").mkdir()
    for path, text in texts.items():
        (directory / path).write_text(text, encoding="utf-8")
    return code


def load(directory: Path | str) -> Emulator:
    """Load an emulator; UserError if its library is not what its manifest describes."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    # What is checked is what is loaded: a private copy, which no one replaces in between, and which
    # the system does not take for a library of the same path that it has loaded before.
    with tempfile.TemporaryDirectory(prefix="l1kd-emulator-") as private:
        path, copy = directory / manifest.library.file, Path(private, "emulator.so")
        try:
            shutil.copyfile(path, copy)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; {_AGAIN}") from error
        _check_elf(copy, path)
        if file_hash(copy) != manifest.library.sha256:
            raise UserError(
                f"{path} is not the library of manifest.json: its hash differs; {_AGAIN}"
            )
        try:
            library = ctypes.CDLL(str(copy), mode=os.RTLD_LAZY | os.RTLD_LOCAL)
        except OSError as error:
            reason = str(error).replace(str(copy), path.name)
            raise UserError(f"{path} cannot be loaded ({reason}); {_AGAIN}") from error
    for name in ("create_model", "destroy_model", "l1kd_version", "l1kd_predict"):
        if not hasattr(library, name):
            raise UserError(f"{path} is no emulator of l1kd: it has no {name}; {_AGAIN}")
    library.l1kd_version.restype = ctypes.c_char_p
    version = library.l1kd_version().decode()
    if version != manifest.namespace:
        raise UserError(f"{path} is version {version}, not {manifest.namespace}; {_AGAIN}")
    library.l1kd_predict.argtypes = [_Counts, _Counts, ctypes.c_size_t]
    return Emulator(directory, manifest, library)


def _check_elf(copy: Path, path: Path) -> None:
    """Refuse what the loader might crash on: no library, a part of one, another machine's."""
    with copy.open("rb") as handle:
        head = handle.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        raise UserError(f"{path} is no shared library; {_AGAIN}")
    own = Path(sys.executable).read_bytes()[:64] if Path(sys.executable).is_file() else head
    kind = slice(4, 6), slice(18, 20)  # word size and byte order; the machine
    if own[:4] == b"\x7fELF" and any(head[part] != own[part] for part in kind):
        raise UserError(f"{path} is a library for another machine than this one; {_AGAIN}")
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 40 if wide else 32)
    size, count = struct.unpack_from(f"{order}HH", head, 58 if wide else 46)
    if copy.stat().st_size < start + size * count:
        raise UserError(f"{path} is cut short; {_AGAIN}")


def deliver(run: Path, student: str | None = None, out: Path | None = None) -> tuple[str, Emulator]:
    """Build the emulator of a student (the best one); it is kept if the test vectors agree."""
    student, projects = projects_of_student(run, student)
    project = min(projects, key=lambda each: each.record.io_type != "io_parallel")
    certificate_of(run, project)
    inputs, expected = testbench.read_vectors(project.directory)

    def check(built: Emulator) -> None:
        found = built.predict(inputs * project.input_type.lsb)
        wrong = int(np.sum((found != expected * project.output_type.lsb).any(axis=1)))
        if wrong:
            raise CheckFailed(
                f"{student}: the emulator differs from the network in {wrong} of {len(inputs)} "
                f"events of {project.directory}; `make test` there shows them"
            )

    label = project.description.namespace.removeprefix("l1kd_")
    return student, build(project, out or run / "emulator" / label, check)
