"""The stage `import`: a run from a network that somebody else has trained, repaired if need be."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from l1kd.core.config import Config, Distillation, Score, Student
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import file_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Finding, Imported, Price, RepairRecord
from l1kd.data.dataset import Dataset
from l1kd.evaluation.evaluate import scorer
from l1kd.evaluation.metrics import quality
from l1kd.evaluation.scores import score_samples
from l1kd.networks.lint.check import check
from l1kd.networks.quantizers import output_layer, reading, type_of
from l1kd.networks.tensorflow_setup import prepare_tensorflow

if TYPE_CHECKING:
    from tensorflow import keras

    from l1kd.networks.repair import Repaired


@dataclass(frozen=True)
class Network:
    """A network as it was read, and as it is imported."""

    original: keras.Model
    repaired: Repaired
    output: FixedPoint | None  # the type of its scores; None if the lint refuses it
    record: Imported  # for the manifest


def digest(path: Path) -> str:
    """SHA-256 of a model file."""
    if not path.is_file():
        from l1kd.networks.load import read_file

        read_file(path)  # says what is wrong
    return file_hash(path)


def student_name(path: Path) -> str:
    """A valid name from the file's stem; `teacher` is taken."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-")[:64]
    return "imported" if not name or name.lower() == "teacher" else name


