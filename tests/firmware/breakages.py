"""Written projects broken on purpose, in ways that usual events do not notice.

A breakage edits one file of a copy. Those of `quiet` are meant to be invisible to tests: bits that
only extreme sums need, roundings that part at ties alone, weights and windows of inputs that are
always zero in usual events, code for values that never come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.exact.network import Network
from l1kd.firmware.hls.project import Project

__all__ = ["Breakage", "quiet", "usual"]


@dataclass(frozen=True)
class Breakage:
    """An edit of a project.

    Parameters
    ----------
    kind
        What is broken.
    layer
        Whose.
    file
        The file, relative to `firmware/`.
    edit
        Its text to another.
    """

    kind: str
    layer: str
    file: str
    edit: Callable[[str], str]

    def apply(self, project: Path) -> bool:
        """Edit a copy of a project; False if there was nothing to edit."""
        path = project / "firmware" / self.file
        text = path.read_text()
        changed = self.edit(text)
        path.write_text(changed)
        return changed != text


def usual(network: Network, count: int, seed: int = 11) -> Any:
    """Events as a detector has them: small, sparse, and nothing in the last inputs of each row."""
    random = np.random.default_rng(seed)
    low, high = network.port.bounds
    size = (count, *network.shape)
    counts = np.rint(random.exponential(high / 60, size)) * (random.random(size) < 0.3)
    counts = np.clip(counts, low, high // 4)
    counts[(..., *dead(network.shape))] = 0
    return counts * network.port.lsb


def dead(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The inputs that usual events leave at zero: the last column, or the last input."""
    return (slice(None), -1, slice(None)) if len(shape) == 3 else (-1,)


def quiet(project: Project, network: Network) -> Iterator[Breakage]:
    """Breakages of a project, many of them invisible to usual events."""
    firmware = project.directory / "firmware"
    defines = (firmware / "defines.h").read_text()
    names = [layer.name for layer in project.record.layers]
    source = (firmware / f"{project.record.top}.cpp").read_text()
    yield from _types(defines, names, _owners(source, project.description.arrays))
    yield from _weights(firmware, network, project)
    yield from _windows((firmware / "nnet_utils" / "nnet_code_gen.h").read_text(), names)
    yield from _code(project)


def _owners(source: str, arrays: Mapping[str, str]) -> dict[str, str]:
    """Types of `defines.h` to the layer whose result they are."""
    calls = re.findall(r"<(?!config)\w+, (\w+)(?:, \w+)?>\(\w+, (\w+)", source)
    swapped = re.findall(r"<config\w+, \w+, (\w+)>\(\w+, (\w+)", source)
    return {result: arrays[array] for result, array in [*calls, *swapped]}


def _types(defines: str, names: list[str], owners: dict[str, str]) -> Iterator[Breakage]:
    pattern = re.compile(r"ap_(u?)fixed<(\d+),(-?\d+)((?:,AP_\w+)*)(?:,0)?>(, [\d*]+>)? (\w+);")

    def exchange(old: str, new: str) -> Callable[[str], str]:
        return lambda text: text.replace(old, new)

    for found in pattern.finditer(defines):
        unsigned, word, integer, modes, pack, name = found.groups()
        if "table" in name or "slope" in name or "shift" in name:
            continue
        width, whole = int(word), int(integer)
        prefix = next((each for each in names if name.startswith(f"{each}_")), names[0])
        layer, tail = owners.get(name, prefix), f"{pack or ''} {name};"
        shorter = f"ap_{unsigned}fixed<{width - 1},{whole - 1}{modes}>{tail}"
        yield Breakage("one bit short", layer, "defines.h", exchange(found[0], shorter))
        if not modes:
            blunt = f"ap_{unsigned}fixed<{width - 1},{whole}>{tail}"
            yield Breakage("one fraction bit short", layer, "defines.h", exchange(found[0], blunt))
            continue
        for mode in ("AP_RND", "AP_RND_ZERO", "AP_RND_INF", "AP_RND_MIN_INF"):
            other = f"ap_{unsigned}fixed<{word},{integer},{mode},AP_SAT>{tail}"
            yield Breakage("rounding", layer, "defines.h", exchange(found[0], other))
        for mode in ("AP_WRAP", "AP_SAT_ZERO"):
            other = f"ap_{unsigned}fixed<{word},{integer},AP_RND_CONV,{mode}>{tail}"
            yield Breakage("overflow", layer, "defines.h", exchange(found[0], other))


