"""Bad input, seen from outside: exit 2, one line with what, where and what to do, nothing left.

Whatever does not depend on the process runs in this one, by `l1kd.cli.main`: exit code, standard
error and files are those of a process of its own, which would only take longer to start. Where the
environment, the disk or TensorFlow's absence matters, there is one. What a reader makes of a
damaged file in detail is tested beside that reader.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from l1kd import cli
from l1kd.core.files import is_passing
from l1kd.data.mnist import FILES
from tests.conftest import copy_of_run

Call = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., None]

CONFIG = "bad.yaml"
TOY = "data: {source: l1toy}\n"
CALO = "data: {source: calo, background: x.h5, signals: {%s: y.h5}}\n"
MINE = "data: {source: arrays, background: x.npz, signals: {%s: y.npz}}\n"


def tree(directory: Path) -> dict[str, bytes]:
    """Every file under a directory and its content; l1kd.log may tell of the failure."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
        if path.name not in ("l1kd.log", ".lock")
    }


SIGNS_OF_LIFE = re.compile(r"\S+: reading \S.*|building the networks, once to find mistakes")


def check(code: object, stderr: str, words: Sequence[str], stage: str | None = None) -> None:
    """One line, exit 2; before it no more than the line of the stage that had begun."""
    assert code == 2, stderr
    *before, last = [line for line in stderr.splitlines() if line.strip()]
    begun = [line for line in before if not SIGNS_OF_LIFE.fullmatch(line)]
    assert [line.partition(" (stage ")[0] for line in begun] == ([stage] if stage else [])
    assert re.match(r"l1kd: error: \S", last)
    for word in words:
        assert word in last


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Run a command in this process, see it refused, and nothing changed around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("L1KD_DATA", raising=False)

    def call(words: Sequence[str], *arguments: object) -> None:
        before = tree(tmp_path)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        check(end.value.code, said.err, words)
        assert said.out == ""
        assert tree(tmp_path) == before

    return call


