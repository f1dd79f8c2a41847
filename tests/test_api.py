"""The public names of the package: these and nothing else, and what each of them gives."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l1kd
from tests.conftest import copy_of_run
from tests.firmware.networks import events_like, little

PUBLIC = [
    "CheckFailed",
    "UserError",
    "certify",
    "check",
    "compare",
    "distill",
    "load_model",
    "load_network",
    "open_run",
    "read",
    "repair",
    "to_hls",
    "to_verilog",
]


def test_these_names_and_nothing_else() -> None:
    assert dir(l1kd) == sorted(l1kd.__all__) == PUBLIC
    with pytest.raises(AttributeError, match="'nonesuch'"):
        _ = l1kd.nonesuch
    assert (Path(l1kd.__file__).parent / "py.typed").is_file()


def test_help_shows_every_name_with_its_arguments() -> None:
    text = pydoc.render_doc(l1kd, renderer=pydoc.plaintext)
    for name in PUBLIC:
        assert f" {name}(" in text, name
        assert getattr(l1kd, name).__doc__, name
        assert getattr(l1kd, name).__name__ == name


def test_importing_it_and_reading_a_network_need_no_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    network = l1kd.read(little())
    network.save(path)
    code = (
        "import sys, l1kd; network = l1kd.load_network(sys.argv[1]);"
        "print(network.counts([[0.0] * 6]).tolist(), 'tensorflow' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == f"{network.counts(np.zeros((1, 6))).tolist()} False"


@pytest.mark.csim
def test_ten_lines_from_a_network_to_certified_firmware(tmp_path: Path) -> None:
    model = little()
    assert l1kd.check(model) == []
    network = l1kd.read(model)
    events = events_like(model, network.port, 200)
    project = l1kd.to_hls(model, tmp_path / "hls", vectors=events[:8])
    project.compile()
    lsb = network.output_types[0].lsb
    assert np.array_equal(network.predict(events), network.counts(events) * lsb)
    agreement = l1kd.compare(network.predict(events), project.predict(events), lsb)
    assert (agreement.events, agreement.mismatches, agreement.max_lsb) == (200, 0, 0)
    certificate = l1kd.certify(project, network)
    assert certificate.certified and certificate.summary == "certified for all inputs"
    logic = l1kd.to_verilog(model, tmp_path / "rtl")
    assert l1kd.compare(network.predict(events), logic.predict(events), lsb).mismatches == 0
    verdict = l1kd.certify(logic, network)
    assert verdict.certified and verdict.summary == "certified for all inputs"


def test_what_can_be_made_exact_is() -> None:
    from qkeras import QActivation, QDense
    from tensorflow.keras import Input, Model, layers, utils

    utils.set_random_seed(1)
    weights = "quantized_bits(6,1,0,alpha=1)"
    events = Input((4,))
    x = QDense(3, kernel_quantizer=weights, bias_quantizer=weights, name="d")(events)
    x = layers.Dropout(0.5)(QActivation("quantized_relu(8,4)", name="a")(x))
    x = QDense(1, kernel_quantizer=weights, bias_quantizer=weights, name="e")(x)
    theirs = Model(events, QActivation("quantized_relu(12,6)", name="score")(x))
    assert l1kd.check(theirs)
    ours = l1kd.repair(theirs, grid={"word": 6, "integer": 6, "signed": False})
    assert l1kd.check(ours) == []
    counts = np.random.default_rng(1).integers(0, 64, (50, 4)).astype(np.float32)
    assert np.array_equal(l1kd.read(ours).predict(counts), np.asarray(theirs(counts)))


def test_a_run_as_an_object(finished_run: Path, tmp_path: Path) -> None:
    directory = copy_of_run(finished_run, tmp_path / "copy")
    run = l1kd.open_run(directory)
    assert run.best in run.students
    network = run.network()
    events = np.zeros((3, *network.shape))
    scores = run.score(events)
    assert scores.dtype == np.int64 and scores.shape == (3,)
    assert np.array_equal(scores, network.counts(events).reshape(-1))
    normal = _test_scores(directory, run.best, network.output_types[0].lsb)
    level = run.threshold(rate_khz=1000)
    allowed = int(1000 / 28_610 * len(normal))
    assert np.sum(normal >= level) <= allowed < np.sum(normal >= level - 1)
    with pytest.raises(l1kd.UserError, match="ask for a higher rate"):
        run.threshold(rate_khz=1e-3)
    with pytest.raises(l1kd.UserError, match="has no student 'nobody'"):
        run.score(events, "nobody")
    with pytest.raises(l1kd.UserError, match="is not a run"):
        l1kd.open_run(tmp_path)


def _test_scores(directory: Path, student: str, lsb: float) -> Any:
    with np.load(directory / "scores.npz") as file:
        return np.rint(file[f"student_{student}_test"] / lsb).astype(int)
