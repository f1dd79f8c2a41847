"""Jobs on several cores that leave nothing running behind, however their parent ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_sentinel
from typing import Any

from l1kd.core.errors import UserError

Pool = ProcessPoolExecutor | None
"""What `workers` gives: None stands for this process."""


@dataclass(frozen=True)
class Job:
    """A call to make in some process, and its share of the progress bar."""

    cost: float
    function: Callable[..., None]
    arguments: tuple[Any, ...]


def _die_with_parent() -> None:
    """Set a worker up to end at Ctrl-C, and when its parent is gone, even if that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait_for_sentinel([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


@contextlib.contextmanager
def workers(processes: int) -> Iterator[Pool]:
    """A pool of `processes` fresh interpreters; None, for `run_jobs`, if that is one."""
    if processes == 1:
        yield None
        return
    before = set(multiprocessing.active_children())
    # Fresh ones: Pythia and the threads of numerical libraries do not survive a fork safely.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_die_with_parent
    )
    try:
        yield pool
    except BaseException:
        # A job may take half a minute; whoever interrupts does not want to wait for that.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_jobs(pool: Pool, jobs: Sequence[Job], advance: Callable[[float], None]) -> None:
    """Do all `jobs`, in any order, and tell `advance` the cost of each that is done."""
    if pool is None:
        for job in jobs:
            job.function(*job.arguments)
            advance(job.cost)
        return
    pending: dict[Future[None], float] = {}
    try:
        for job in jobs:
            pending[pool.submit(job.function, *job.arguments)] = job.cost
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                future.result()
                advance(pending.pop(future))
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed (out of memory?): "
            "run the same command again to continue, with fewer processes if need be"
        ) from error