# --- configurations and commands ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TOY + "distilation: {}", [f"{CONFIG}:2", "unknown key", "'distillation'"]),
        (TOY + "distillation:\n  epohcs: 1", [f"{CONFIG}:3", "unknown key", "'epochs'"]),
        (TOY + "distillation: {epochs: many}", [f"{CONFIG}:2", "epochs", "integer", "'many'"]),
        (TOY + "students: {a: cicada_v1}", [f"{CONFIG}:2", "students", "list", "mapping"]),
        ("data: l1toy", [f"{CONFIG}:1", "data", "mapping", "'l1toy'"]),
        ("data: {source: l1toi}", [f"{CONFIG}:1", "unknown source 'l1toi'", "'l1toy'"]),
        (TOY + "students: [cicada_v3]", [f"{CONFIG}:2", "'cicada_v3'", "'cicada_v"]),
        (TOY + "teacher: {architecture: cicda}", [f"{CONFIG}:2", "'cicda'", "'cicada'"]),
        (TOY + "students: [cicada_v1, cicada_v1]", [f"{CONFIG}:2", "'cicada_v1'", "unique"]),
        (CALO % "a" + "name: a\nname: b", [f"{CONFIG}:3", "'name'", "twice"]),
        (CALO % "a: x.h5, a", [f"{CONFIG}:1", "'a'", "twice"]),
        (TOY + "name: ../escape", [f"{CONFIG}:2", "name", "'../escape'", "letters"]),
        (TOY + "students: [{name: /tmp/x, architecture: conv}]", [f"{CONFIG}:2", "'/tmp/x'"]),
        (MINE % "../../x", [f"{CONFIG}:1", "data.signals", "'../../x'", "letters"]),
        (MINE % "train", ["data.signals", "'train'", "choose another name"]),
        (TOY + "name: !!python/object/apply:os.getcwd []", [f"{CONFIG}:2", "plain YAML"]),
        (TOY + "seed: !!int seven", [f"{CONFIG}:2", "plain YAML", "'seven'"]),
        ("data: {source: l1toy", [f"{CONFIG}:1", "plain YAML"]),
        (TOY + "distillation: {exposure: [dataset]}", ["'dataset'", "no other data set"]),
    ],
)
def test_configurations(text: str, words: list[str], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(text)
    refused(words, "run", CONFIG)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "l1toi"], ["'l1toi'", "did you mean 'l1toy'"]),
        (["run", "mine.yaml"], ["mine.yaml", "no configuration file"]),
        (["run", "l1toy", "--until", "tran"], ["--until", "'tran'", "train"]),
        (["evalute", "runs/x"], ["'evalute'", "evaluate"]),
        (["score"], ["Missing argument 'RUN'", "see `l1kd score -h`"]),
        (["check", "none.tar.gz"], ["none.tar.gz", "No such file", "correct the path"]),
        (["run", "l1toy", "--set", "distillation.epohcs=3"], ["--set", "'epochs'"]),
        (["run", "l1toy", "--set", "distillation.epochs=three"], ["--set", "integer", "'three'"]),
        (["run", "l1toy", "--set", "name=../x"], ["--set", "'../x'", "letters"]),
        (["run", "l1toy", "--set", "seed=!!python/name:os.system "], ["--set", "plain YAML"]),
        (["run", "l1toy", "--set", "data.train_events=1"], ["data.train_events", "at least 2"]),
        (["run", "l1toy", "--set", "data.directory=there"], ["there/train.h5", "generate"]),
        (["run", "l1toy", "--run", "file"], ["file", "not a run", "--run"]),
        (["evaluate", "there"], ["there", "not a run", "l1kd run CONFIG"]),
        (["compare", "there", "file"], ["there", "not a run", "l1kd run CONFIG"]),
        (["data", "fetch", "mnits"], ["'mnits'", "did you mean 'mnist'"]),
        (["data", "fetch", "mnist", "--mirror", "ftp://x", "--out", "new"], ["ftp://x", "https"]),
        (["data", "fetch", "mnist", "--out", "file"], ["file", "cannot be written", "--out"]),
        (["data", "generate", "--out", "new", "--train", "-1"], ["--train is -1", "0 or more"]),
        (["data", "generate", "--out", "new", "--signal", "ttbr"], ["'ttbr'", "'ttbar'"]),
    ],
)
def test_commands(arguments: list[str], words: list[str], refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    refused(words, *arguments)


# --- events ---------------------------------------------------------------------------------------

EVENTS = np.random.default_rng(2).integers(0, 8, (60, 3, 2))
REGIONS = np.random.default_rng(3).integers(0, 8, (60, 18, 14))


def with_value(events: Any, value: float) -> Any:
    changed = events.astype(np.float64)
    changed[17, 1, 1] = value
    return changed


def write_npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def write_h5(path: Path, **arrays: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", chunks=True)


def write_idx(path: Path) -> None:
    """A file that looks like MNIST's training images, with other content."""
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60, 28, 28))
    noise = np.random.default_rng(4).integers(0, 256, 60 * 784, np.uint8).tobytes()
    path.write_bytes(gzip.compress(header + noise))


def arrays(file: str = "x.npz", **more: Any) -> dict[str, Any]:
    grid = {"word": 4, "integer": 4, "signed": False}
    return {"source": "arrays", "background": file, "grid": grid, **more}


def run_on(refused: Refused, words: Sequence[str], data: dict[str, Any]) -> None:
    Path(CONFIG).write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
    refused(words, "run", CONFIG)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "truncated"),
    "corrupt": (lambda whole: whole[:-99] + bytes(60) + whole[-39:], "damaged"),
    "overwritten": (lambda whole: bytes(64) + whole[64:], "not"),
    "something else": (lambda whole: b"<html>please log in</html>", "not"),
    "empty": (lambda whole: b"", "not"),
}