def prepare(
    path: Path, sha256: str, context: Context, *, lossy: bool, cut: str | None = None
) -> Network:
    """Read a network, repair it and judge it. Nothing is written."""
    dataset = context.dataset  # first: TensorFlow's import takes seconds
    from l1kd.networks.load import read_model
    from l1kd.networks.repair import apply_repairs

    prepare_tensorflow(context.threads)
    model, folded = read_model(path, cut)
    _check_ends(model, path)
    try:
        repaired = apply_repairs(
            model, grid=dataset.grid, shape=dataset.shape, lossy=lossy, name=student_name(path)
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    _check_port(repaired.model, dataset, path)
    repaired = replace(repaired, repairs=[*folded, *repaired.repairs])
    output = _output(repaired.model)
    findings = [
        Finding(layer=p.layer, found=p.construct, reason=p.reason, remedy=p.remedy)
        for p in check(repaired.model)
    ]
    if output is None and not findings:
        findings = [
            Finding(
                layer=repaired.model.output_names[0],
                found="no quantizer at the output",
                reason="a score has a type, to count thresholds in",
                remedy="end the network in a QActivation of quantized_relu or quantized_bits",
            )
        ]
    record = Imported(
        file=path.name,
        sha256=sha256,
        student=student_name(path),
        lossy=lossy,
        cut=cut,
        repairs=[RepairRecord(layer=r.layer, what=r.what, kind=r.kind) for r in repaired.repairs],
        findings=findings,
    )
    return Network(model, repaired, None if findings else output, record)


def configuration(config: Config, network: Network) -> Config:
    """The configuration of the run: one student, and the type of its scores."""
    student = Student(name=network.record.student, architecture="imported")
    distillation = Distillation()
    if (output := network.output) is not None:
        try:
            score = Score(word=output.word, integer=output.integer, signed=output.signed)
        except ValueError as error:
            raise UserError(
                f"{network.record.file}: its output is {output.text}; scores have a word of at "
                "most 24 bits and at least one bit right of the binary point"
            ) from error
        distillation = Distillation(score=score)
    return config.model_copy(update={"students": [student], "distillation": distillation})


def import_(context: Context, network: Network) -> Imported:
    """Report and price the repairs, and write the student; `CheckFailed` if it is refused."""
    from l1kd.networks.load import save_model
    from l1kd.networks.to_exact import doubts

    record, name = network.record, network.record.student
    target = context.student_file(name)
    for each in record.repairs:
        context.say(f"{each.layer}: {each.what} ({each.kind})")
    if record.findings:
        target.unlink(missing_ok=True)
        for found in record.findings:
            context.say(f"refused: {found.layer}: {found.found}: {found.reason}; {found.remedy}")
        raise CheckFailed(_refusal(context, network))
    if record.repairs:
        record.price = price = measure(context.dataset, network)
        context.say(_worth(price))
        if price.different and network.repaired.exact and not doubts(network.repaired.model):
            target.unlink(missing_ok=True)
            raise RuntimeError(
                f"{record.file}: {price.different} of {price.events} scores changed, by repairs "
                "that are to change none; please report it with the model"
            )
    save_model(network.repaired.model, target)
    return record


def measure(dataset: Dataset, network: Network) -> Price:
    """Scores of the repaired network against those of the file's, on test normals and signals."""
    samples = dataset.judged
    shape = tuple(int(side) for side in network.original.inputs[0].shape[1:])
    before = scorer(network.original, shape)
    networks = {
        "old": lambda events: before(events.reshape(-1, *shape)),
        "new": scorer(network.repaired.model, dataset.shape),
    }
    scores = score_samples(networks, samples)
    old, new = ({s: scores[f"{own}_{s}"] for s in samples} for own in networks)
    kind = _output(network.repaired.model)
    assert kind is not None  # or the network would have been refused
    apart = np.concatenate([np.abs(new[name] - old[name]) for name in samples]) / kind.lsb
    return Price(
        events=len(apart),
        different=int(np.count_nonzero(apart)),
        max_lsb=float(apart.max()),
        mean_lsb=float(apart.mean()),
        auc_file=quality(old).auc,
        auc=quality(new).auc,
    )


def _worth(price: Price) -> str:
    text = f"against the file's network: {price.different} of {price.events} scores differ"
    if price.different:
        text += f", by up to {price.max_lsb:g} LSB, {price.mean_lsb:.3g} in the mean"
        if "all" in price.auc:
            text += f"; AUC {price.auc_file['all']:.4f} -> {price.auc['all']:.4f}"
    return text


def _refusal(context: Context, network: Network) -> str:
    """One line: the first finding, and the price of lossy repairs if they would help."""
    from l1kd.networks.repair import apply_repairs

    record, dataset = network.record, context.dataset
    first, *rest = record.findings
    more = f" (and {len(rest)} more)" if rest else ""
    where = f"{record.file}: refused: layer {first.layer!r}"
    text = f"{where}: {first.found}: {first.reason}; {first.remedy}{more}"
    if not any(each.kind == "offered" for each in record.repairs):
        return text
    lossy = apply_repairs(network.original, grid=dataset.grid, shape=dataset.shape, lossy=True)
    if check(lossy.model) or _output(lossy.model) is None:
        return f"{text}; lossy repairs alone do not help"
    record.price = measure(dataset, replace(network, repaired=lossy))
    return f"{text}; with --lossy it goes through: {_worth(record.price)}"


def _check_ends(model: keras.Model, path: Path) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"{path}: {len(model.inputs)} inputs and {len(model.outputs)} outputs (layers "
            f"{', '.join(model.output_names)}); a run is of a network with one of each: choose an "
            "output with `--cut LAYER`, concatenate inputs"
        )
    shape = tuple(model.outputs[0].shape)[1:]
    if int(np.prod(shape, dtype=int)) != 1:
        raise UserError(
            f"{path}: an output of shape {shape} for each event; a run is of a network with one "
            "score: end it in one with `--cut LAYER`, or convert it with l1kd.to_hls"
        )


def _check_port(model: keras.Model, dataset: Dataset, path: Path) -> None:
    """Events that are not on the port's grid would be rounded before the firmware sees them."""
    from l1kd.networks.repair import contains

    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    port = type_of(getattr(first, "quantizer", None))
    if port is not None and not contains(port, dataset.grid):
        raise UserError(
            f"{path}: its input is quantized to {port.text}, and the data's grid is "
            f"{dataset.grid.text}, which has other values; scale the events, or set data.grid "
            "to a type within the network's"
        )


def _output(model: keras.Model) -> FixedPoint | None:
    """The type of a network's last quantizer; None if it does not end in one."""
    last = output_layer(model)
    found = reading(getattr(last, "quantizer", None) or getattr(last, "activation", None))
    return found.type if found is not None else None
