"""The C simulation: the project's own C++, compiled once, whole or absent."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from l1kd.core.errors import UserError
from l1kd.core.files import is_passing
from l1kd.firmware.certificate.certify import calls_of
from l1kd.firmware.hls import c_simulation, hls4ml_convert
from l1kd.firmware.hls.project import Project, open_project
from l1kd.firmware.stimuli.corner_inputs import corners
from tests.firmware.networks import Projects, change_weight, events_like, few_vectors, little


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project; tests that change it take a copy."""
    model = little()
    return hls4ml_convert.to_hls(
        model, tmp_path_factory.mktemp("csim") / "p", vectors=few_vectors(model)
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("L1KD_CSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FAKE = """#!/bin/sh
# A compiler that counts its calls and writes programs that say what they are made of.
case "$*" in *--version*) echo fake; exit 0;; *"-x c++ "*) exit 0;; esac
for last; do :; done
case "$*" in *c++-header*) echo gpch > "$last"; exit 0;; esac  # parsed headers are no program
here="$(dirname "$0")"
echo x >> "$here/calls"
sleep ${FAKE_SECONDS:-0}
{ echo "#!/bin/sh"; echo "# $(cat "$(ls weights/w*.h | head -1)" calls.h | cksum)"; } > "$last"
env > "$here/environment"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that costs nothing; its calls are counted in `calls` beside it."""
    place = tmp_path / "fake"
    place.mkdir()
    (place / "c++").write_text(FAKE)
    (place / "c++").chmod(0o755)
    monkeypatch.setenv("CXX", str(place / "c++"))
    return place


def compiled(fake: Path) -> int:
    calls = fake / "calls"
    return len(calls.read_text().split()) if calls.exists() else 0


def copy(project: Project, directory: Path) -> Project:
    shutil.copytree(project.directory, directory)
    return open_project(directory)


def programs(cache: Path) -> list[str]:
    if not cache.exists():
        return []
    found = [path for path in cache.iterdir() if not path.name.endswith(".lock")]
    parsed = [each for each in found if each.is_file() and each.read_bytes()[:4] == b"gpch"]
    return sorted(path.name for path in found if path not in parsed)


def test_without_a_compiler_it_says_what_to_install(
    project: Project, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh = copy(project, tmp_path / "p")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"'g\+\+' is not found; install g\+\+ .*apt"):
        fresh.predict(np.zeros((1, 6)))
    monkeypatch.setenv("CXX", "nowhere/clang++ -stdlib=libc++")
    with pytest.raises(UserError, match=r"'nowhere/clang\+\+' is not found"):
        fresh.compile()
    assert programs(cache) == []


def test_an_unchanged_project_is_compiled_once(
    project: Project, cache: Path, fake: Path, tmp_path: Path
) -> None:
    mine = copy(project, tmp_path / "p")
    first = mine.compile()
    made = first.read_bytes()
    assert mine.compile() == first == open_project(mine.directory).compile()
    for name in ("README.md", "Makefile", "tb_data/inputs.dat"):  # are no part of the program
        with (mine.directory / name).open("a") as file:
            file.write("# mine\n")
    assert mine.compile() == first and first.read_bytes() == made
    # A new conversion, and another copy in another place, are the same program.
    hls4ml_convert.to_hls(little(), mine.directory, vectors=few_vectors(little()))
    assert mine.compile() == first
    moved = tmp_path / "else where" / "q"
    moved.parent.mkdir()
    other = copy(project, moved)
    moved.chmod(0o500)
    assert other.compile() == first
    assert not (mine.directory / "csim").exists() and not (moved / "csim").exists()
    assert compiled(fake) == 1 and programs(cache) == [first.name]


def test_other_content_is_another_program(
    project: Project, cache: Path, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = open_project(copy(project, tmp_path / "p").directory, calls_of)
    seen = {mine.compile()}
    change_weight(mine.directory, 1)
    seen.add(mine.compile())
    # The exact network decides which calls are run alone, and nothing else.
    (mine.directory / "network.json").write_text("{}")
    seen.add(mine.compile())
    it = mine.description
    shown = tuple((array, name, 0) for array, name in it.arrays.items())
    sizes = {layer.name: layer.shape for layer in it.layers}
    shown = tuple((array, name, int(np.prod(sizes[name]))) for array, name, _ in shown)
    ports = c_simulation.Ports(it.record.top, it.namespace, it.input.size, it.output.size, shown)
    bare = c_simulation.build(mine.directory, ports)
    assert bare in seen and len(seen) == 3  # a project that cannot be read has no calls
    monkeypatch.setenv("CXX", f"{fake / 'c++'} -O2")
    seen.add(mine.compile())
    monkeypatch.setenv("CXX", str(fake / "c++"))
    with (fake / "c++").open("a") as compiler:
        compiler.write("# another one of the same version\n")
    seen.add(mine.compile())
    assert len(seen) == compiled(fake) == 5


def test_a_damaged_program_is_compiled_again(
    project: Project, cache: Path, fake: Path, tmp_path: Path
) -> None:
    program = project.compile()
    whole = program.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole + b"rm -rf /\n"):
        program.write_bytes(damaged)
        assert project.compile() == program and program.read_bytes() == whole
    forged = program.with_name(program.name[:41] + 32 * "0")
    program.rename(forged)
    assert project.compile() == program and programs(cache) == [program.name]
    program.chmod(0o600)
    assert project.compile() == program and os.access(program, os.X_OK)
    assert compiled(fake) == 6


def test_a_program_in_a_project_is_not_run_and_not_deleted(
    project: Project, cache: Path, fake: Path, tmp_path: Path
) -> None:
    """Somebody's project may bring one along, under the very name that is looked for."""
    mine, elsewhere = copy(project, tmp_path / "p"), tmp_path / "elsewhere"
    name = mine.compile().name
    shutil.rmtree(cache)
    elsewhere.mkdir()
    forged = elsewhere / name
    forged.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    forged.chmod(0o755)
    os.utime(forged, (0, 0))
    (mine.directory / "csim").symlink_to(elsewhere)
    program = mine.compile()
    assert program.parent == cache and program.read_bytes() != forged.read_bytes()
    subprocess.run([program], check=True)
    hls4ml_convert.to_hls(little(), mine.directory, vectors=few_vectors(little()))
    assert not (tmp_path / "mark").exists() and forged.exists()


