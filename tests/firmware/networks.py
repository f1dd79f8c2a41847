"""QKeras networks in the constructs that convert exactly, and a run of untrained students."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.config import Config
from l1kd.core.context import Context
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network
from l1kd.firmware.certificate.certify import calls_of
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.hls.project import Project
from l1kd.runs.run import context_of

COUNTS, PIXELS = FixedPoint(11, 11), FixedPoint(10, 2)


def network(
    shape: tuple[int, ...],
    steps: list[tuple[Any, ...]],
    *,
    port: str = "quantized_bits(11,10,0,alpha=1)",
    activation: str = "quantized_relu(10,6)",
    score: str = "quantized_relu(16,8)",
    weights: str = "quantized_bits(8,1,0,alpha=1)",
    outputs: int = 1,
    name: str = "net",
    seed: int = 1,
    scale: float = 0.3,
) -> Any:
    """A network with random weights.

    Steps are ("conv", filters, size, stride), ("pool",), ("flatten",), ("dense", units); each but
    `flatten` ends in a QActivation.
    """
    from qkeras import QActivation, QConv2D, QDense
    from tensorflow.keras import Input, Model, layers

    def own() -> dict[str, str]:
        return {"kernel_quantizer": weights, "bias_quantizer": weights}

    events = Input(shape, name="events")
    x = QActivation(port, name="port")(events)
    for index, (kind, *sizes) in enumerate(steps, 1):
        label = f"{kind}{index}"
        if kind == "flatten":
            x = layers.Flatten(name=label)(x)
            continue
        if kind == "conv":
            filters, size, stride = sizes
            x = QConv2D(filters, size, strides=stride, name=label, **own())(x)
        elif kind == "pool":
            x = layers.AveragePooling2D(2, name=label)(x)
        else:
            x = QDense(sizes[0], name=label, **own())(x)
        x = QActivation(activation, name=f"{label}_relu")(x)
    x = QDense(outputs, name="output", **own())(x)
    model = Model(events, QActivation(score, name="score")(x), name=name)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, scale, w.shape) for w in model.get_weights()])
    return model


def dense_counts(**options: Any) -> Any:
    """252 counts, 16 hidden units: CICADA v1's shape."""
    return network((252,), [("dense", 16)], **{"scale": 0.1, "name": "dense", **options})


def conv_counts(**options: Any) -> Any:
    """18x14 counts, 4 filters of 2x2 with stride 2: CICADA v2's shape."""
    steps = [("conv", 4, 2, 2), ("flatten",), ("dense", 16)]
    return network((18, 14, 1), steps, **{"scale": 0.1, "name": "conv", **options})


def images(**options: Any) -> Any:
    """28x28 pixels n/256: the shape of the paper's s7."""
    steps = [("conv", 2, 3, 1), ("pool",), ("conv", 2, 3, 2), ("pool",), ("flatten",)]
    fixed = {"port": "quantized_bits(10,1,0,alpha=1)", "activation": "quantized_relu(8,2)"}
    return network(
        (28, 28, 1), steps, **{"scale": 0.7, "seed": 9, "name": "images", **fixed, **options}
    )


def little(**options: Any) -> Any:
    """Six inputs, three hidden units: compiles in two seconds."""
    return network((6,), [("dense", 3)], **{"name": "little", **options})


def small(**options: Any) -> Any:
    """6x6 counts, a convolution, a pooling, three hidden units: what `KINDS` is made of."""
    steps = [("conv", 2, 3, 1), ("pool",), ("flatten",), ("dense", 3)]
    return network((6, 6, 1), steps, **{"name": "small", **options})


KINDS: dict[str, dict[str, Any]] = {
    "latency": {},
    "stream": {"io_type": "io_stream"},
    "resource": {"strategy": "resource", "reuse": 2, "backend": "Vivado"},
    "resource_stream": {"strategy": "resource", "reuse": 3, "io_type": "io_stream"},
    "adders": {"strategy": "distributed_arithmetic"},
    "adders_stream": {
        "strategy": "distributed_arithmetic",
        "io_type": "io_stream",
        "backend": "Vivado",
    },
    "one_by_one": {"unroll": False},
}