@pytest.mark.parametrize("damage", ["missing", "a directory", "a pipe", *DAMAGE])
@pytest.mark.parametrize("kind", ["npz", "h5", "gz"])
def test_files(kind: str, damage: str, refused: Refused, tmp_path: Path) -> None:
    images = {"source": "mnist", "directory": "."}
    name, write, data = {
        "npz": ("x.npz", lambda path: write_npz(path, events=EVENTS), arrays()),
        "h5": (
            "x.h5",
            lambda path: write_h5(path, CaloRegions=REGIONS.astype(np.int16)),
            {"source": "calo", "background": "x.h5"},
        ),
        "gz": (f"{FILES[0]}.gz", write_idx, images),
    }[kind]
    path = tmp_path / name
    for file in FILES[1:] if kind == "gz" else ():
        write_idx(tmp_path / f"{file}.gz")
    write(path)
    whole = path.read_bytes()
    path.unlink()
    words = [name.removesuffix(".gz")]
    if damage == "a directory":
        path.mkdir()
        words.append("not there" if kind == "gz" else "a directory")
    elif damage == "a pipe":
        os.mkfifo(path)
        words.append("not there" if kind == "gz" else "a pipe")
    elif damage == "missing":
        words.append("not there" if kind == "gz" else "no such file")
    else:
        change, word = DAMAGE[damage]
        path.write_bytes(change(whole))
        words.append(word)
    run_on(refused, words, data)


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("mine.yaml", ["run", "mine.yaml"]),
        ("mine.keras", ["import", "mine.keras", "l1toy"]),
        ("mine.h5", ["import", "mine.h5", "l1toy"]),
        ("mine.yaml", ["import", "model", "mine.yaml"]),
        ("mine.tar.gz", ["check", "mine.tar.gz"]),
        ("train.h5", ["run", "l1toy", "--set", "data.directory=."]),
        ("l1kd.yaml", ["init", "."]),
    ],
)
def test_pipes(file: str, arguments: list[str], refused: Refused, tmp_path: Path) -> None:
    """Who opened one would wait for ever."""
    os.mkfifo(tmp_path / file)
    refused([file, "not a regular file"], *arguments)


def test_images_that_are_others(refused: Refused, tmp_path: Path) -> None:
    for file in FILES:
        write_idx(tmp_path / f"{file}.gz")
    # plain IDX is checked as well: its header tells that half of it is missing
    half = gzip.decompress((tmp_path / f"{FILES[0]}.gz").read_bytes())[:20_000]
    run_on(refused, [FILES[0], "checksum"], {"source": "mnist", "directory": "."})
    (tmp_path / f"{FILES[0]}.gz").write_bytes(half)
    run_on(refused, [FILES[0], "truncated"], {"source": "mnist", "directory": "."})
    nowhere = {"source": "fashion_mnist", "directory": "nowhere"}
    run_on(refused, ["nowhere", "l1kd data fetch fashion_mnist"], nowhere)


