"""Certifies a firmware project: proved from its files, then compared with what was compiled."""

from __future__ import annotations

from dataclasses import replace

from l1kd.core.files import read_json
from l1kd.exact.network import Network
from l1kd.firmware.certificate.compiled_calls import calls_of, compare_calls, misread
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.findings import Certificate, Finding
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
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