class Projects(dict[str, Project]):
    """`small` in every kind of project, each converted when it is first asked for. Read only."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    @cached_property
    def model(self) -> Any:
        """The QKeras network."""
        return small()

    @cached_property
    def exact(self) -> Network:
        """The exact network."""
        from l1kd.networks.to_exact import read

        return read(self.model)

    def __missing__(self, kind: str) -> Project:
        project = hls4ml_convert.to_hls(
            self.model, self.directory / kind, vectors=few_vectors(self.model), **KINDS[kind]
        )
        # One program for simulations and certificates.
        self[kind] = replace(project, calls=calls_of)
        return self[kind]


def events_like(model: Any, port: FixedPoint, count: int, seed: int = 5) -> np.ndarray:
    """Sparse, falling spectra on the port's grid, as counts and pixels are; some are negative."""
    random = np.random.default_rng(seed)
    low, high = port.bounds
    size = (count, *model.input_shape[1:])
    values = np.rint(random.exponential(high / 10, size)) * (random.random(size) < 0.4)
    values *= np.where(random.random(size) < 0.1, -1, 1)
    return (np.clip(values, low, high) * port.lsb).astype(np.float32)


def few_vectors(model: Any, port: FixedPoint | None = None, count: int = 16) -> np.ndarray:
    """Events for a project's test bench, in place of the search for them that `convert` makes."""
    from l1kd.networks.to_exact import read

    kind = port or read(model).port
    events = events_like(model, kind, count).astype(np.float64)
    return np.clip(events, kind.low, kind.high)


def predict(model: Any, events: np.ndarray) -> np.ndarray:
    """What QKeras gives, (N, outputs) float64."""
    from l1kd.evaluation.evaluate import scorer

    return scorer(model, model.input_shape[1:])(events)


def make_run(directory: Path, **sections: Any) -> Context:
    """A run of untrained students as the stages before `convert` leave it."""
    from l1kd.data.sources import open_dataset
    from l1kd.evaluation.evaluate import evaluate
    from l1kd.networks.load import save_model
    from l1kd.networks.students import build_student
    from l1kd.networks.teachers import build_teacher
    from l1kd.training.target_transform import TARGETS, save_target

    config = Config.model_validate(
        {
            "name": "tiny",
            "threads": 2,
            "data": _arrays(directory / "data"),
            "teacher": {"architecture": "dense", "latent": 2, "hidden": [8]},
            "students": [
                {"name": "flat", "architecture": "dense", "hidden": [4]},
                {"name": "image", "architecture": "cicada_v2"},
            ],
            "rtl": {"simulate": "none", "synthesize": "none"},
            **sections,
        }
    )
    context = context_of(directory, config)
    dataset = open_dataset(config.data, config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_model(build_teacher(config.teacher, dataset), context.teacher_file)
        score = config.distillation.score
        for index, student in enumerate(config.students):
            model = build_student(student, dataset.shape, dataset.grid, score)
            random = np.random.default_rng(index)
            model.set_weights([random.normal(0.05, 0.3, w.shape) for w in model.get_weights()])
            save_model(model, context.student_file(student.name))
        save_target(TARGETS["fitted"](score.type).fitted(1.0, 0.5), directory)
        evaluate(context)
    return context


def copy_of(run: Context, directory: Path, **sections: Any) -> Context:
    """A copy of a run with other sections in its configuration."""
    shutil.copytree(run.directory, directory)
    data = run.config.model_dump(mode="json")
    for section, values in sections.items():
        data[section] |= values
    return context_of(directory, Config.model_validate(data))


def _arrays(directory: Path) -> dict[str, Any]:
    random = np.random.default_rng(1)
    directory.mkdir(parents=True)
    samples = {
        "normal": random.poisson(2, (400, 6, 4, 1)),
        "hot": random.poisson(2, (80, 6, 4, 1)) + 20 * (np.arange(24) == 9).reshape(6, 4, 1),
        "wide": random.poisson(6, (60, 6, 4, 1)),
    }
    for name, events in samples.items():
        np.savez(directory / f"{name}.npz", events=events.clip(0, 31).astype(np.int16))
    return {
        "source": "arrays",
        "background": [str(directory / "normal.npz")],
        "signals": {name: [str(directory / f"{name}.npz")] for name in ("hot", "wide")},
        "grid": {"word": 6, "integer": 6},
    }


def change_weight(project: Path, layer: int = 0) -> None:
    """Halve the largest weight of a project's n-th layer, in its C++."""
    weights = (project / "firmware" / "weights").glob("w*.h")
    path = sorted(weights, key=lambda path: int(path.stem[1:]))[layer]
    text = path.read_text()
    start, end = text.index("= {") + 3, text.index("};")
    values = [float(value) for value in text[start:end].split(",")]
    place = max(range(len(values)), key=lambda i: abs(values[i]))
    values[place] /= 2
    path.write_text(text[:start] + ", ".join(map(repr, values)) + text[end:])