@pytest.mark.parametrize(
    ("content", "data", "words"),
    [
        ({"events": np.array([{}] * 60)}, arrays(), ["pickled", "save an array of numbers"]),
        ({"events": EVENTS[:, 0, 0]}, arrays(), ["(60,)", "(events, ...)"]),
        ({"a": EVENTS, "b": EVENTS}, arrays(), ["a, b", "x.npz:KEY"]),
        ({"a": EVENTS}, arrays("x.npz:events"), ["'events'", "there is a"]),
        ({"events": EVENTS}, arrays(signals={"s": "other.npz"}), ["other.npz", "(3, 1)", "(3, 2)"]),
        ({"events": EVENTS}, arrays(test="x.npz"), ["data.background", "data.test", "one role"]),
        ({"events": EVENTS}, arrays(signals={"s": "one.npz"}), ["one.npz", "'s'", "at least 2"]),
        ({"events": EVENTS[:0]}, arrays(), ["no events"]),
        ({"events": EVENTS[:5]}, arrays(), ["'val'", "at least 2", "data.split"]),
        ({"events": EVENTS}, arrays(split=[0.99, 0.005, 0.005]), ["'val'", "data.split"]),
        ({"events": EVENTS / 2}, arrays(grid=None), ["float64", "data.grid"]),
        ({"events": with_value(EVENTS, np.nan)}, arrays(), ["event 17", "nan", "leave"]),
        ({"events": with_value(EVENTS, np.inf)}, arrays(), ["event 17", "inf", "leave"]),
        ({"events": with_value(EVENTS, -1)}, arrays(), ["event 17", "-1", "range 0 to 15"]),
        ({"events": with_value(EVENTS, 16)}, arrays(), ["event 17", "16", "range 0 to 15"]),
        ({"events": with_value(EVENTS, 0.5)}, arrays(), ["event 17", "0.5", "steps of 1"]),
    ],
)
def test_arrays(
    content: dict[str, Any],
    data: dict[str, Any],
    words: list[str],
    refused: Refused,
    tmp_path: Path,
) -> None:
    write_npz(tmp_path / "x.npz", **content)
    write_npz(tmp_path / "other.npz", events=EVENTS[:, :, :1])
    write_npz(tmp_path / "one.npz", events=EVENTS[:1])
    run_on(refused, ["one.npz" if "one.npz" in words else ".npz", *words], data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"Regions": REGIONS}, ["CaloRegions", "there is: Regions", "`arrays`"]),
        ({"CaloRegions": REGIONS[:, :, :13]}, ["(60, 18, 13)", "(events, 18, 14)"]),
        ({"CaloRegions": REGIONS[:3]}, ["'val'", "at least 2"]),
        ({"CaloRegions": with_value(REGIONS, np.nan)}, ["event 17", "nan", "0 to 1023"]),
        ({"CaloRegions": with_value(REGIONS, -np.inf)}, ["event 17", "-inf", "0 to 1023"]),
        ({"CaloRegions": with_value(REGIONS, -1)}, ["event 17", "-1", "0 to 1023"]),
        ({"CaloRegions": with_value(REGIONS, 1024)}, ["event 17", "1024", "0 to 1023"]),
        ({"CaloRegions": with_value(REGIONS, 0.5)}, ["event 17", "0.5", "0 to 1023"]),
    ],
)
def test_calorimeter_regions(
    content: dict[str, Any], words: list[str], refused: Refused, tmp_path: Path
) -> None:
    write_h5(tmp_path / "x.h5", **content)
    run_on(refused, ["x.h5", *words], {"source": "calo", "background": "x.h5"})


@pytest.mark.parametrize(
    "data",
    [
        {"source": "l1toi"},
        {"source": "calo", "background": "none.h5"},
    ],
    ids=["configuration", "events"],
)
def test_it_is_found_before_tensorflow_is_imported(
    data: dict[str, Any], l1kd_process: Call, tmp_path: Path
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('TensorFlow was imported')")
    (tmp_path / CONFIG).write_text(yaml.safe_dump({"data": data}))
    answer = l1kd_process("run", CONFIG)
    check(answer.returncode, answer.stderr, [])


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to be damaged."""
    return copy_of_run(finished_run, tmp_path / "run")


def rewrite_layer(path: Path, **values: Any) -> None:
    """Change a layer in the configuration of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    config["config"]["layers"][2].update(values)
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def check_left(run: Path, before: dict[str, bytes]) -> None:
    """After a stage that failed: the results as they were, nothing half-written."""
    after = tree(run)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"manifest.json"}


