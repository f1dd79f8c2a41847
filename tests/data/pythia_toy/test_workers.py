from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from l1kd.core.errors import UserError
from l1kd.core.processes import Job, run_jobs, workers


def leave_mark(path: Path) -> None:
    path.write_text(str(os.getpid()))


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
    with workers(processes) as pool:
        run_jobs(
            pool, [Job(i, leave_mark, (path,)) for i, path in enumerate(paths)], advanced.append
        )
    assert sorted(advanced) == [0, 1, 2, 3, 4]
    assert all(path.exists() for path in paths)
    assert (paths[0].read_text() == str(os.getpid())) is (processes == 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_s_error_is_raised_here(processes):
    with pytest.raises(UserError, match="no luck"), workers(processes) as pool:
        run_jobs(pool, [Job(1, fail, ("no luck",))], lambda _: None)


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match="run the same command again"), workers(2) as pool:
        run_jobs(pool, [Job(1, die, ())], lambda _: None)


def test_an_error_does_not_wait_for_the_other_jobs(tmp_path):
    late = Job(1, sleep_and_leave_mark, (tmp_path / "mark",))
    with pytest.raises(UserError, match="stop"), workers(2) as pool:
        run_jobs(pool, [late, Job(1, fail, ("stop",))], lambda _: None)
    assert not (tmp_path / "mark").exists()
