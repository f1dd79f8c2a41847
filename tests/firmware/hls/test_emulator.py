"""The library that trigger software loads: exact, alone with its version, refused if wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import file_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Pair
from l1kd.firmware.hls import emulator, hls4ml_convert
from l1kd.firmware.hls.project import open_project
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.firmware.verify.comparison import compare_emulator
from l1kd.firmware.verify.verify import verify
from l1kd.networks.to_exact import read
from tests.firmware.networks import (
    change_weight,
    copy_of,
    events_like,
    few_vectors,
    little,
    network,
    predict,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> emulator.Emulator:
    """An emulator; tests that change it take a copy."""
    directory = tmp_path_factory.mktemp("emulator")
    project = hls4ml_convert.to_hls(little(), directory / "p", vectors=few_vectors(little()))
    return emulator.build(project, directory / "e")


def copy(built: emulator.Emulator, directory: Path) -> Path:
    shutil.copytree(built.directory, directory)
    return directory


def library(directory: Path) -> Path:
    (path,) = directory.glob("lib*.so")
    return path


def describe(directory: Path) -> None:
    """Have the manifest say that the library is as it should be."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["library"]["sha256"] = file_hash(library(directory))
    path.write_text(json.dumps(manifest))


@pytest.mark.csim
@pytest.mark.parametrize(
    ("io_type", "port"),
    [
        ("io_parallel", FixedPoint(10, 10, False)),
        pytest.param("io_stream", None, marks=pytest.mark.full),
    ],
)
def test_it_is_exact(io_type: str, port: FixedPoint | None, tmp_path: Path) -> None:
    model = network((6, 6, 1), [("conv", 3, 2, 2), ("flatten",), ("dense", 4)], outputs=2)
    vectors = few_vectors(model, port)
    project = hls4ml_convert.to_hls(
        model, tmp_path / "p", io_type=io_type, port=port, vectors=vectors
    )
    made = emulator.build(project, tmp_path / "e")
    corner, _ = corners(project.input_type, (6, 6, 1), read(model), limit=600)
    events = np.concatenate([corner, corner[::-1]])
    found = made.predict(events)
    assert found.shape == (len(events), 2) and len(np.unique(found)) > 20
    assert (found == predict(model, events)).all()
    assert (made.predict(events.reshape(len(events), -1)[:7]) == found[:7]).all()
    assert made.predict(events[:0]).shape == (0, 2)


def test_events_off_the_port_are_refused(built: emulator.Emulator) -> None:
    for bad, said in ((0.5, "no value of the input port of little"), (1024, "steps of 1")):
        with pytest.raises(UserError, match=said):
            built.predict(np.full((1, 6), bad))
    with pytest.raises(UserError, match="events of the shape"):
        built.predict(np.zeros((1, 5)))