def test_a_model_with_a_lambda(l1kd: Call, run: Path) -> None:
    rewrite_layer(run / "students" / "flat.keras", class_name="Lambda")
    before = tree(run)
    answer = l1kd("evaluate", run)
    words = ["students/flat.keras", "'Lambda'", "without running code"]
    check(answer.returncode, answer.stderr, words, "evaluate")
    check_left(run, before)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("students/flat.keras", {"class_name": "Mine", "module": "os"}, ["'Mine'", "code"]),
        ("students/flat.keras", b"PK", ["students/flat.keras", "not a model"]),
        ("teacher.keras", b"PK", ["teacher.keras", "not a model"]),
        ("target.json", b"{", ["target.json", "damaged", "train"]),
    ],
)
def test_damaged_networks(
    file: str,
    damage: dict[str, str] | bytes,
    words: list[str],
    run: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if isinstance(damage, bytes):
        (run / file).write_bytes(damage)
    else:
        rewrite_layer(run / file, **damage)
    before = tree(run)
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", str(run)])
    check(end.value.code, capfd.readouterr().err, words, "evaluate")
    check_left(run, before)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("manifest.json", '{"format_version": 99}', ["format 99", "reads format", "new run"]),
        ("manifest.json", '{"format_ver', ["manifest.json", "damaged", "new run"]),
        ("config.yaml", "!!python/name:os.system ''", ["config.yaml", "plain YAML"]),
        ("config.yaml", "name: run", ["config.yaml", "data", "required"]),
        ("metrics.json", None, ["'evaluate' has not finished", "l1kd evaluate"]),
        ("students/flat.keras", None, ["'train' has not finished", "l1kd train"]),
    ],
)
def test_damaged_runs(
    file: str, content: str | None, words: list[str], refused: Refused, run: Path
) -> None:
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    refused(words, "verify", "run")


def test_another_configuration_of_a_run(refused: Refused, finished_run: Path, run: Path) -> None:
    words = ["run", "another configuration", "seed: 7 -> 8", "--run"]
    config = finished_run.parent / "tiny.yaml"
    refused(words, "run", config, "--run", "run", "--set", "name=run", "--set", "seed=8")


