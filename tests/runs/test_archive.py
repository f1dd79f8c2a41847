"""Archives: whole, alike, checked without Python; no bit of one can change unnoticed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed, UserError
from l1kd.runs import archive as archives
from tests.conftest import call_l1kd, copy_of_run
from tests.firmware.networks import change_weight

Call = Callable[..., subprocess.CompletedProcess[str]]
PROJECT = "hls/Vitis-io_parallel-latency"
ICARUS = shutil.which("iverilog") is not None


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to export, read only but for its archives."""
    return copy_of_run(finished_run, tmp_path_factory.mktemp("exported") / "run")


@pytest.fixture(scope="module")
def archive(run: Path) -> Path:
    made = call_l1kd(run, "export", run)
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == str(run / "l1kd_flat.tar.gz")
    assert hashlib.sha256(Path(made.stdout.strip()).read_bytes()).hexdigest() in made.stderr
    return run / "l1kd_flat.tar.gz"


def write(path: Path, files: archives.Files, tar: bytes | None = None) -> Path:
    """An archive of files, or of a tar, whose own checksum is right."""
    rest = gzip.compress(archives._tar("l1kd_flat", files) if tar is None else tar, mtime=0)[10:]
    path.write_bytes(archives._head(rest) + rest)
    return path


def listed(files: archives.Files) -> archives.Files:
    """The files with checksums that are right."""
    own = {name: content for name, content in files.items() if name != archives.SUMS}
    return {**own, archives.SUMS: archives._sums(own)}


def told(path: Path) -> str:
    """The first fault that a check finds."""
    return next(f"{part}: {found}" for part, found, right in archives.check(path) if not right)