def test_two_processes_compile_once(
    project: Project, cache: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    with ThreadPoolExecutor(4) as pool:
        found = {done.result() for done in [pool.submit(project.compile) for _ in range(4)]}
    script = (
        "from l1kd.firmware.hls.project import open_project; "
        f"print(open_project({str(project.directory)!r}).compile())"
    )
    change_to = {**os.environ, "PYTHONPATH": str(Path(c_simulation.__file__).parents[3])}
    shutil.rmtree(cache)
    command = [sys.executable, "-c", script]
    both = [
        subprocess.Popen(command, env=change_to, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found |= {Path(process.communicate(timeout=60)[0].strip()) for process in both}
    assert len(found) == 1 and compiled(fake) == 2  # once by threads, once by processes


def test_the_cache_is_bounded_and_keeps_what_is_in_use(
    cache: Path, fake: Path, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache.mkdir(mode=0o700)
    old = {}
    for age, name in enumerate(("new", "recent", "old", "locked", "oldest")):
        old[name] = cache / f"{age:03x}{'0' * 37}-{'0' * 32}"
        old[name].write_bytes(bytes(1000))
        used = time.time() - (10 if name == "new" else 4000 + 1000 * age)
        os.utime(old[name], (used, used))
    (users := cache / ".abc.x.part").touch()
    os.utime(users, (0, 0))
    monkeypatch.setattr(c_simulation, "_ROOM", 3500)
    with FileLock(cache / ".003.lock"):  # another process works on it
        program = project.compile()
    kept = {name for name, path in old.items() if path.exists()}
    assert kept == {"new", "recent", "locked"} and program.exists()
    assert users.exists()
    monkeypatch.setattr(c_simulation, "_ROOM", 0)
    mine = copy(project, tmp_path / "p")
    change_weight(mine.directory, 1)
    assert mine.compile().exists() and program.exists() and old["new"].exists()
    assert not old["recent"].exists() and not old["locked"].exists()


def test_the_cache_belongs_to_the_user(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert c_simulation.cache_directory() == cache and cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(
        UserError, match=r"L1KD_CSIM_CACHE=.*others may write .*mode 777.*set it to"
    ):
        c_simulation.cache_directory()
    cache.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
        with pytest.raises(UserError, match=r"belongs to the user number \d+"):
            c_simulation.cache_directory()
    (tmp_path / "file").touch()
    monkeypatch.setenv("L1KD_CSIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"L1KD_CSIM_CACHE=.*file: File exists"):
        c_simulation.cache_directory()
    monkeypatch.delenv("L1KD_CSIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert c_simulation.cache_directory() == tmp_path / "xdg" / "l1kd" / "csim"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert c_simulation.cache_directory() == tmp_path / "home" / ".cache" / "l1kd" / "csim"
    # No home that can be used: a directory of this process alone.
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    private = c_simulation.cache_directory()
    assert private == c_simulation.cache_directory() and private.stat().st_mode & 0o777 == 0o700
    assert tmp_path not in private.parents


def test_a_compiler_reads_no_files_that_the_key_does_not_know(
    project: Project, cache: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("GCC_EXEC_PREFIX", "/nowhere/")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/needed")
    project.compile()
    seen = (fake / "environment").read_text()
    assert "/nowhere" not in seen and "LD_LIBRARY_PATH=/needed" in seen and "PATH=" in seen


@pytest.mark.csim
def test_a_changed_project_never_meets_a_stale_program(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    events = events_like(little(), mine.input_type, 300)
    before, first = mine.predict(events), mine.compile()
    change_weight(mine.directory, 1)
    assert (before != mine.predict(events)).any() and mine.compile() != first


@pytest.mark.csim
def test_a_moved_project_works(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    events = events_like(little(), mine.input_type, 50)
    expected = mine.predict(events)
    moved = tmp_path / "else where" / "q"
    moved.parent.mkdir()
    mine.directory.rename(moved)
    assert (open_project(moved).predict(events) == expected).all()


@pytest.mark.csim
@pytest.mark.parametrize("kind", ["latency", pytest.param("stream", marks=pytest.mark.full)])
def test_rewriting_changes_no_value(
    kind: str, projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled for speed gives what the project's own files give, and the same layers."""
    mine, model = projects[kind], projects.model
    corner, _ = corners(mine.input_type, (6, 6, 1), projects.exact, limit=500)
    events = np.concatenate([corner, events_like(model, mine.input_type, 1000)])
    fast, shown = mine.predict(events), mine.trace(events[:200])
    with monkeypatch.context() as patch:
        patch.setattr(c_simulation, "rewrite", lambda path, text: text)
        plain, plain_shown = mine.predict(events), mine.trace(events[:200])
    assert (fast == plain).all()
    for name, values in shown.items():
        assert (values == plain_shown[name]).all(), name


def test_rewriting_touches_only_what_it_knows() -> None:
    header = "// x\ndense1_weight_t w3[3] = {0.5, -0.25, 1e-05};\n#endif\n"
    table = c_simulation.rewrite("weights/w3.h", header)
    assert "static const double w3_values[3] = {0.5, -0.25, 1e-05};" in table
    assert "dense1_weight_t w3[3];" in table
    for strange in ("w_t w2[2] = {{0, 1, 0.5}};\n", "w_t w2[2] = {a, b};\n", "int x;\n"):
        assert c_simulation.rewrite("weights/w2.h", strange) == strange
    assert c_simulation.rewrite("defines.h", header) == header


def test_both_rewrites_find_what_hls4ml_writes(project: Project) -> None:
    firmware = project.directory / "firmware"
    for name in ("weights/w2.h", "weights/b2.h", "ap_types/etc/ap_private.h"):
        matches = list(firmware.glob(name)) or list(firmware.glob("weights/w*.h"))
        for path in matches:
            text = path.read_text()
            assert c_simulation.rewrite(path.relative_to(firmware).as_posix(), text) != text, path


@pytest.mark.csim
def test_what_does_not_compile_is_one_line(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    with (mine.directory / "firmware" / "defines.h").open("a") as header:
        header.write("\nthis is no C++;\n")
    with pytest.raises(UserError, match=r"does not compile the project: .*error") as caught:
        mine.compile()
    assert "\n" not in str(caught.value)


@pytest.mark.csim
def test_results_do_not_depend_on_processes_or_chunks(project: Project) -> None:
    events = events_like(little(), project.input_type, 1001)
    one = project.predict(events, processes=1)
    assert (project.predict(events, processes=3) == one).all()
    parts = [project.predict(events[start : start + 77]) for start in range(0, 1001, 77)]
    assert (np.concatenate(parts) == one).all()
    assert project.trace(events[:0])["score"].shape == (0, 1)
    assert (project.trace(events[:9])["score"] == one[:9]).all()


@pytest.mark.csim
def test_a_program_that_fails_is_said(project: Project) -> None:
    program = project.compile()
    with pytest.raises(UserError, match="not shown by this project"):
        c_simulation.trace(program, np.zeros((1, 6), np.int64), 1, [("nowhere", 3)])
    with pytest.raises(UserError, match="bytes came back"):
        c_simulation.simulate(program, np.zeros((2, 3), np.int64), 1, 1)


STUCK = """#!/bin/sh
# A compiler that has written half of its output when the process that called it is killed.
case "$*" in --version) echo stuck; exit 0;; "-x c++"*) exit 0;; esac
for last; do :; done
printf half > "$last"
touch "$(dirname "$0")/mark"
exec sleep 60
"""


@pytest.mark.csim
def test_a_killed_compilation_leaves_no_program(
    project: Project, cache: Path, fake: Path, tmp_path: Path
) -> None:
    mine = copy(project, tmp_path / "p")
    stuck = tmp_path / "c++"
    stuck.write_text(STUCK)
    stuck.chmod(stuck.stat().st_mode | stat.S_IXUSR)
    script = (
        "from l1kd.firmware.hls.project import open_project; "
        f"open_project({str(mine.directory)!r}).compile()"
    )
    environment = {
        **os.environ,
        "CXX": str(stuck),
        "PYTHONPATH": str(Path(c_simulation.__file__).parents[3]),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "mark").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    # What the killed compiler left is no program's name; the next call compiles.
    (left,) = programs(cache)
    assert is_passing(left, ".scratch")
    assert mine.compile().name in programs(cache) and compiled(fake) == 1


def test_simulation_needs_neither_tensorflow_nor_hls4ml() -> None:
    names = ("c_simulation", "backends", "canonical_cpp", "project", "testbench")
    modules = ", ".join(f"l1kd.firmware.hls.{name}" for name in names)
    script = (
        f"import sys, {modules}; heavy = set(sys.modules) & {{'tensorflow', 'hls4ml', 'qkeras'}}; "
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_lacks_a_part_does_not_blame_the_project(
    project: Project, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++ -wrapper /nowhere/cc1plus")  # g++ is there, its parts are not
    with pytest.raises(UserError) as caught:
        project.compile()
    said = str(caught.value)
    assert said.startswith("g++ does not compile three lines of C++: ") and "/nowhere" in said
    assert "broken: install g++" in said and "convert" not in said
