"""Where an implementation and the exact network part: layer by layer, to the first that differs."""

from __future__ import annotations

from collections.abc import Mapping
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

_SUMS = ":sums"


@dataclass(frozen=True)
class Shown:
    """An implementation's output of one layer."""

    values: NDArray[np.float64]  # (N, *shape)
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
    """The first layer, in the order of the data's flow, that differs; None if all agree.

    `shown` holds outputs by the network's layer for `events` (N, *shape); keep N small, inner
    layers are large.
    """
    names = tuple(node.name for node in network.nodes if node.name in shown)
    if not len(np.asarray(events)):
        return None
    expected = network.values(events, names)
    for name in names:
        given, wanted = shown[name], expected[name]
        fractions = [network.bounds[name].fraction]
        if given.type:
            fractions.append(FixedPoint.parse(given.type).fraction)
        lsb = 2.0 ** -max(fractions)
        size = len(wanted)
        agreement = compare(wanted.reshape(size, -1), given.values.reshape(size, -1), lsb)
        if agreement.mismatches:
            node = network[name]
            # A sum has a type that holds it, but no rounding and no overflow.
            sums = replace(network.bounds[name].type, rounding="TRN", overflow="WRAP")
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
