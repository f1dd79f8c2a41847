"""What l1kd makes of the files that hls4ml has written, before a project is whole.

- Everything generated lies in the project's version namespace, the code that hls4ml puts into its
  own namespace too, so that two versions can be linked into one process. Vendor tools look for the
  top function outside of namespaces, and no document of theirs says how one inside would be named:
  their scripts define `L1KD_GLOBAL`, which leaves the namespace out.
- `firmware/ports.h` asserts the ports' types: a project whose types were edited does not compile.
- What is random or holds for one machine alone is taken out.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from l1kd.core.fixed_point import FixedPoint

GLOBAL = "L1KD_GLOBAL"  # defined where vendor tools compile
_GUARD = re.compile(r"^(#(?:ifndef|define) )(\w+_H_)$", re.MULTILINE)
_CLOSE = re.compile(r"^\}( // namespace \w+)?\n", re.MULTILINE)


def template(name: str, /, **values: object) -> str:
    """The text of a file in `templates`, each @KEY@ replaced by its value."""
    text = (resources.files("l1kd.firmware") / "templates" / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    if left := re.search(r"@[A-Z_]+@", text):
        raise RuntimeError(f"the template {name} needs a value for {left[0]}")
    return text


def tidy(directory: Path) -> None:
    """Take out of a written project what is random or holds for this machine alone."""
    _edit(directory / "hls4ml_config.yml", r"^OutputDir: .*(\n .*)*$", "OutputDir: .")
    _edit(directory / "hls4ml_config.yml", r"^Stamp: .*$", "Stamp: l1kd")
    _edit(directory / "build_lib.sh", r"^LIB_STAMP=.*$", "LIB_STAMP=l1kd")
    for name in ("NOTICE", "LICENSE-Apache-2.0.txt"):
        (directory / name).write_text(template(name))


def enclose(directory: Path, top: str, namespace: str) -> None:
    """Put everything generated into the namespace, which hls4ml has written where it knows to.

    The top function, types, configurations, weights and generated code: all but hls4ml's and the
    vendor's own headers. Include guards carry the namespace too, so that one file may include the
    headers of two versions.
    """
    firmware = directory / "firmware"
    generated = [
        *(firmware / name for name in (f"{top}.cpp", f"{top}.h", "defines.h", "parameters.h")),
        firmware / "nnet_utils" / "nnet_code_gen.h",
        *sorted((firmware / "weights").glob("*.h")),
    ]
    for path in generated:
        text = path.read_text()
        start, ends = text.find(f"namespace {namespace} {{\n"), list(_CLOSE.finditer(text))
        if start < 0 or not ends or ends[-1].start() < start:
            raise RuntimeError(f"hls4ml wrote a {path.name} of another form")
        end, inside = ends[-1], start + len(f"namespace {namespace} {{\n")
        # Names of the namespace are found from within it, and without it too. hls4ml's code for
        # distributed arithmetic takes its own names to be in `nnet`, and `nnet`'s to be its own.
        body = text[inside : end.start()].replace(f"{namespace}::", "")
        body = re.sub(r"\bnnet::(dense_da_\d|fill_buffer_\d)", r"\1", body)
        body = re.sub(r"(?<![\w:])bit_shift<", "nnet::bit_shift<", body)
        parts = (
            _GUARD.sub(rf"\1{namespace}_\2", text[:start]),
            f"#ifndef {GLOBAL}\nnamespace {namespace} {{\n#endif\n",
            body,
            f"#ifndef {GLOBAL}\n}} // namespace {namespace}\n#endif\n",
            text[end.end() :],
        )
        path.write_text("".join(parts))
    _edit(directory / "build_prj.tcl", r'-cflags "-std=c\+\+0x', rf"\g<0> -D{GLOBAL}")


def assert_ports(
    directory: Path,
    top: str,
    namespace: str,
    ports: tuple[tuple[str, FixedPoint], tuple[str, FixedPoint]],
) -> None:
    """Write `firmware/ports.h` and include it where the top function is."""
    (directory / "firmware" / "ports.h").write_text(ports_header(namespace, *ports))
    source = directory / "firmware" / f"{top}.cpp"
    _edit(source, r'^#include "parameters\.h"$', r'\g<0>\n#include "ports.h"')


def ports_header(
    namespace: str, source: tuple[str, FixedPoint], sink: tuple[str, FixedPoint]
) -> str:
    """The text of `firmware/ports.h`; ports as for `assert_ports`."""
    values: dict[str, object] = {"namespace": namespace, "global": GLOBAL}
    for name, (kind, port) in (("input", source), ("output", sink)):
        values |= {
            f"{name}_t": kind,
            f"{name}_word": port.word,
            f"{name}_integer": port.integer,
            f"{name}_signed": str(port.signed).lower(),
            f"{name}_text": port.text,
        }
    return template("ports.h", **values)


def _edit(path: Path, pattern: str, replacement: str) -> None:
    text, found = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    if not found:
        raise RuntimeError(f"hls4ml wrote a {path.name} of another form")
    path.write_text(text)