def test_an_archive_is_whole_and_checks(l1kd: Call, run: Path, archive: Path) -> None:
    files = archives.read(archive)
    assert {"README.md", "Makefile", "SHA256SUMS", "manifest.json", "thresholds.json"} < {*files}
    assert {"network.json", "report.html", f"{PROJECT}/LICENSE-Apache-2.0.txt"} < {*files}
    top = json.loads(files["verilog/l1kd.json"])["record"]["top"]
    assert {f"verilog/src/{top}.v", "verilog/NOTICE", f"{PROJECT}/tb_data/inputs.dat"} < {*files}
    verilog = {"README.md", "Makefile", "vivado.tcl", f"{top}.xdc", f"test/{top}_test.v"}
    assert {f"verilog/{name}" for name in verilog} < {*files}
    # The run's own vectors, up to 500 of them.
    total = int(files[f"{PROJECT}/tb_data/inputs.dat"].split()[4])
    inputs = files["verilog/test/inputs.hex"].splitlines()
    assert len(inputs) == -(-total // -(-total // 500)) > 100
    with tarfile.open(archive) as opened:  # as everybody's tar reads it
        assert {m.name for m in opened} == {f"l1kd_flat/{name}" for name in files}
    manifest = json.loads(files["manifest.json"])
    assert manifest["state"] == "verified"
    assert {*manifest["certificates"].values()} == {"certified for all inputs"}
    metrics = json.loads((run / "metrics.json").read_text())
    points = metrics["students"]["flat"]["working_points"]
    assert json.loads(files["thresholds.json"])["working_points"] == points
    readme = files["README.md"].decode()
    latency = json.loads(files["verilog/l1kd.json"])["record"]["latency_cycles"]
    assert f"{latency} edges after" in readme
    assert "not verified" not in readme
    assert all(f"| {point['threshold']} |" in readme for point in points)

    for path in (archive, run):
        checked = l1kd("check", path)
        assert checked.returncode == 0, checked.stderr
        assert checked.stdout.count("certified for all inputs") == 3
    assert checked.stdout.count("vectors differ") == 2


def test_two_exports_of_a_run_are_the_same_bytes(
    l1kd: Call, run: Path, archive: Path, tmp_path: Path
) -> None:
    before = archive.read_bytes()
    for place in ((), ("other.tar.gz",)):
        assert l1kd("export", run, *place).returncode == 0
    assert archive.read_bytes() == (tmp_path / "other.tar.gz").read_bytes() == before
    assert [*tmp_path.iterdir()] == [tmp_path / "other.tar.gz"]


def test_every_flipped_bit_is_found(archive: Path, tmp_path: Path) -> None:
    """200 at random; all of the gzip header, of the last bytes of data and of what ends it."""
    whole = archive.read_bytes()
    edges = [*range(8 * 12), *range(8 * (len(whole) - 9), 8 * len(whole))]
    places = [*np.random.default_rng(5).integers(0, 8 * len(whole), 200).tolist(), *edges]
    flipped, kept = tmp_path / "flipped.tar.gz", []
    for place in places:
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        flipped.write_bytes(content)
        try:
            archives.read(flipped)
        except (CheckFailed, UserError):
            continue
        kept.append(place)
    assert kept == []
    flipped.write_bytes(whole + b"\0")
    with pytest.raises(CheckFailed, match="damaged"):
        archives.read(flipped)
    flipped.write_bytes(whole[:-1])
    with pytest.raises(CheckFailed, match="damaged"):
        archives.read(flipped)


def test_make_checks_an_archive_without_python(archive: Path, tmp_path: Path) -> None:
    """With make, g++ (and what it calls), a shell and coreutils; no Python is found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    names = ["make", "g++", "as", "ld", "sh", "sha256sum", "cut", "cat", "test", "echo"]
    names += ["rm", "mkdir", "grep"]
    for name in [*names, *(["iverilog", "vvp"] if ICARUS else [])]:
        (tools / name).symlink_to(str(shutil.which(name)))
    unpacked = tmp_path / "unpacked"
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tools / "make", "-C", unpacked / "l1kd_flat", *arguments],
            env={"PATH": str(tools), "CXXFLAGS": "-O0"},
            capture_output=True,
            text=True,
        )

    done = make("check", f"PROJECTS={PROJECT}")  # one of two alike: g++ takes seconds
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PASSED: ") == 2 + ICARUS
    assert ("not simulated: verilog/" in done.stdout) == (not ICARUS)
    for name in ("iverilog", "vvp"):
        (tools / name).unlink(missing_ok=True)
    done = make("verilog")
    assert done.returncode == 0 and "not simulated: verilog/" in done.stdout
    random = np.random.default_rng(6)
    files = sorted(archives.read(archive))
    for name in ("SHA256SUMS", "manifest.json", "README.md", *random.choice(files, 5).tolist()):
        path = unpacked / "l1kd_flat" / name
        before = path.read_bytes()
        content = bytearray(before)
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        assert make("sums").returncode != 0, name
        path.write_bytes(before)
    # a capital is the same number to sha256sum
    sums = unpacked / "l1kd_flat/SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "A", 1))
    assert make("sums").returncode != 0


def test_a_changed_weight_is_refused_though_all_checksums_are_right(
    l1kd: Call, archive: Path, tmp_path: Path
) -> None:
    files, project = archives.read(archive), tmp_path / "project"
    for name, content in files.items():
        if name.startswith(f"{PROJECT}/"):
            path = project / name.removeprefix(f"{PROJECT}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    change_weight(project)
    for path in project.rglob("*.h"):
        files[f"{PROJECT}/{path.relative_to(project)}"] = path.read_bytes()
    changed = write(tmp_path / "changed.tar.gz", files)
    assert told(changed).startswith("SHA256SUMS: 1 changed")
    changed = write(tmp_path / "changed.tar.gz", listed(files))
    answer = l1kd("check", changed)
    assert answer.returncode == 1
    assert f"{PROJECT}: refused" in answer.stderr


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("Makefile", lambda text: text.replace(b"sha256sum --check", b"true"), "Makefile: is not"),
        ("README.md", lambda text: text + b"\n", "README.md: is not"),
        ("manifest.json", lambda text: text.replace(b"all", b"few", 1), "README.md: is not"),
        ("thresholds.json", lambda text: text.replace(b'"lsb": 0.', b'"lsb": 1.'), "thresholds"),
        (f"{PROJECT}/tb_data/outputs.dat", lambda text: text.replace(b"1", b"2", 9), "tb_data"),
        ("hello.txt", lambda _: b"hello", "hello.txt: is not"),
        ("verilog/src/TOP_core.v", lambda text: text.replace(b"<=", b"= ", 1), "refused"),
        ("verilog/src/TOP.v", lambda text: text.replace(b"if (rst)", b"if (!rst)"), "refused"),
        ("verilog/README.md", lambda text: text.replace(b"active high", b"active low"), "refused"),
        ("verilog/test/outputs.hex", lambda text: text[1:2] + text[1:], "refused"),
        # A certificate looks at no products of tools, but `make` would take them.
        (
            "verilog/build/verilator/run",
            lambda _: b"#!/bin/sh\n",
            "verilog/build/verilator/run: is",
        ),
        (f"{PROJECT}/l1kd_flat_test", lambda _: b"#!/bin/sh\n", f"{PROJECT}/l1kd_flat_test: is"),
    ],
)
def test_a_changed_file_is_found_though_all_checksums_are_right(
    name: str, change: Callable[[bytes], bytes], fault: str, archive: Path, tmp_path: Path
) -> None:
    files = archives.read(archive)
    name = name.replace("TOP", json.loads(files["verilog/l1kd.json"])["record"]["top"])
    files[name] = change(files.get(name, b""))
    assert fault in told(write(tmp_path / "changed.tar.gz", listed(files)))


def test_a_missing_and_an_unlisted_file_are_found(archive: Path, tmp_path: Path) -> None:
    files = archives.read(archive)
    changed = tmp_path / "changed.tar.gz"
    assert told(write(changed, {**files, "more.txt": b"1"})).endswith("not listed: more.txt")
    del files["README.md"]
    assert told(write(changed, files)).endswith("not listed: README.md")
    assert "README.md" in told(write(changed, listed(files)))


def hostile(kind: str) -> bytes:
    """A tar that would write elsewhere, or is read in two ways."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("l1kd_flat/a")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif kind == "hard_link":
            member.type, member.linkname = tarfile.LNKTYPE, "l1kd_flat/b"
        elif kind == "directory":
            member.type = tarfile.DIRTYPE
        elif kind == "pipe":
            member.type = tarfile.FIFOTYPE
        elif kind == "owner":
            member.uid = 7
        elif kind == "other_directory":
            tar.addfile(tarfile.TarInfo("l1kd_other/a"))
        elif kind in ("/etc/x", "l1kd_flat/../x", "../x/y", "l1kd_flat/./x", "x", "a/\nb"):
            member.name = kind
        tar.addfile(member)
        if kind == "twice":
            tar.addfile(member)
    if kind == "negative":
        made.getbuffer()[124:136] = b"\xff" * 12
    return made.getvalue()[: 1000 if kind == "short" else None] + (b"x" if kind == "tail" else b"")


KINDS = ["link", "hard_link", "directory", "pipe", "owner", "other_directory", "twice", "tail"]
KINDS += ["short", "negative", "/etc/x", "l1kd_flat/../x", "../x/y", "l1kd_flat/./x", "x", "a/\nb"]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_archives_are_refused(kind: str, l1kd: Call, tmp_path: Path) -> None:
    answer = l1kd("check", write(tmp_path / "hostile.tar.gz", {}, hostile(kind)))
    assert answer.returncode == 2, answer
    assert "sender" in answer.stderr
    assert [*tmp_path.iterdir()] == [tmp_path / "hostile.tar.gz"]


def test_what_unfolds_without_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST", 1 << 16)
    bomb = write(tmp_path / "bomb.tar.gz", {"a": bytes(1 << 20)})
    with pytest.raises(UserError, match="over 65536 bytes"):
        archives.read(bomb)


def test_other_files_are_no_archives_and_are_not_replaced(
    l1kd: Call, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "theirs.tar.gz"
    for content in (b"", gzip.compress(b"x")):
        other.write_bytes(content)
        assert l1kd("check", other).returncode == 2
        assert l1kd("export", run, other).returncode == 2
        assert other.read_bytes() == content
    os.mkfifo(tmp_path / "pipe")
    assert l1kd("check", tmp_path / "pipe").returncode == 2
    assert l1kd("check", tmp_path).returncode == 2
    (tmp_path / "link.tar.gz").symlink_to("nowhere")
    assert l1kd("export", run, "link.tar.gz").returncode == 2
    named = l1kd("export", run, "mine.zip")
    assert named.returncode == 2 and "written as .tar.gz" in named.stderr
    assert "image" in (refused := l1kd("export", run, "--student", "image")).stderr
    assert refused.returncode == 2


def test_firmware_that_is_not_verified_says_so_and_a_changed_one_stays(
    l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    agreement = (run / "agreement.json").read_text()
    (run / "agreement.json").unlink()
    assert l1kd("export", run).returncode == 0
    files = archives.read(run / "l1kd_flat.tar.gz")
    assert json.loads(files["manifest.json"])["state"] == "not verified"
    assert b"**not verified**" in files["README.md"]
    assert all(right for _, _, right in archives.check(run / "l1kd_flat.tar.gz"))

    (run / "agreement.json").write_text(agreement)
    before = (run / "manifest.json").read_text()
    manifest = json.loads(before)
    manifest["stages"]["verify"] |= {"state": "failed", "message": "a bit differs"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    refused = l1kd("export", run)
    assert refused.returncode == 1
    assert "not exported: a bit differs" in refused.stderr
    (run / "manifest.json").write_text(before)
    for place in (PROJECT, "verilog"):
        (more := run / "firmware/flat" / place / "more.h").touch()
        refused = l1kd("export", run)
        assert refused.returncode == 1
        assert f"{place}: the project is not the one that was judged" in refused.stderr
        more.unlink()
    change_weight(run / "firmware/flat" / PROJECT)
    assert l1kd("export", run).returncode == l1kd("check", run).returncode == 1


@pytest.mark.full
def test_an_emulator_is_in_the_archive_and_is_built_anew(
    l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    assert l1kd("emulator", run).returncode == 0
    assert l1kd("export", run).returncode == 0
    files = archives.read(run / "l1kd_flat.tar.gz")
    assert "source and library are those" in l1kd("check", run).stdout
    (library,) = (name for name in files if name.endswith(".so"))
    changed = bytearray(files[library])
    changed[-1] ^= 1
    files[library] = bytes(changed)
    assert "emulator" in told(write(tmp_path / "changed.tar.gz", listed(files)))
