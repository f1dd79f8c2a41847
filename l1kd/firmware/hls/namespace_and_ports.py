"""Changes to the files that hls4ml has written, before a project is whole.

- Everything generated goes into the project's version namespace, so that two versions link into
  one process. Vendor tools look for the top function outside of namespaces: where they compile,
  `L1KD_GLOBAL` is defined, which leaves the namespace out.
- `firmware/ports.h` asserts the ports' types: a project whose types were edited does not compile.
- Random values and this machine's paths are removed.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from l1kd.core.fixed_point import FixedPoint

GLOBAL = "L1KD_GLOBAL"
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


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace every match of a pattern, at least one, in a file that hls4ml wrote."""
    text, found = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    if not found:
        raise RuntimeError(f"hls4ml wrote a {path.name} of another form")
    path.write_text(text)


def tidy(directory: Path) -> None:
    """Remove random values and this machine's paths from a written project, add the licences."""
    edit(directory / "hls4ml_config.yml", r"^OutputDir: .*(\n .*)*$", "OutputDir: .")
    edit(directory / "hls4ml_config.yml", r"^Stamp: .*$", "Stamp: l1kd")
    edit(directory / "build_lib.sh", r"^LIB_STAMP=.*$", "LIB_STAMP=l1kd")
    for name in ("NOTICE", "LICENSE-Apache-2.0.txt"):
        (directory / name).write_text(template(name))


def enclose(directory: Path, top: str, namespace: str) -> None:
    """Put all generated code into the namespace: top function, types, configurations, weights.

    Include guards carry the namespace too: one file may include the headers of two versions.
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


def assert_ports(
    directory: Path,
    top: str,
    namespace: str,
    ports: tuple[tuple[str, FixedPoint], tuple[str, FixedPoint]],
) -> None:
    """Write `firmware/ports.h` and include it before the top function; ports as below."""
    (directory / "firmware" / "ports.h").write_text(ports_header(namespace, *ports))
    source = directory / "firmware" / f"{top}.cpp"
    edit(source, r'^#include "parameters\.h"$', r'\g<0>\n#include "ports.h"')


def ports_header(
    namespace: str, source: tuple[str, FixedPoint], sink: tuple[str, FixedPoint]
) -> str:
    """The text of `firmware/ports.h`; of each port the type's name in `defines.h`, and the type."""
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
