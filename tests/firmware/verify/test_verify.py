"""The gate: it lets equality through, and nothing else."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core import run_files
from l1kd.core.config import Config
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls import emulator
from l1kd.firmware.hls.project import open_project
from l1kd.firmware.run_firmware import (
    agreement_now,
    certificate_of,
    open_student,
    projects_of,
)
from l1kd.firmware.verify.verify import _certify, _not_asked_for, verify
from l1kd.runs.run import context_of
from tests.conftest import made_once
from tests.firmware.networks import change_weight, copy_of

pytestmark = pytest.mark.csim
ICARUS = shutil.which("iverilog") is not None


@pytest.fixture(scope="session")
def verified(run: Context, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A verified run, compiled once for all workers; do not change it, take `copy_of` it."""
    rtl = {"simulate": "best", "simulator": "icarus", "events": 100} if ICARUS else {}
    sections: dict[str, Any] = {"verify": {"max_auc_loss": 1}, "rtl": rtl}

    def make(place: Path) -> None:
        verify(copy_of(run, place / "r", **sections))

    directory = made_once(tmp_path_factory, "verified", make) / "r"
    data = run.config.model_dump(mode="json")
    for section, values in sections.items():
        data[section] |= values
    return context_of(directory, Config.model_validate(data))


def test_every_project_agrees_on_test_events_and_corners(verified: Context) -> None:
    records = run_files.read(verified.directory, "agreement.json")
    assert [record.student for record in records] == ["flat", "image"]
    best = run_files.read(verified.directory, "metrics.json").best
    dataset = verified.dataset
    tested = len(dataset.test) + sum(len(each.test) for each in dataset.signals.values())
    for record in records:
        assert record.lsb == 2**-8
        seen = {(pair.candidate, pair.io_type, pair.inputs): pair for pair in record.pairs}
        kinds = [("qkeras", None), ("csim", "io_parallel"), ("csim", "io_stream"), ("rtl", None)]
        simulated = ICARUS and record.student == best
        kinds += [("rtlsim", None)] if simulated else []
        assert set(seen) == {(*kind, inputs) for kind in kinds for inputs in ("test", "corner")}
        for (candidate, _, inputs), pair in seen.items():
            assert pair.reference == "exact"
            assert (pair.mismatches, pair.max_lsb, pair.first_layer) == (0, 0, None)
            if inputs == "corner":
                assert pair.events > 100
            elif candidate == "rtlsim":  # its share of every sample
                assert 100 <= pair.events <= 103
            else:
                assert pair.events == tested
        assert record.float32 == {}
        assert (record.simulated is not None) == simulated


def test_what_an_event_costs_is_counted_where_everything_is_open(verified: Context) -> None:
    teacher, *students = run_files.read(verified.directory, "energy.json")
    assert teacher.student is None and teacher.macs > 0
    assert [each.student for each in students] == ["flat", "image"]
    for each in students:
        assert each.toggles is not None and each.note is None
        assert each.toggles.events == min(1000, len(verified.dataset.test))


def test_the_simulated_latency_is_the_reported_one(verified: Context) -> None:
    if not ICARUS:
        pytest.skip("no Icarus Verilog here; see README")
    best = run_files.read(verified.directory, "metrics.json").best
    written = {each.student: each for each in run_files.read(verified.directory, "rtl.json")}
    (record,) = (
        each
        for each in run_files.read(verified.directory, "agreement.json")
        if each.student == best
    )
    assert record.simulated.simulator.startswith("icarus ")
    assert record.simulated.latency_cycles == written[best].latency_cycles > 0


def test_verilog_that_differs_fails_it(verified: Context, tmp_path: Path) -> None:
    rtl = {"simulate": "none"}
    mine = copy_of(verified, tmp_path / "r", verify={"events": 50}, rtl=rtl)
    program = mine.firmware("flat") / "verilog" / "model" / "comb.json.gz"
    stored = json.loads(gzip.decompress(program.read_bytes()))
    # The constant of the first addition of one: another bias.
    (first, *_) = (op for op in stored["model"][5] if op[1] == 4)
    first[2][0] += 1
    program.write_bytes(gzip.compress(json.dumps(stored).encode()))
    with pytest.raises(CheckFailed, match=r"'flat', Verilog: refused: .*comb\.json\.gz is not as"):
        verify(mine)
    (flat, image) = run_files.read(mine.directory, "agreement.json")
    # What is refused as code is not run.
    assert "rtl" not in {each.candidate for each in flat.pairs}
    assert "rtl" in {each.candidate for each in image.pairs}