def test_what_is_delivered(built: emulator.Emulator) -> None:
    directory, manifest = built.directory, built.manifest
    assert re.fullmatch(r"v[0-9a-f]{8}", manifest.version)
    assert manifest.namespace == f"l1kd_little_{manifest.version}"
    label = f"little_{manifest.version}"
    files = {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    assert {
        f"lib{label}.so",
        "include/emulator.h",
        f"include/{label}.h",
        "manifest.json",
        "NOTICE",
        "LICENSE-Apache-2.0.txt",
        "Makefile",
        "source/emulator.cpp",
        "source/firmware/l1kd_little.cpp",
    } <= files
    assert manifest.library.sha256 == file_hash(library(directory))
    assert (manifest.input.type, manifest.output.shape) == ("ap_int<11>", (1,))
    assert {"l1kd", "hls4ml"} <= set(manifest.versions) and manifest.compiler
    text = (directory / "include" / f"{label}.h").read_text()
    assert "typedef ap_int<11> input_t;" in text
    assert "typedef ap_ufixed<16,8,AP_RND_CONV,AP_SAT> result_t;" in text
    assert (
        "Changed by l1kd" in (directory / "source/firmware/ap_types/etc/ap_private.h").read_text()
    )
    for path in directory.rglob("*"):
        if path.is_file() and path.suffix != ".so":
            assert str(directory).encode() not in path.read_bytes(), path


def test_a_run_s_library_is_loaded_only_where_it_was_built(
    built: emulator.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = copy(built, tmp_path / "e")
    assert emulator.built_here(mine)
    monkeypatch.setenv("L1KD_CSIM_CACHE", str(tmp_path / "cache"))
    assert not emulator.built_here(mine)


@pytest.mark.csim
def test_only_the_interface_is_exported(built: emulator.Emulator) -> None:
    command = ["nm", "-D", "--defined-only", str(library(built.directory))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}
    assert names == {"create_model", "destroy_model", "l1kd_predict", "l1kd_version"}


CLIENT = """
#include "emulator.h"
#include "@A@.h"
#include "@B@.h"
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>

template <class In, class Out> void ask(hls4mlEmulator::Model *model, int event) {
    In x[6];
    Out y[1];
    for (int i = 0; i < 6; i++) x[i] = (event * 37 + i * 101) % 900;
    model->prepare_input((const In *)x);
    model->predict();
    model->read_result((Out *)y);
    std::printf("%.10f\\n", y[0].to_double());
}

struct Loaded {
    void *library;
    hls4mlEmulator::Model *model;
    explicit Loaded(const char *path) {
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        if (!library) { std::puts(dlerror()); std::exit(9); }
        model = ((hls4mlEmulator::Model * (*)()) dlsym(library, "create_model"))();
    }
    ~Loaded() {
        ((void (*)(hls4mlEmulator::Model *)) dlsym(library, "destroy_model"))(model);
        dlclose(library);
    }
};

int main(int argc, char **argv) {
    Loaded a(argv[1]), b(argv[2]);
    for (int event = 0; event < 20; event++) {
        ask<@NA@::emulator::input_t, @NA@::emulator::result_t>(a.model, event);
        ask<@NB@::emulator::input_t, @NB@::emulator::result_t>(b.model, event);
    }
    // Under other names for the same bits.
    ask<ap_fixed<11, 11>, ap_ufixed<16, 8> >(a.model, 3);
    try {
        ask<ap_ufixed<10, 10>, ap_ufixed<16, 8> >(a.model, 3);
    } catch (const std::exception &error) {
        std::printf("%s\\n", error.what());
    }
    return 0;
}
"""


@pytest.mark.csim
@pytest.mark.parametrize(
    "io_type", ["io_parallel", pytest.param("io_stream", marks=pytest.mark.full)]
)
def test_two_versions_in_one_process(
    io_type: str, built: emulator.Emulator, tmp_path: Path
) -> None:
    """Of one name, shape and types: loaded as CMSSW does, and by Python."""
    models = [little(seed=1), little(seed=4)]

    def made_of(model: Any, index: int) -> emulator.Emulator:
        vectors = few_vectors(model)
        project = hls4ml_convert.to_hls(
            model, tmp_path / f"p{index}", io_type=io_type, vectors=vectors
        )
        return emulator.build(project, tmp_path / f"e{index}")

    first = built if io_type == "io_parallel" else made_of(models[0], 0)
    made = [first, made_of(models[1], 1)]
    events = np.array([[(event * 37 + i * 101) % 900 for i in range(6)] for event in range(20)])
    expected = [predict(model, events.astype(np.float32)) for model in models]
    assert (expected[0] != expected[1]).any()
    for _ in range(2):
        for each, right in zip(made, expected, strict=True):
            assert (each.predict(events) == right).all()

    text = CLIENT
    for key, each in zip("AB", made, strict=True):
        label = f"{each.manifest.name}_{each.manifest.version}"
        text = text.replace(f"@N{key}@", each.manifest.namespace).replace(f"@{key}@", label)
    (tmp_path / "client.cpp").write_text(text)
    includes = [f"-I{each.directory}/include" for each in made]
    types = f"-I{made[0].directory}/source/firmware/ap_types"
    flags = ["-std=c++17", "-w", *includes, types, "client.cpp", "-o", "client", "-ldl"]
    subprocess.run(["g++", *flags], check=True, cwd=tmp_path)
    for order in (1, -1):
        paths = [str(library(each.directory)) for each in made]
        program = [str(tmp_path / "client"), *paths]
        if order < 0:
            program = [str(tmp_path / "client"), paths[0], paths[0]]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        *numbers, refused = done.stdout.splitlines()
        values = np.array(numbers, np.float64)
        assert (values[:40:2] == expected[0][:, 0]).all()
        assert (values[1:40:2] == expected[0 if order < 0 else 1][:, 0]).all()
        assert values[40] == expected[0][3, 0]
        assert "reads a pointer to an array of 6 ap_int<11>" in refused


@pytest.mark.csim
def test_a_replaced_emulator_is_not_the_one_before(
    built: emulator.Emulator, tmp_path: Path
) -> None:
    """The system knows libraries by path: the same one with other content must not be mistaken."""
    shutil.copytree(built.directory.parent / "p", tmp_path / "p")
    project = open_project(tmp_path / "p")
    events = events_like(little(), project.input_type, 200)
    first = emulator.load(copy(built, tmp_path / "e"))
    before = first.predict(events)
    change_weight(project.directory, 1)
    second = emulator.build(project, tmp_path / "e")
    assert first.manifest.namespace == second.manifest.namespace
    assert first.manifest.project != second.manifest.project
    assert (second.predict(events) == project.predict(events)).all()
    assert (second.predict(events) != before).any()
    assert (first.predict(events) == before).all()


@pytest.mark.csim
def test_it_can_be_built_anew_and_moved(built: emulator.Emulator, tmp_path: Path) -> None:
    directory = copy(built, tmp_path / "some where")
    events = events_like(little(), FixedPoint(11, 11), 20)
    assert subprocess.run(["make", "clean"], cwd=directory, check=False).returncode == 0
    assert not list(directory.glob("*.so"))
    done = subprocess.run(["make"], cwd=directory, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (emulator.load(directory).predict(events) == built.predict(events)).all()
    assert subprocess.run(["make", "-q"], cwd=directory, check=False).returncode == 0
    edited = next((directory / "source" / "firmware" / "weights").glob("w*.h"))
    edited.write_text(re.sub(r"= \{[-\d.e]+,", "= {0.125,", edited.read_text()))
    # It knows that it has to be built again; what an edit changes is shown above.
    assert subprocess.run(["make", "-q"], cwd=directory, check=False).returncode == 1


def _truncate(directory: Path) -> None:
    path = library(directory)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncate_and_say_so(directory: Path) -> None:
    _truncate(directory)
    describe(directory)


def _text(directory: Path) -> None:
    library(directory).write_text("I am a library, trust me. " * 10)
    describe(directory)


def _flip(directory: Path) -> None:
    content = bytearray(library(directory).read_bytes())
    content[len(content) // 2] ^= 1
    library(directory).write_bytes(content)


def _other_machine(directory: Path) -> None:
    content = bytearray(library(directory).read_bytes())
    content[18:20] = (0x15).to_bytes(2, sys.byteorder)  # POWER
    library(directory).write_bytes(content)
    describe(directory)


def _no_interface(directory: Path) -> None:
    (directory / "x.cpp").write_text('extern "C" int create() { return 0; }')
    command = ["g++", "-shared", "-fPIC", "x.cpp", "-o", library(directory).name]
    subprocess.run(command, cwd=directory, check=True)
    describe(directory)


def _no_symbols(directory: Path) -> None:
    (directory / "x.cpp").write_text(
        'extern "C" { int nowhere(); int create_model() { return nowhere(); } '
        "int table = nowhere(); }"
    )
    command = ["g++", "-shared", "-fPIC", "x.cpp", "-Wl,-z,now", "-o", library(directory).name]
    subprocess.run(command, cwd=directory, check=True)
    describe(directory)


def _no_library(directory: Path) -> None:
    library(directory).unlink()


def _no_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


def _half_a_manifest(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_text(path.read_text()[:100])


def _other_version(directory: Path) -> None:
    path = directory / "manifest.json"
    version = re.search(r"_v([0-9a-f]{8})", path.read_text())
    assert version
    path.write_text(path.read_text().replace(f"l1kd_little_v{version[1]}", "l1kd_little_v00000000"))


@pytest.mark.csim
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_truncate, "cut short"),
        (_truncate_and_say_so, "cut short"),
        (_text, "no shared library"),
        (_flip, "its hash differs"),
        (_other_machine, "for another machine"),
        (_no_interface, "no emulator of l1kd: it has no create_model"),
        (_no_symbols, r"cannot be loaded \(.*nowhere"),
        (_no_library, "is missing"),
        (_no_manifest, "no manifest.json"),
        (_half_a_manifest, "not as l1kd writes it"),
        (_other_version, "is version l1kd_little_v"),
    ],
)
def test_a_wrong_library_is_said(
    built: emulator.Emulator, spoil: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    directory = copy(built, tmp_path / "e")
    spoil(directory)
    with pytest.raises(UserError, match=said) as caught:
        emulator.load(directory)
    assert "\n" not in str(caught.value) and "l1kd emulator RUN" in str(caught.value)


def test_without_a_compiler_nothing_is_left(
    built: emulator.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(built.directory.parent / "p")
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(UserError, match=r"no C\+\+ compiler"):
        emulator.build(project, tmp_path / "e")
    monkeypatch.setenv("CXX", "g++ -Dhls4mlEmulator=1")
    with pytest.raises(UserError, match="does not compile the emulator"):
        emulator.build(project, tmp_path / "e")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
@pytest.mark.csim
def test_the_best_student_is_delivered_and_held_against_the_exact_network(
    run: Context, tmp_path: Path
) -> None:
    alone = {"students": "best", "io_type": "io_parallel"}
    mine = copy_of(run, tmp_path / "r", verify={"max_auc_loss": 1}, firmware=alone)
    best = json.loads((mine.directory / "metrics.json").read_text())["best"]
    for name, kept in (("firmware.json", "io_parallel"), ("rtl.json", None)):
        path = mine.directory / name
        records = json.loads(path.read_text())
        wanted = [each for each in records if each["student"] == best]
        path.write_text(
            json.dumps([each for each in wanted if each.get("io_type") in (kept, None)])
        )
    verify(mine)
    name, built = emulator.deliver(mine.directory)
    compare_emulator(mine, name, built)
    assert name == json.loads((mine.directory / "metrics.json").read_text())["best"]
    assert built.directory.parent == mine.directory / "emulator"
    assert built.manifest.name == name and built.manifest.io_type == "io_parallel"

    def pairs() -> list[Pair]:
        records = run_files.read(mine.directory, "agreement.json")
        (record,) = [each for each in records if each.student == name]
        assert not any(p.candidate == "emulator" for r in records if r != record for p in r.pairs)
        return [pair for pair in record.pairs if pair.candidate == "emulator"]

    dataset = mine.dataset
    tested = len(dataset.test) + sum(len(each.test) for each in dataset.signals.values())
    assert {pair.inputs for pair in pairs()} == {"test", "corner"}
    for pair in pairs():
        assert (pair.reference, pair.mismatches, pair.io_type) == ("exact", 0, "io_parallel")
        assert pair.events == tested if pair.inputs == "test" else pair.events > 100
    # Once it is there, the gate holds it too: one of another student's is not this one's.
    before = pairs()
    verify(mine)
    assert pairs() == before


@pytest.mark.csim
def test_what_differs_is_not_delivered(run: Context, tmp_path: Path) -> None:
    mine = copy_of(run, tmp_path / "r")
    change_weight(mine.firmware("flat") / "hls/Vitis-io_parallel-latency", 0)
    with pytest.raises(CheckFailed, match=r"flat: the emulator differs .* in \d+ of \d+ events"):
        emulator.deliver(mine.directory, "flat")
    assert not list((mine.directory / "emulator").iterdir())
    with pytest.raises(UserError, match="no project of a student 'round'; it has those of flat"):
        emulator.deliver(mine.directory, "round")
    with pytest.raises(UserError, match=r"has no firmware\.json"):
        emulator.deliver(tmp_path)
