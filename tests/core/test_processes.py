"""Other programs: found, run, listened to, limited, locked, and ended in any case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from l1kd.core import processes
from l1kd.core.errors import UserError
from l1kd.core.files import is_passing, passing_name
from l1kd.core.processes import (
    Ended,
    Job,
    Program,
    call,
    held,
    run,
    run_jobs,
    scratch,
    temporary_files_in,
)


def alive(pid: int) -> bool:
    """It runs; one that waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 300
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def run_here(code: str, directory: Path, **options: Any) -> tuple[Ended, list[str]]:
    lines: list[str] = []
    command = [sys.executable, "-c", code]
    ended = run(command, directory, **{"limit": 60.0, "line": lines.append, **options})
    return ended, lines


def test_a_program_is_found_by_name_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = Program(("new", "old"), "get it", variable="L1KD_TEST_TOOL")
    assert tool.find() is None
    for name in ("old", "new"):
        (tmp_path / name).touch(mode=0o755)
        assert tool.find() == (name,)
    monkeypatch.setenv("L1KD_TEST_TOOL", "old -x 'a b'")
    assert tool.find() == ("old", "-x", "a b")
    monkeypatch.setenv("L1KD_TEST_TOOL", "elsewhere")
    assert tool.find() is None and tool.commands == [("elsewhere",)]


def test_a_short_program_is_called(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['TMPDIR'], sys.stdin.read()); sys.exit('no')"
    answer = call([sys.executable, "-c", code], tmp_path, given=b"in")
    assert (answer.returncode, answer.stderr) == (1, b"no\n")
    assert answer.stdout.decode() == f"{tmp_path} in\n"
    with pytest.raises(UserError, match="cannot be run"):
        call(["/nowhere/tool"])
    with pytest.raises(UserError, match=r"did not end within 0\.1 s"):
        call([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.1)


def test_output_is_passed_on(tmp_path: Path) -> None:
    code = (
        "import sys; sys.stdout.buffer.write(b'one\\ntwo\\x1b[2J \\xff\\r\\n'); "
        "sys.stderr.write('three'); sys.exit(3)"
    )
    with (tmp_path / "log").open("wb") as log:
        ended, lines = run_here(code, tmp_path, log=log)
    assert ended.code == 3 and sorted(lines) == [
        "one",
        "three",
        "two [2J \N{REPLACEMENT CHARACTER}",
    ]
    assert b"\x1b[2J \xff\r\n" in (tmp_path / "log").read_bytes()  # the log as it came
    with pytest.raises(UserError, match="cannot be run"):
        run(["/nowhere/tool"], tmp_path)
    assert run_here("import os; os.kill(os.getpid(), 9)", tmp_path)[0].code == 128 + 9


def test_output_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_MOST", 1000)
    monkeypatch.setattr(processes, "_GRACE", 0.0)
    with pytest.raises(UserError, match="it wrote more than 1000 bytes"):
        run_here("while True: print('x' * 100)", tmp_path)


def test_a_child_that_holds_the_pipe_is_not_waited_for(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True)"
    ended, lines = run_here(code, tmp_path, limit=500.0)
    assert ended.code == 0 and alive(int(lines[0]))
    os.kill(int(lines[0]), signal.SIGKILL)


def test_a_program_that_closes_its_output_has_a_limit_too(tmp_path: Path) -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(600)"
    ended, _ = run_here(code, tmp_path, limit=1.0, grace=0.0)
    assert ended.code is None


DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); "
FAMILY = (
    "import subprocess, sys, time; "
    f"p = subprocess.Popen([sys.executable, '-c', {DEAF + 'time.sleep(600)'!r}]); "
    "print(p.pid, flush=True); time.sleep(600)"
)


@pytest.mark.parametrize("how", ["limit", "stop"])
def test_a_program_that_ignores_being_told_is_killed(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(processes, "_GRACE", 0.5)
    options: dict[str, Any] = {"stop": lambda: len(lines) == 2}
    if how == "limit":
        clock = SimpleNamespace(monotonic=lambda: 1e9 if len(lines) == 2 else 0.0)
        monkeypatch.setattr(processes, "time", clock)
        options = {}
    ended, _ = run_here(FAMILY, tmp_path, line=lines.append, **options)
    monkeypatch.undo()
    assert ended.code is None and "deaf" in lines
    (child,) = (int(line) for line in lines if line.isdigit())
    until(lambda: not alive(child))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for processes")
def test_a_program_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """And holds the lock that it was given until then."""
    code = (
        "import sys; from pathlib import Path; from l1kd.core.processes import held, run\n"
        "with held(Path('lock')) as lock:\n"
        f"    run([sys.executable, '-c', {FAMILY!r}], Path('.'), lock=lock,\n"
        "        line=lambda line: print(line, flush=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip() for _ in range(2)}
    (child,) = (int(line) for line in said if line.isdigit())
    with pytest.raises(UserError, match="in use"), held(tmp_path / "lock", "in use"):
        pass
    parent.kill()
    parent.communicate()
    with held(tmp_path / "lock"):  # waits for all of them
        until(lambda: not alive(child))


def test_scratch_directories_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    with scratch(tmp_path / "p") as mine:
        (mine / "file").touch()
        users = tmp_path / ".p.killed.scratch.part"
        for path in (mine, users, left := tmp_path / passing_name(".scratch")):
            path.mkdir(exist_ok=True)
            os.utime(path, (0, 0))
        young = tmp_path / passing_name(".scratch")
        young.mkdir()
        with scratch(tmp_path / "p"):
            assert (mine / "file").exists() and young.exists() and not left.exists()
    assert {*tmp_path.iterdir()} == {young, users}


def test_temporary_files_are_the_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", before := tempfile.gettempdir())
    with temporary_files_in(tmp_path):
        (mine,) = tmp_path.iterdir()
        assert is_passing(mine.name, ".part")  # what `sweep` deletes after a kill
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == mine
        child = "import tempfile; print(tempfile.gettempdir())"
        assert call([sys.executable, "-c", child]).stdout.decode().strip() == str(mine)
        (mine / "left").touch()
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == before
    assert not list(tmp_path.iterdir())


def leave_mark(path: Path) -> None:
    path.write_text(str(os.getpid()), encoding="utf-8")


def fail(message: str) -> None:
    raise UserError(message)


def die() -> None:
    os._exit(9)


def sleep_and_leave_mark(path: Path) -> None:
    time.sleep(120)
    leave_mark(path)


@pytest.mark.parametrize("processes", [1, 2])
def test_all_jobs_are_done_and_counted(tmp_path, processes):
    advanced: list[float] = []
    paths = [tmp_path / str(i) for i in range(5)]
    jobs = [Job(i, leave_mark, (path,)) for i, path in enumerate(paths)]
    run_jobs(processes, jobs, advanced.append)
    assert sorted(advanced) == [0, 1, 2, 3, 4]
    assert all(path.exists() for path in paths)
    assert (paths[0].read_text() == str(os.getpid())) is (processes == 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_s_error_is_raised_here(processes):
    with pytest.raises(UserError, match="no luck"):
        run_jobs(processes, [Job(1, fail, ("no luck",))], lambda _: None)


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match="run the same command again"):
        run_jobs(2, [Job(1, die, ())], lambda _: None)


def test_an_error_does_not_wait_for_the_other_jobs(tmp_path):
    late = Job(1, sleep_and_leave_mark, (tmp_path / "mark",))
    with pytest.raises(UserError, match="stop"):
        run_jobs(2, [late, Job(1, fail, ("stop",))], lambda _: None)
    assert not (tmp_path / "mark").exists()