def test_every_project_is_certified_for_all_inputs(verified: Context) -> None:
    for record in run_files.read(verified.directory, "agreement.json"):
        # The last one is the Verilog's.
        assert [each.io_type for each in record.certificates] == ["io_parallel", "io_stream", None]
        for certificate in record.certificates:
            assert certificate.certified and certificate.findings == []
            assert {"port", "dense1_relu", "output", "score"} <= set(certificate.layers)


def test_the_ladder_leads_from_the_teacher_to_the_firmware(verified: Context) -> None:
    ladders = run_files.read(verified.directory, "fidelity.json")
    metrics = run_files.read(verified.directory, "metrics.json")
    for name, ladder in ladders.items():
        teacher, float_, qkeras, csim, rtl = ladder
        assert [rung.stage for rung in ladder] == ["teacher", "float", "qkeras", "csim", "rtl"]
        assert (teacher.auc, teacher.efficiency) == (
            metrics.teacher.auc,
            metrics.teacher.efficiency,
        )
        assert (teacher.emd.normal, teacher.emd.anomalous, teacher.spearman) == (0, 0, 1)
        # What the firmware says is what the evaluated network says, to the last bit.
        assert csim.model_dump(exclude={"stage"}) == qkeras.model_dump(exclude={"stage"})
        assert rtl.model_dump(exclude={"stage"}) == qkeras.model_dump(exclude={"stage"})
        student = metrics.students[name]
        assert (csim.auc, csim.efficiency, csim.emd) == (
            student.auc,
            student.efficiency,
            student.emd,
        )
        assert float_.auc != qkeras.auc


def test_one_changed_weight_fails_it_by_name(verified: Context, tmp_path: Path) -> None:
    mine = copy_of(verified, tmp_path / "r", verify={"events": 50}, rtl={"simulate": "none"})
    project = mine.firmware("image") / "hls/Vitis-io_stream-latency"
    change_weight(project, 1)
    with pytest.raises(
        CheckFailed,
        match=r"student 'image', csim Vitis io_stream latency: .*layer 'dense1' .*differs",
    ):
        verify(mine)
    flat, image = run_files.read(mine.directory, "agreement.json")
    assert not any(pair.mismatches for pair in flat.pairs)
    for pair in image.pairs:
        assert (pair.mismatches > 0) == (pair.io_type == "io_stream")
        assert pair.first_layer == ("dense1" if pair.mismatches else None)
        assert (pair.max_lsb > 0) == (pair.mismatches > 0)
        assert (pair.reproducer is not None) == (pair.mismatches > 0)
    parallel, stream, logic = image.certificates
    assert parallel.certified and logic.certified and not stream.certified
    (finding,) = stream.findings
    assert (finding.layer, finding.step, finding.state) == ("dense1", "weights", "refused")
    # The smallest event that shows it: run again, it still does, and nothing of it is needless.
    saved = np.load(mine.directory / next(p.reproducer for p in image.pairs if p.reproducer))
    found = open_project(project).predict(saved["events"])
    assert (found == saved["found"]).all() and (found != saved["expected"]).any()
    assert np.count_nonzero(saved["counts"]) <= 2


def test_what_no_event_shows_has_no_certificate(verified: Context, tmp_path: Path) -> None:
    """A type one bit short of what only extreme inputs need: every comparison is equal."""
    few = {"events": 10, "corners": False}
    mine = copy_of(verified, tmp_path / "r", verify=few, rtl={"simulate": "none"})
    defines = mine.firmware("flat") / "hls/Vitis-io_parallel-latency/firmware" / "defines.h"
    text = defines.read_text()
    word, integer = map(int, re.search(r"ap_fixed<(\d+),(\d+)> dense1_accum_t", text).groups())  # type: ignore[union-attr]
    short = f"ap_fixed<{word - 1},{integer - 1}> dense1_accum_t"
    defines.write_text(text.replace(f"ap_fixed<{word},{integer}> dense1_accum_t", short))
    told = r"no certificate: .*'flat'.* refused: .*'dense1', sums: .*overflows"
    with pytest.raises(CheckFailed, match=told):
        verify(mine)
    for record in run_files.read(mine.directory, "agreement.json"):
        assert not any(pair.mismatches for pair in record.pairs)


def test_a_loss_against_the_float_teacher_fails_it(verified: Context, tmp_path: Path) -> None:
    few = {"max_auc_loss": 0, "corners": False, "events": 10}
    mine = copy_of(verified, tmp_path / "r", verify=few, rtl={"simulate": "none"})
    metrics = run_files.read(mine.directory, "metrics.json")
    stored = dict(np.load(mine.directory / "scores.npz"))
    # A teacher that knows: no untrained student comes near it.
    stored |= {f"teacher_{name}": stored[f"teacher_{name}"] + 1e6 for name in ("hot", "wide")}
    np.savez(mine.directory / "scores.npz", **stored)
    with pytest.raises(CheckFailed, match=rf"'{metrics.best}'.*max_auc_loss allows 0"):
        verify(mine)
    for record in run_files.read(mine.directory, "agreement.json"):
        assert {(pair.inputs, pair.events) for pair in record.pairs} == {("test", 30)}
        assert not any(pair.mismatches for pair in record.pairs)