def _weights(firmware: Path, network: Network, project: Project) -> Iterator[Breakage]:
    """Weights of inputs that are always zero, by one step and by their sign."""
    first = next(layer for layer in project.record.layers if layer.multiplications)
    files = sorted((firmware / "weights").glob("w*.h"), key=lambda path: int(path.stem[1:]))
    if not files:
        return
    step = 2.0 ** -(next(n for n in network.nodes if hasattr(n, "kernel")).kernel_fraction)
    values = _values(files[0].read_text())
    units = len(values) // network.nodes[0].size if len(network.shape) == 1 else 0
    for offset in range(min(units, 4)):
        place = len(values) - 1 - offset
        for change in (step, -step, -2 * values[place] or step):
            yield Breakage(
                "a weight beyond usual events",
                first.name,
                f"weights/{files[0].name}",
                lambda text, place=place, change=change: _replaced(text, place, change),  # type: ignore[misc]
            )


def _values(text: str) -> list[float]:
    start, end = text.index("= {") + 3, text.index("};")
    return [float(value) for value in text[start:end].split(",")]


def _replaced(text: str, place: int, change: float) -> str:
    start, end = text.index("= {") + 3, text.index("};")
    values = _values(text)
    values[place] += change
    return text[:start] + ", ".join(f"{value:.12f}" for value in values) + text[end:]


def _windows(generated: str, names: list[str]) -> Iterator[Breakage]:
    """Windows that see another input than the network does: one that is always zero."""
    blocks = re.split(r"(?=class fill_buffer_)", generated)[1:]
    for block in blocks[:1]:
        cells = re.findall(r"buffer\[\d+\]\[\d+\] = +data\[\d+\];", block)
        for cell in cells[-6:]:
            zero = re.sub(r"data\[\d+\]", "0", cell)
            layer = next((name for name in names if name.startswith("conv")), names[0])
            yield Breakage(
                "a window",
                layer,
                "nnet_utils/nnet_code_gen.h",
                lambda text, cell=cell, zero=zero: text.replace(cell, zero, 1),  # type: ignore[misc]
            )


def _code(project: Project) -> Iterator[Breakage]:
    """Code that is right until a value comes that never does."""
    dense = next(layer.name for layer in project.record.layers if layer.kind == "Dense")
    relu = next((each.name for each in project.record.layers if each.kind == "Activation"), dense)
    edits = (
        (relu, "nnet_activation.h", "if (datareg > 0)", "if (datareg > 0 && datareg != 57)"),
        (
            relu,
            "nnet_activation.h",
            "            res[ii] = 0;",
            "            res[ii] = datareg < -900 ? 1 : 0;",
        ),
        (
            dense,
            "nnet_dense_latency.h",
            "res[ires] = cast<data_T, res_T, CONFIG_T>(acc[ires]);",
            "res[ires] = acc[ires] == 60 ? res_T(0) : res_T(acc[ires]);",
        ),
        (
            dense,
            "nnet_dense_resource.h",
            "res[ires] = cast<data_T, res_T, CONFIG_T>(acc[ires]);",
            "res[ires] = acc[ires] == 60 ? res_T(0) : res_T(acc[ires]);",
        ),
    )
    for layer, header, old, new in edits:
        yield Breakage(
            "code for a value that never comes",
            layer,
            f"nnet_utils/{header}",
            lambda text, old=old, new=new: text.replace(old, new, 1),  # type: ignore[misc]
        )
    top = project.record.top
    source = (project.directory / "firmware" / f"{top}.cpp").read_text()
    for read, written in re.findall(r"nnet::relu<\w+, \w+, \w+>\((\w+), (\w+)\);", source)[:2]:
        layer = project.description.arrays[written]
        if "hls::stream<" not in source:
            extra = f"    if ({read}[0] > 900) {written}[0] = 0;\n"
            place = f"({read}, {written});\n"
            yield Breakage(
                "a line that should not be there",
                layer,
                f"{top}.cpp",
                lambda text, place=place, extra=extra: text.replace(place, place + extra, 1),  # type: ignore[misc]
            )
