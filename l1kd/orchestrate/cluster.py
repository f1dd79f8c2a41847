"""Dask as a sweep needs it: quiet, a process per worker, no dashboard and no memory limits."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from l1kd.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connected"]

_SILENT = logging.CRITICAL + 1
_CONNECT_SECONDS = 10
_CONFIG = {
    # A run that waits at a busy worker would wait there while another is idle.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    # Cores are for the runs: as Dask comes, each of its processes takes 4 % of one to watch itself.
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    **{f"distributed.{name}.http.routes": [] for name in ("scheduler", "worker", "nanny")},
}


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of a scheduler; of a cluster on this machine, of `workers` processes, without one.

    Raises
    ------
    UserError
        If nothing answers at the scheduler's address.
    """
    import dask

    if scheduler is not None and not re.fullmatch(r"[a-z]+://[^/\s]+:\d+", scheduler):
        raise UserError(f"--scheduler {scheduler}: an address is like tcp://host:8786")
    with dask.config.set(_CONFIG):
        import distributed
        from distributed.versions import VersionMismatchWarning

        # After the import, which sets levels of its own.
        for name in ("distributed", "distributed.client", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(_SILENT)
        warnings.filterwarnings("ignore", category=VersionMismatchWarning)
        with contextlib.ExitStack() as stack:
            address: object = scheduler
            if scheduler is None:
                with _deaf():
                    address = stack.enter_context(
                        distributed.LocalCluster(
                            n_workers=workers,
                            threads_per_worker=1,
                            processes=True,
                            memory_limit=0,
                            dashboard_address=None,
                            silence_logs=_SILENT,
                            # Its server listens all the same, and two of them on one port warn.
                            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                        )
                    )
            try:
                client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(
                    f"--scheduler {scheduler}: no Dask scheduler answers there ({error}); "
                    "`dask scheduler` says its address when it starts"
                ) from error
            stack.enter_context(client)
            yield client


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which a terminal sends to all: we stop them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