@pytest.mark.parametrize("cxx", ["", "nonesuch-c++ -O1"])
def test_no_compiler(cxx: str, l1kd: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    before = tree(run)
    answer = l1kd("verify", run, PATH=str(tmp_path / "bin"), CXX=cxx)
    words = [cxx.split()[0] if cxx else "'g++'", "not found", "install g++", "CXX"]
    check(answer.returncode, answer.stderr, words, "verify")
    check_left(run, before)


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> Call:
    """Run shell commands with a file system of their own, which ends with them, at ./disk."""
    (tmp_path / "disk").mkdir()

    def call(options: str, commands: str) -> subprocess.CompletedProcess[str]:
        script = f"mount -t tmpfs -o {options} none disk || exit 99\n{commands}"
        try:
            answer = subprocess.run(
                ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
                cwd=tmp_path,
                env={**os.environ, "PYTHON": sys.executable},
                capture_output=True,
                text=True,
                timeout=600,
            )
        except FileNotFoundError:
            pytest.skip("a file system of one's own needs unshare (util-linux)")
        if answer.returncode == 99 or answer.stderr.startswith("unshare"):
            pytest.skip(f"this machine allows no file system of one's own: {answer.stderr}")
        return answer

    return call


# Commands in one process, which starts TensorFlow once; the exit code of each on a line.
COMMANDS = """
import contextlib, shutil, sys
from pathlib import Path
from l1kd.cli import main
@contextlib.contextmanager
def full_but(room):
    Path("disk/room").write_bytes(bytes(room))
    with contextlib.suppress(OSError), open("disk/filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1024))
    Path("disk/room").unlink()
    yield
    Path("disk/filler").unlink()
def l1kd(*arguments):
    try:
        main([*arguments])
    except SystemExit as end:
        print(end.code, flush=True)
    print("--", file=sys.stderr, flush=True)
"""


def said(answer: subprocess.CompletedProcess[str]) -> list[tuple[int, str]]:
    """Exit code and standard error of each of the commands."""
    assert answer.returncode == 0, answer.stderr
    *errors, rest = answer.stderr.split("--\n")
    assert not rest
    return list(zip(map(int, answer.stdout.split()), errors, strict=True))


def test_a_full_disk(on_disk: Call, run: Path, tmp_path: Path) -> None:
    # With some room the manifest is still written, and the scores no longer.
    rooms = (0, 16_384)
    (tmp_path / "commands.py").write_text(
        f"""{COMMANDS}
for room in {rooms}:
    shutil.copytree("run", "disk/run", ignore=shutil.ignore_patterns("l1kd.log", "firmware"))
    with full_but(room):
        l1kd("evaluate", "disk/run")
        shutil.copytree("disk/run", f"after{{room}}")
    shutil.rmtree("disk/run")
"""
    )
    answers = said(on_disk("size=8m", '"$PYTHON" commands.py'))
    for room, (code, stderr) in zip(rooms, answers, strict=True):
        check(code, stderr, ["No space left", "free some space"], "evaluate")
        shutil.copytree(run / "firmware", tmp_path / f"after{room}" / "firmware")
        check_left(tmp_path / f"after{room}", tree(run))


@pytest.mark.full
def test_a_full_disk_while_hls4ml_writes(
    on_disk: Call, finished_run: Path, run: Path, tmp_path: Path
) -> None:
    rooms = (65_536, 400_000, 1_500_000)  # a project has some 3 MB
    (tmp_path / "commands.py").write_text(
        f"""{COMMANDS}
shutil.copytree("run", "disk/run", ignore=shutil.ignore_patterns("l1kd.log", "firmware*"))
for room in {rooms}:
    with full_but(room):
        l1kd("convert", "disk/run")
        shutil.copytree("disk/run", f"after{{room}}")
l1kd("convert", "disk/run")
shutil.copytree("disk/run", "whole")
"""
    )
    *full, again = said(on_disk("size=64m", '"$PYTHON" commands.py'))
    for room, (code, stderr) in zip(rooms, full, strict=True):
        check(code, stderr, ["No space left", "free some space"], "convert")
        after = tmp_path / f"after{room}"
        assert not [path for path in after.rglob("*") if is_passing(path.name, "")]
        assert not (after / "firmware.json").exists()
        # Projects are whole or absent.
        assert not [*after.glob("firmware/*/verilog")]
        for project in after.glob("firmware/*/hls/*"):
            assert tree(project) == tree(tmp_path / "whole" / project.relative_to(after))
    assert again[0] == 0, again[1]
    records = [
        json.loads((each / "firmware.json").read_text()) for each in (tmp_path / "whole", run)
    ]
    assert records[0] == records[1]


def test_a_read_only_disk(on_disk: Call, finished_run: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "commands.py").write_text(
        f"""{COMMANDS}
l1kd("run", "{finished_run.parent}/tiny.yaml", "--run", "disk/new")
l1kd("evaluate", "disk/run")
l1kd("report", "disk/run")
"""
    )
    before = tree(run)
    new, *old = said(
        on_disk(
            "size=64m",
            "cp -r run disk/run; mount -o remount,ro none disk\n"
            '"$PYTHON" commands.py; code=$?; cp -r disk/run after; exit $code',
        )
    )
    assert len(old) == 2
    for (code, stderr), where in zip((new, *old), ("new", "run", "run"), strict=True):
        check(code, stderr, [f"disk/{where}", "cannot be written"])
    check_left(tmp_path / "after", before)


def test_a_disk_that_generate_cannot_write(on_disk: Call) -> None:
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    small = "--train 30 --test 30 --signal-events 5 --signal ttbar --pileup-mean 1 --processes 1"
    for options, word in (("ro", "Read-only"), ("size=8k", "No space left")):
        answer = on_disk(
            options,
            f'"$PYTHON" -m l1kd data generate --out disk/new {small}; code=$?; '
            "find disk -name '*.part*'; exit $code",
        )
        last = answer.stderr.splitlines()[-1]
        check(answer.returncode, last, ["disk/new", word, "--out"])
        assert answer.stdout == ""
