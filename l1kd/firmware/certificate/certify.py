"""A project's certificate: proved from its files, then held against what was compiled."""

from __future__ import annotations

from dataclasses import replace

from l1kd.core.files import read_json
from l1kd.exact.json_format import to_json
from l1kd.exact.network import Network
from l1kd.firmware.certificate.compiled_calls import calls_of, compare_calls
from l1kd.firmware.certificate.findings import Certificate, Finding
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.hls.project import NETWORK, Project


def certify_project(project: Project, network: Network) -> Certificate:
    """Prove that a project computes a network, for every event on its port.

    Its calls are compiled and run too, if nothing is known to be wrong already.
    """
    record = project.record
    first = network.nodes[0].name
    try:
        stored = read_json(project.directory / NETWORK)
    except (OSError, ValueError) as error:
        stored = f"{error}"
    if stored != to_json(network):
        reason = f"{NETWORK} is not the student's network"
        return Certificate((), (Finding(first, "code", "refused", reason),))
    walk = follow(
        project.directory,
        network,
        record.top,
        record.backend,
        project.description.versions.get("hls4ml", "?"),
    )
    if isinstance(walk, Certificate):
        return walk
    proved = walk.certificate
    if proved.refused:
        return proved
    differing = compare_calls(walk, replace(project, calls=calls_of).compile())
    doubted = {each.layer for each in differing}
    return replace(
        proved,
        layers=tuple(name for name in proved.layers if name not in doubted),
        findings=(*proved.findings, *differing),
    )
