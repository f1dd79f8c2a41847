"""From a point of the search's space to a student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l1kd.config import Student
from l1kd.space import Space

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["NAME", "beginnings", "describe", "propose"]

NAME = "found"
_STEP = 0.05  # of sparsities


def propose(trial: Trial, space: Space) -> Student:
    """Draw a student.

    Layers, and what is drawn for each of them, depend on the numbers of layers that were drawn
    before.
    """
    architecture = trial.suggest_categorical("architecture", space.architectures)
    options: dict[str, Any] = {"name": NAME, "architecture": architecture}
    layers = []
    if architecture == "conv":
        options["filters"] = trial.suggest_int("filters", *space.filters)
        chosen = trial.suggest_categorical("kernel", [_text(sides) for sides in space.kernels])
        options["kernel"] = tuple(int(side) for side in chosen.split("x"))
        layers.append("conv1")
    count = trial.suggest_int("hidden_layers", *space.hidden_layers)
    names = [f"dense{number}" for number in range(1, count + 1)]
    options["hidden"] = [trial.suggest_int(f"{name}.units", *space.hidden) for name in names]
    own: dict[str, dict[str, Any]] = {}
    for layer in (*layers, *names, "output"):
        bits = trial.suggest_int(f"{layer}.weight_bits", *space.weight_bits)
        integer = trial.suggest_int(f"{layer}.weight_integer", *space.weight_integer)
        own[layer] = {"weight_bits": bits, "weight_integer": integer}
        if layer != "output":
            bits = trial.suggest_int(f"{layer}.activation_bits", *space.activation_bits)
            own[layer]["activation_bits"] = bits
    steps = trial.suggest_int("pruned", 0, _steps(space))
    own[[*names, "output"][0]]["sparsity"] = round(space.sparsity[0] + steps * _STEP, 6)
    options["layers"] = own
    options["logic_penalty"] = trial.suggest_float("logic_penalty", *space.logic_penalty, log=True)
    return Student.model_validate(options)


def beginnings(space: Space) -> list[dict[str, Any]]:
    """Where a search begins: the largest student of the space, and one in its middle."""
    return [_at(space, 1.0), _at(space, 0.5)]


def _at(space: Space, height: float) -> dict[str, Any]:
    """The parameters of a student: at 1 all sizes and widths are the space's largest."""

    def between(ends: tuple[int, int]) -> int:
        return ends[0] + round(height * (ends[1] - ends[0]))

    architecture, layers = space.architectures[0], []
    low, high = space.logic_penalty
    parameters: dict[str, Any] = {
        "architecture": architecture,
        "hidden_layers": space.hidden_layers[1],
        "logic_penalty": low * (high / low) ** (1 - height),
        "pruned": round((1 - height) * _steps(space)),
    }
    if architecture == "conv":
        layers = ["conv1"]
        parameters |= {"filters": between(space.filters), "kernel": _text(space.kernels[0])}
    hidden = [f"dense{number}" for number in range(1, space.hidden_layers[1] + 1)]
    parameters |= {f"{name}.units": between(space.hidden) for name in hidden}
    for layer in (*layers, *hidden, "output"):
        parameters[f"{layer}.weight_bits"] = between(space.weight_bits)
        parameters[f"{layer}.weight_integer"] = between(space.weight_integer)
        if layer != "output":
            parameters[f"{layer}.activation_bits"] = between(space.activation_bits)
    return parameters


def _steps(space: Space) -> int:
    return int((space.sparsity[1] - space.sparsity[0]) / _STEP + 1e-9)


def describe(student: Student) -> str:
    """A student's topology in a few words: `conv 3@2x2 (6b) - 8 (5b) - 1 (4b)`."""

    def bits(layer: str) -> str:
        own = student.layers.get(layer)
        width = (own.weight_bits if own else None) or student.weight_bits
        return f" ({width}b)" if width else ""

    parts = []
    if student.architecture == "conv":
        parts.append(f"{student.filters or 4}@{_text(student.kernel or (2, 2))}{bits('conv1')}")
    if student.architecture in ("conv", "dense"):
        parts += [f"{u}{bits(f'dense{n}')}" for n, u in enumerate(student.hidden, 1)]
        return " - ".join([*parts, f"1{bits('output')}"])
    return student.architecture


def _text(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"
