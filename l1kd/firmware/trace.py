"""Where firmware and network part: layer by layer, to the first layer that differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.firmware.agreement import Agreement, compare
from l1kd.firmware.network import layer_outputs
from l1kd.firmware.project import Project
from l1kd.fixedpoint import FixedPoint

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = ["Difference", "compare_layers", "first_difference"]


@dataclass(frozen=True)
class Difference:
    """A layer whose output in the C simulation is not the network's.

    Parameters
    ----------
    layer
        Its name in the network.
    type
        Of its output in the firmware, as `ap_fixed` text.
    agreement
        How much differs, in LSBs of that type; offenders are counted in the events given.
    """

    layer: str
    type: str
    agreement: Agreement

    @property
    def summary(self) -> str:
        """One line for the user."""
        found = self.agreement
        first = found.first[0]
        return (
            f"layer {self.layer!r} ({self.type}) differs in {found.mismatches} of {found.events} "
            f"events by up to {found.max_lsb} LSB; the first: event {first.event}, output "
            f"{first.output}: {first.reference:g} in the network, {first.candidate:g} in the "
            "firmware"
        )


def compare_layers(
    project: Project, model: keras.Model, events: NDArray[Any]
) -> list[tuple[str, str, Agreement]]:
    """Compare every layer that both have, in the order of the data's flow.

    A difference before a quantizer may be the network's: QKeras sums in float32, which is exact up
    to 24 bits.

    Parameters
    ----------
    project
        The firmware.
    model
        The network that it was made from.
    events
        (N, *shape); keep N small, inner layers are large.

    Returns
    -------
    list
        Name in the network, type in the firmware, and agreement of each layer.
    """
    layers = [layer for layer in project.description.layers if layer.keras]
    expected = layer_outputs(model, [layer.keras for layer in layers], events)
    found = project.trace(events)
    return [
        (
            layer.keras,
            layer.type,
            compare(
                expected[layer.keras].reshape(len(events), -1),
                found[layer.name].reshape(len(events), -1),
                FixedPoint.parse(layer.type).lsb,
            ),
        )
        for layer in layers
    ]


def first_difference(
    project: Project, model: keras.Model, events: NDArray[Any]
) -> Difference | None:
    """The first layer that differs on `events` (N, *shape), or None if all agree."""
    if not len(np.asarray(events)):
        return None
    for name, kind, agreement in compare_layers(project, model, events):
        if agreement.mismatches:
            return Difference(name, kind, agreement)
    return None
