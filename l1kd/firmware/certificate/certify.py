"""Certifies a firmware project: proved from its files, then compared with what was compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from l1kd.core import run_files
from l1kd.core.errors import CheckFailed
from l1kd.core.files import read_json
from l1kd.core.run_files import CertificateRecord, Doubted
from l1kd.exact.network import Network
from l1kd.firmware.certificate.compiled_calls import calls_of, compare_calls, misread
from l1kd.firmware.certificate.cpp_text import Unreadable
from l1kd.firmware.certificate.findings import Certificate, Finding, State
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents, fingerprint
from l1kd.firmware.hls.project import NETWORK, Project
from l1kd.firmware.hls.testbench import read_vectors
from l1kd.firmware.verilog.project import Logic


def certify(project: Project | Logic, network: Network) -> Certificate:
    """Prove that a project computes a network, for every event on its port.

    An HLS project's C++ is read back and followed call by call; if nothing is known to be wrong
    then, its calls are compiled and run alone too. For Verilog no argument is known yet: it is
    tested, not proved, and every layer is left open.

    Parameters
    ----------
    project
        A project of `l1kd.to_hls` or of `l1kd.to_verilog`.
    network
        The exact network that it has to compute, on the project's port.

    Returns
    -------
    Certificate
        `certified` is True if every output is proved for every event; otherwise `findings` lists
        what is refused or open, by layer, in the order of the data's flow. `summary` is one line.

    Raises
    ------
    UserError
        If the project does not compile, or there is no g++.
    """
    first = network.nodes[0].name
    try:
        stored = read_json(project.directory / NETWORK)
    except (OSError, ValueError) as error:
        stored = f"{error}"
    if stored != network.to_json():
        reason = f"{NETWORK} is not the student's network"
        return Certificate((), (Finding(first, "code", "refused", reason),))
    if isinstance(project, Logic):
        layers = dict.fromkeys(node.name.partition(":")[0] for node in network.nodes)
        reason = "no argument is known yet for Verilog"
        return Certificate((), tuple(Finding(name, "code", "open", reason) for name in layers))
    try:
        files = contents(project.directory)
    except Unreadable as error:
        return Certificate((), (Finding(first, "code", "refused", str(error)),))
    walk = follow(files, network, project.description)
    if walk.certificate.refused or not walk.program.calls:
        return walk.certificate
    for place in misread(files, walk.program):
        walk.note(first, "compiled", f"{place}: the compiler reads another text")
    program, (vectors, _) = (
        replace(project, calls=calls_of).compile(),
        read_vectors(project.directory),
    )
    walk.findings += compare_calls(walk, program, vectors)
    return walk.certificate


def as_it_stands(record: CertificateRecord, project: Path) -> CertificateRecord:
    """A certificate that was recorded; void if the project's files are not those it is about."""
    if not record.content:  # of an older l1kd
        return record
    try:
        now = fingerprint(contents(project))
    except (OSError, Unreadable):
        now = "not to be read"
    if record.content == now:
        return record
    reason = "the project is not the one that was judged; run `l1kd verify` again"
    state: State = "refused" if project.is_dir() else "open"
    first = [*record.layers, *(found.layer for found in record.findings), "input"][0]
    void = Doubted(layer=first, step="code", state=state, reason=reason)
    return record.model_copy(update={"certified": False, "layers": [], "findings": [void]})


def certificates_stand(run: Path, project: Project) -> None:
    """Raise CheckFailed if a run's certificate of a project is about other files than it has."""
    if not (run / "agreement.json").exists():
        return
    wanted = project.record
    for record in run_files.read(run, "agreement.json"):
        for each in record.certificates if record.student == wanted.student else []:
            same = (each.backend, each.io_type, each.strategy)
            if same == (wanted.backend, wanted.io_type, wanted.strategy):
                found = as_it_stands(each, project.directory).findings
                if found != each.findings:
                    raise CheckFailed(f"{project.directory}: {found[0].reason}")
