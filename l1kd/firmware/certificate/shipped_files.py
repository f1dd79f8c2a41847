"""Everything that a project ships is accounted for, byte by byte; what nobody knows is refused.

hls4ml's functions, the vendor's types and the scripts are pinned by their hashes: the argument of
`call_rules` is about exactly these headers. What follows from the description alone is
rendered again and compared, test vectors are computed again. The rest `cpp_reader` reads.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from l1kd.core.errors import UserError
from l1kd.core.files import content_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import Program, Unreadable
from l1kd.firmware.hls import testbench
from l1kd.firmware.hls.canonical_cpp import GENERATED
from l1kd.firmware.hls.project import FILE, NETWORK, Description

_LIBRARY = "library.json"
# What the bench, hls4ml's bridge, Yosys and the vendors' tools leave; nothing includes it.
_PRODUCTS = (
    r"build|yosys\.json|output_l1kd_\w+|"
    r"\w+_test|\w+_prj|\w+_vivado_accelerator|\.Xil|logs|[\w.]+\.(?:rpt|log|jou|str)|"
    r"tb_data/\w+_results\.log|firmware/\w+-l1kd\.so"
)
# A person chooses the steps of the scripts here.
_OPTIONS = "build_opt.tcl", rb"array set opt {\s*(?:\w+\s+[01]\s+)*}\s*"


def known(backend: str, hls4ml: str) -> dict[str, str] | None:
    """SHA-256 of a version's headers and scripts by path, None if no argument was made for it."""
    stored: Any = json.loads((resources.files("l1kd.firmware.certificate") / _LIBRARY).read_bytes())
    if stored["hls4ml"] != hls4ml or backend not in stored["backends"]:
        return None
    return {**stored["common"], **stored["backends"][backend]}


def measure(directory: Path) -> dict[str, str]:
    """SHA-256 of the shared files of a project: how `library.json` was made."""
    shared = ("firmware/nnet_utils/", "firmware/ap_types/", "build_prj.tcl", "vivado_synth.tcl")
    return {
        name: sha256(content).hexdigest()
        for name, content in contents(directory).items()
        if name.startswith(shared) and name != f"firmware/{GENERATED}"
    }


def contents(directory: Path, inside: str = "") -> dict[str, bytes]:
    """The files of a project by path, products of its tools left out; links are `Unreadable`."""
    found: dict[str, bytes] = {}
    for entry in sorted(os.scandir(directory / inside), key=lambda entry: entry.name):
        path = f"{inside}{entry.name}"
        if re.fullmatch(_PRODUCTS, path) and not entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            found |= contents(directory, f"{path}/")
        elif entry.is_file(follow_symlinks=False):
            found[path] = Path(entry).read_bytes()
        else:
            raise Unreadable(f"{path} is no plain file, and a project holds nothing else")
    return found


def fingerprint(files: Mapping[str, bytes]) -> str:
    """The hash of everything that a certificate is about."""
    return content_hash({name: sha256(content).hexdigest() for name, content in files.items()})


def faults(
    files: Mapping[str, bytes],
    program: Program,
    description: Description,
    network: Network,
    library: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Files that are not as they have to be, and why."""
    version = description.versions.get("hls4ml")
    types = program.arrays[program.ports[0]].declared, program.arrays[program.ports[1]].declared
    texts = testbench.rendered(description, types)
    steady = 1 if description.record.reuse == 1 and program.style == "PIPELINE" else None
    told = description.model_copy(update={"interval_cycles": steady})
    dump = json.dumps(told.model_dump(mode="json"), indent=1) + "\n"
    texts |= {FILE: dump, **_vectors(files, description, network)}
    own = {f"firmware/{name}" for name in program.read} | {NETWORK}
    for name, content in files.items():
        if name in library:
            if sha256(content).hexdigest() != library[name]:
                yield name, f"is not the file that hls4ml {version} ships"
        elif name == _OPTIONS[0]:
            if not re.fullmatch(_OPTIONS[1], content):
                yield name, "chooses more than the steps of the scripts"
        elif name in texts:
            if line := first_difference(content, texts[name].encode()):
                yield f"{name}:{line}", "is not what l1kd writes"
        elif name not in own:
            yield name, "is not a file of the project: it could be read for another"
    for name in (*library, *texts):
        if name not in files:
            yield name, "is missing"


def first_difference(found: bytes, wanted: bytes) -> int:
    """The first line that differs, 0 if none does."""
    lines = itertools.zip_longest(found.split(b"\n"), wanted.split(b"\n"))
    return next((number for number, (ours, theirs) in enumerate(lines, 1) if ours != theirs), 0)


def _vectors(
    files: Mapping[str, bytes], description: Description, network: Network
) -> dict[str, str]:
    """The files of vectors as they have to be for the inputs that are there."""
    inputs, outputs = str(testbench.INPUTS), str(testbench.OUTPUTS)
    try:
        counts = testbench.parse(files.get(inputs, b"").decode("ascii", "replace"), Path(inputs))
        found = network.predict(counts * network.port.lsb)
    except (UserError, ValueError):
        return {inputs: "", outputs: ""}  # no text of vectors: a fault
    answers = FixedPoint.parse(description.output.type).integers(found)
    return {inputs: testbench.vectors_text(counts), outputs: testbench.vectors_text(answers)}