def test_a_project_of_another_student_is_no_difference(verified: Context, tmp_path: Path) -> None:
    mine = copy_of(verified, tmp_path / "r")
    mine.student_file("flat").write_bytes(mine.student_file("image").read_bytes())
    with pytest.raises(UserError, match=r"another network than .*flat\.keras; run `l1kd convert"):
        verify(mine)


def test_a_project_that_is_gone_is_said(verified: Context, tmp_path: Path) -> None:
    mine = copy_of(verified, tmp_path / "r")
    (mine.firmware("flat") / "hls/Vitis-io_stream-latency/l1kd.json").unlink()
    with pytest.raises(UserError, match="no HLS project"):
        verify(mine)


def test_a_certificate_is_about_bytes(verified: Context, tmp_path: Path) -> None:
    """Edited afterwards, a project is not certified any more, and no command goes on with it."""
    mine = copy_of(verified, tmp_path / "r")
    records = run_files.read(mine.directory, "agreement.json")
    first, record = records[0], records[0].certificates[0]
    (project, *_) = projects_of(mine.directory)[first.student]

    def now() -> run_files.CertificateRecord:
        return agreement_now(mine.directory)[0].certificates[0]

    assert record.content and now() == record
    certificate_of(mine.directory, project)
    (project.directory / "tb_data" / "csim_results.log").touch()  # left by a vendor's tool
    assert now().certified
    change_weight(project.directory)
    assert not now().certified and not now().layers and now().findings[0].state == "refused"
    with pytest.raises(CheckFailed, match="not the one that was judged; run `l1kd verify` again"):
        certificate_of(mine.directory, project)
    with pytest.raises(CheckFailed, match="not the one that was judged"):
        emulator.deliver(mine.directory, first.student, tmp_path / "e")
    shutil.rmtree(project.directory)
    assert now().findings[0].state == "open"
    record.content = ""  # an older l1kd's
    run_files.write(mine.directory, "agreement.json", records)
    assert now().certified


def test_what_a_project_says_of_itself_is_compared_with_the_run(
    verified: Context, tmp_path: Path
) -> None:
    """Its backend, options and network: the run's configuration and the student's file decide."""
    mine = copy_of(verified, tmp_path / "r")
    name, projects = next(iter(projects_of(mine.directory).items()))
    student = open_student(mine, name, projects)
    assert list(_not_asked_for(mine, student)) == []
    for key, value in (("backend", "Vivado"), ("strategy", "resource"), ("clock_ns", 2.5)):
        config = mine.config.model_copy(
            update={"firmware": mine.config.firmware.model_copy(update={key: value})}
        )
        other = context_of(mine.directory, config)
        assert any(f"a project's {key} is " in said for said in _not_asked_for(other, student))
    narrow = replace(student, exact=student.exact.at_port(FixedPoint(4, 4, False)))
    (said,) = _not_asked_for(mine, narrow)
    assert "network.json is not the network of its model" in said


def test_a_project_without_a_certificate_fails_it(verified: Context, tmp_path: Path) -> None:
    """Of a version that no argument was made for; or the run says that tests are enough."""
    mine = copy_of(verified, tmp_path / "r")
    for path in mine.directory.glob("firmware/*/hls/*/l1kd.json"):
        path.write_text(re.sub(r'"hls4ml": "[^"]*"', '"hls4ml": "1.2.0"', path.read_text()))
    name, projects = next(iter(projects_of(mine.directory).items()))
    student = open_student(mine, name, projects)
    records, faults = _certify(mine, student)
    assert len(faults) == len(projects) == 2
    for fault in faults:
        assert re.search(r"no argument was made .*`verify.certificate: optional`", fault)
    data = mine.config.model_dump(mode="json")
    data["verify"]["certificate"] = "optional"
    optional = context_of(mine.directory, Config.model_validate(data))
    assert _certify(optional, student) == (records, [])
    assert [record.certified for record in records] == [False, False, True]  # the Verilog's stands
    # The argument for Verilog does not reach every network: an open one is said, and no fault.
    record = mine.firmware(name) / "verilog" / "l1kd.json"
    record.write_text(record.read_text().replace('"0.8.2"', '"0.9.0"'))
    student = open_student(mine, name, projects)
    records, faults = _certify(mine, student)
    assert len(faults) == 2 and [found.state for found in records[-1].findings] == ["open"]
