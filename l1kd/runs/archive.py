"""A student's firmware as one archive for a receiver; the check of an archive, or of a run.

An archive is a `.tar.gz` in which every bit counts: a comment in its gzip header is the SHA-256 of
all that follows, and the tar headers are those that are written of the files' names and sizes.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from l1kd import __version__
from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import atomic, read_bytes, reading, regular
from l1kd.exact.network import Network, load_network
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.findings import Certificate
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.hls import emulator
from l1kd.firmware.hls.project import NETWORK, Project, open_project
from l1kd.firmware.hls.testbench import read_vectors
from l1kd.firmware.run_firmware import certificate_of, open_student, projects_of_student
from l1kd.firmware.verilog.project import Logic, open_logic
from l1kd.runs.run import opened, writable

MANIFEST, SUMS, THRESHOLDS, REPORT = "manifest.json", "SHA256SUMS", "thresholds.json", "report.html"
NOT_VERIFIED = "not verified"
# Magic, deflate, a comment, no time, no flags, an unknown system; then the comment.
_HEAD = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + b"l1kd archive 1, SHA-256 of the rest: "
_MOST = 1 << 29  # bytes of all files
_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)+", re.ASCII)  # below one directory, never `..`
_AGAIN = "get it from its sender again"
Files = dict[str, bytes]  # by path in the archive, without its first directory
Finding = tuple[str, str, bool]  # what was checked, the result in words, whether it is right


def export(run: Path, archive: Path | None = None, student: str | None = None) -> Path:
    """Write a student, the best one by default, as an archive, by default into the run; its path.

    CheckFailed if `verify` found a fault in its firmware, or the firmware was changed since.
    """
    with opened(run, lock=archive is None or writable(run)) as runner:
        top, files = _gathered(runner.context, student)
        archive = archive or run / f"{top}.tar.gz"
        if not archive.name.endswith((".tar.gz", ".tgz")):
            raise UserError(f"{archive}: an archive is written as .tar.gz; end the name so")
        if archive.is_symlink() or (archive.exists() and not _is_ours(archive)):
            raise UserError(f"{archive} exists and is no archive of l1kd; name another place")
        with reading(run, "rename what is named so, or remove it"):
            rest = gzip.compress(_tar(top, files), mtime=0)[10:]
        with atomic(archive) as temporary:
            temporary.write_bytes(_head(rest) + rest)
        digest = sha256(_head(rest) + rest).hexdigest()
        runner.context.say(f"{archive}: {len(files)} files, SHA-256 {digest}")
    return archive


def check(path: Path) -> Iterator[Finding]:
    """Judge an archive, or a run's best student, anew; no program of it is run.

    UserError if it is neither; CheckFailed as `read` and `export`.
    """
    if path.is_dir():
        with opened(path, lock=False) as runner:
            files = _gathered(runner.context, None)[1]
    else:
        files = read(path)
    with tempfile.TemporaryDirectory(prefix="l1kd-check-") as private:
        yield from _findings(path, files, Path(private))


def read(path: Path) -> Files:
    """The files of an archive; CheckFailed if a bit of it differs, UserError if it is none."""
    if not _is_ours(path):
        raise UserError(f"{path} is no archive of `l1kd export`, or its beginning is damaged")
    data, size = read_bytes(path), len(_head(b""))
    if data[:size] != _head(data[size:]):
        raise CheckFailed(f"{path} is damaged: its SHA-256 is not the one in it; {_AGAIN}")
    with reading(path, _AGAIN):
        unpacker = zlib.decompressobj(31)
        tar = unpacker.decompress(data, _MOST)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError(f"not whole, more after its end, or over {_MOST} bytes")
        found, place = {}, 0
        while any(head := tar[place : place + 512]):
            member = tarfile.TarInfo.frombuf(head, "ascii", "strict")
            if _member(member.name, member.size).tobuf(tarfile.USTAR_FORMAT) != head:
                raise ValueError(f"{member.name!r} is no plain file as l1kd writes it")
            found[member.name] = tar[place + 512 : place + 512 + member.size]
            place += 512 - (-member.size // 512) * 512
        top = min(found).partition("/")[0]
        files = {name.removeprefix(f"{top}/"): content for name, content in found.items()}
        if _tar(top, files) != tar:
            raise ValueError("its files are not whole, not sorted, or not in one directory")
    return files


def _is_ours(path: Path) -> bool:
    with regular(path) as handle:
        return handle.read(len(_HEAD)) == _HEAD


def _head(rest: bytes) -> bytes:
    """The one gzip header of what follows it."""
    return _HEAD + sha256(rest).hexdigest().encode() + b"\0"


def _member(name: str, size: int) -> tarfile.TarInfo:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a file in an archive")
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _tar(top: str, files: Files) -> bytes:
    """Plain files in the order of their names: no owner, no time, mode 644."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = _member(f"{top}/{name}", len(content))
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _gathered(context: Context, name: str | None) -> tuple[str, Files]:
    """Name of the archive's directory, and its files: a student as it is in the run now."""
    run = context.directory
    metrics: run_files.Metrics = run_files.read(run, "metrics.json")
    name, projects = projects_of_student(run, name or metrics.best)
    student = open_student(context, name, projects)
    hls = {f"hls/{each.directory.name}": each for each in student.projects}
    parts: dict[str, Any] = {**hls, **({"verilog": student.logic} if student.logic else {})}
    verify = run_files.read(run, MANIFEST).stages.get("verify")
    if verify is not None and verify.state == "failed":
        raise CheckFailed(f"{run} failed `verify`, and is not exported: {verify.message}")
    files: Files = {NETWORK: _json(student.exact.to_json())}
    certificates = dict.fromkeys(parts, NOT_VERIFIED)
    for place, part in parts.items():
        if (record := certificate_of(run, part)) is not None:
            certificates[place] = Certificate(tuple(record.layers), tuple(record.findings)).summary
        _put(files, place, part.directory)
    manifest = {
        "l1kd": __version__,
        "run": context.config.name,
        "student": name,
        "state": NOT_VERIFIED if NOT_VERIFIED in certificates.values() else "verified",
        "certificates": certificates,
    }
    if (run / REPORT).is_file():
        files[REPORT] = read_bytes(run / REPORT)
    for directory in sorted((run / "emulator").glob("[!.]*/")):
        built = emulator.read_manifest(directory, f"run `l1kd emulator {run}` again, or remove it")
        if built.namespace in [each.description.namespace for each in student.projects]:
            _put(files, f"emulator/{directory.name}", directory)
    points = [each.model_dump() for each in metrics.students[name].working_points]
    files |= _texts(student.exact, manifest, points, hls, student.logic)
    files[SUMS] = _sums(files)
    return student.projects[0].record.top, files


