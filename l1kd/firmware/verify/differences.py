"""Where an implementation and the exact network differ: the first layer, and the smallest event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.agreement import Agreement, compare
from l1kd.exact.layers import Quantize
from l1kd.exact.network import Network
from l1kd.firmware.hls.project import Project

if TYPE_CHECKING:
    from tensorflow import keras

Counts = NDArray[np.int64]  # of the port's LSB
Differs = Callable[[Counts], NDArray[Any]]
_SUMS = ":sums"
_ROUNDS = 64  # of steps towards zero


@dataclass(frozen=True)
class Shown:
    """An implementation's output of one layer."""

    values: NDArray[Any]  # (N, *shape), float64
    type: str = ""  # as `ap_fixed` text; empty for an implementation in floats


@dataclass(frozen=True)
class Difference:
    """A layer whose output is not the exact network's."""

    layer: str  # its name in the network
    type: str  # of its output in the firmware; empty for an implementation in floats
    needed: str  # the exact network's type, or the one that holds every value of the layer
    agreement: Agreement  # in LSBs of the finer type

    @property
    def summary(self) -> str:
        """One line for the user."""
        found = self.agreement
        first = found.first[0]
        types = f"{self.type}, exact {self.needed}" if self.type else f"exact {self.needed}"
        return (
            f"layer {self.layer!r} ({types}) differs in {found.mismatches} of {found.events} "
            f"events by up to {found.max_lsb} LSB; the first: event {first.event}, output "
            f"{first.output}: {first.reference:g} exactly, {first.candidate:g} found"
        )


def first_difference(
    network: Network, shown: Mapping[str, Shown], events: NDArray[Any]
) -> Difference | None:
    """The first layer of `shown` (outputs by layer for few `events`) that differs, or None."""
    names = tuple(node.name for node in network.nodes if node.name in shown)
    if not len(events):
        return None
    expected = network.values(events, names)
    for name in names:
        given, wanted, bounds = shown[name], expected[name], network.bounds[name]
        fraction = bounds.fraction
        if given.type:
            fraction = max(fraction, FixedPoint.parse(given.type).fraction)
        flat = (len(wanted), -1)
        agreement = compare(wanted.reshape(flat), given.values.reshape(flat), 2.0**-fraction)
        if agreement.mismatches:
            node = network[name]
            # A sum has a type that holds it, but no rounding and no overflow.
            sums = replace(bounds.type, rounding="TRN", overflow="WRAP")
            needed = node.type if isinstance(node, Quantize) else sums
            return Difference(name.removesuffix(_SUMS), given.type, needed.text, agreement)
    return None


def in_csim(project: Project, network: Network, events: NDArray[Any]) -> dict[str, Shown]:
    """Outputs of every layer that the C simulation shows and the network has."""
    found = project.trace(events)
    names = {node.name for node in network.nodes}
    shown = {}
    for layer in project.description.layers:
        # A layer with an activation of its own is two in both, and only one of them is Keras'.
        for name in (layer.keras, layer.name + _SUMS):
            if name in names and name not in shown:
                shown[name] = Shown(found[layer.name], layer.type)
                break
    return shown


def in_qkeras(model: keras.Model, network: Network, events: NDArray[Any]) -> dict[str, Shown]:
    """Outputs of every layer of the network in QKeras."""
    from l1kd.networks.inspect import layer_outputs

    own = {layer.name for layer in model.layers}
    names = [node.name for node in network.nodes[1:] if node.name in own]
    return {name: Shown(values) for name, values in layer_outputs(model, names, events).items()}


def shrink(event: Counts, differs: Differs) -> Counts:
    """Make an event (inputs,) as empty and as small as it can be and still differ.

    Every step asks `differs`, events (N, inputs) to (N,), about all its candidates at once.
    """
    size = len(event)
    # Blocks of inputs are set to zero, from halves down to single ones; then values shrink.
    while size >= 1:
        event = _emptied(event, size, differs)
        size = 0 if size == 1 else (size + 1) // 2
    for _ in range(_ROUNDS):
        if (smaller := _smaller(event, differs)) is None:
            break
        event = smaller
    return event


def _emptied(event: Counts, size: int, differs: Differs) -> Counts:
    """With every block of `size` inputs set to zero that is not needed."""
    starts = [start for start in range(0, len(event), size) if event[start : start + size].any()]
    while starts:
        candidates = np.repeat(event[None], len(starts), axis=0)
        for row, start in zip(candidates, starts, strict=True):
            row[start : start + size] = 0
        kept = np.flatnonzero(differs(candidates))
        if not len(kept):
            return event
        chosen = int(kept[0])
        event = candidates[chosen]
        # Blocks before it are needed: to leave one out did not differ, and seldom will now.
        starts = starts[chosen + 1 :]
    return event


def _smaller(event: Counts, differs: Differs) -> Counts | None:
    """With some value nearer to zero; None if no single step keeps the difference."""
    candidates, places = [], []
    for place in np.flatnonzero(event):
        size = abs(int(event[place]))
        # By half of it, a quarter, ... and by one: the largest step that can be taken comes first.
        for step in dict.fromkeys([size >> shift for shift in range(1, size.bit_length())] + [1]):
            candidate = event.copy()
            candidate[place] -= step * np.sign(event[place])
            candidates.append(candidate)
            places.append(int(place))
    if not candidates:
        return None
    kept = np.flatnonzero(differs(np.array(candidates)))
    if not len(kept):
        return None
    # All that can shrink alone, together; if that is too much, the first of them.
    together = event.copy()
    for index in kept[::-1]:
        together[places[index]] = candidates[index][places[index]]
    return together if differs(together[None])[0] else candidates[int(kept[0])]