def _put(files: Files, place: str, directory: Path) -> None:
    try:
        found = contents(directory)
    except Unreadable as error:
        raise CheckFailed(f"{directory}: {error}") from error
    files |= {f"{place}/{name}": content for name, content in found.items()}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _sums(files: Files) -> bytes:
    """Text of `SHA256SUMS`."""
    rows = (f"{sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(rows).encode()


def _texts(
    network: Network, manifest: Any, points: Any, hls: Mapping[str, Project], logic: Logic | None
) -> Files:
    """Manifest, thresholds, README and Makefile."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("l1kd.firmware"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    kind, ports = network.output_types[0], next(iter(hls.values())).description
    thresholds = {"output_type": kind.text, "lsb": kind.lsb, "working_points": points}
    files = {MANIFEST: _json(manifest), THRESHOLDS: _json(thresholds)}
    for name, template in (("README.md", "archive.md.j2"), ("Makefile", "archive.mk.j2")):
        text = environment.get_template(template).render(
            manifest=manifest, thresholds=thresholds, ports=ports, hls=hls, logic=logic
        )
        files[name] = text.encode()
    return files


def _findings(path: Path, files: Files, private: Path) -> Iterator[Finding]:
    """Findings about an archive's files, which are written into a private directory."""
    own = {name: content for name, content in files.items() if name != SUMS}
    if (listed := files.get(SUMS, b"")) != (wanted := _sums(own)):
        lines = set(listed.splitlines()) ^ set(wanted.splitlines())
        odd = sorted({line[66:].decode("ascii", "replace") for line in lines}) or [SUMS]
        yield SUMS, f"{len(odd)} changed, missing or not listed: {odd[0]}", False
        return
    yield SUMS, f"{len(own)} files, all as listed", True
    for name, content in files.items():
        (private / name).parent.mkdir(parents=True, exist_ok=True)
        (private / name).write_bytes(content)
    with reading(path, _AGAIN):
        network, manifest = load_network(private / NETWORK), json.loads(own[MANIFEST])
        points, claims = json.loads(own[THRESHOLDS])["working_points"], manifest["certificates"]
        hls = {f"hls/{each.name}": open_project(each) for each in sorted(private.glob("hls/*"))}
        logic = open_logic(private / "verilog") if (private / "verilog").exists() else None
        parts: dict[str, Any] = {**hls, **({"verilog": logic} if logic else {})}
        texts = _texts(network, manifest, points, hls, logic)
    emulators = {f"emulator/{each.name}": each for each in sorted(private.glob("emulator/*"))}
    known: Files = {}  # without products of tools, which nobody looks into and make would take
    for place in (*parts, *emulators):
        _put(known, place, private / place)
    odd = [name for name, content in texts.items() if own.get(name) != content]
    odd += own.keys() - texts.keys() - known.keys() - {NETWORK, REPORT}
    odd += claims.keys() ^ parts.keys()
    if odd:
        yield min(odd), "is not what l1kd exports beside these projects", False
        return
    yield ", ".join(texts), "as l1kd writes them of these projects", True
    fine = True
    for name, project in parts.items():
        yield (finding := _certified(name, project, network, claims[name]))
        fine &= finding[-1]
    for name, directory in emulators.items() if fine else ():  # nothing refused is compiled
        yield _emulator(name, directory, hls.values())


def _certified(name: str, project: Project | Logic, network: Network, claim: Any) -> Finding:
    """Certify a project anew, and evaluate its vectors with the exact network."""
    certificate = certify(project, network)
    told = certificate.summary
    if certificate.refused or claim not in (NOT_VERIFIED, told):
        return name, f"{told}; exported as: {claim}", False
    if isinstance(project, Logic):
        return name, told, True
    inputs, outputs = read_vectors(project.directory)
    wrong = np.any(network.counts(inputs * project.input_type.lsb) != outputs, axis=1).sum()
    return name, f"{told}; {wrong} of {len(inputs)} vectors differ", not wrong


def _emulator(name: str, directory: Path, projects: Iterable[Project]) -> Finding:
    """Build an emulator anew, of the project that it is of, and compare all files."""
    with reading(directory, _AGAIN):
        theirs, found = emulator.read_manifest(directory, _AGAIN), contents(directory)
    for project in projects:
        if project.description.namespace == theirs.namespace:
            ours = emulator.build(project, directory.parents[1] / ".built")
            wanted, what = contents(ours.directory), "source and library are those"
            if ours.manifest.compiler != theirs.compiler:
                what = "source is that (not compared: the library, of another compiler)"
                for each in (found, wanted):
                    del each[MANIFEST]
                    each.pop(ours.manifest.library.file, None)
            if found == wanted:
                return name, f"its {what} of its project", True
    return name, "is not the emulator of a project here", False
