"""Scores new events by an exact network: on all cores, in bounded memory, no TensorFlow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.data.event_tables import Table
from l1kd.exact.network import Network

# Events of a task: few enough for memory, many enough that compressed pieces are read once.
_EVENTS = 1 << 15

# The table's place, the row of the first event, scores (events,) in LSBs of the output type.
Scored = tuple[int, int, NDArray[np.int64]]


def score_tables(network: Network, tables: Sequence[Table]) -> Iterator[Scored]:
    """Score all events in their order; the first bad event is a UserError with file and number.

    NumPy and HDF5 let other threads work meanwhile, so threads are enough.
    """
    check(network, tables)
    for table in tables:
        if table.kept_because and table.rows:
            table.read(0, 1)  # here, not by every thread at once
    pool = ThreadPoolExecutor(cores())
    # Else every thread's matrix products would start as many threads again.
    with threadpool_limits(1):
        try:
            jobs = ((score, network, tables[place], place, *rows) for place, *rows in parts(tables))
            yield from in_order(jobs, pool.submit, cores())
        finally:
            pool.shutdown(cancel_futures=True)


def parts(tables: Sequence[Table]) -> Iterator[tuple[int, int, int]]:
    """Place, first and last row of what is scored at a time."""
    for place, table in enumerate(tables):
        yield from ((place, *rows) for rows in table.ranges(_EVENTS))


def in_order(
    jobs: Iterable[tuple[Any, ...]], submit: Callable[..., Any], at_once: int
) -> Iterator[Any]:
    """Results of jobs (function, *arguments) in their order, about `at_once` of them submitted."""
    waiting: deque[Any] = deque()
    for job in jobs:
        waiting.append(submit(*job))
        if len(waiting) > at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def score_array(network: Network, events: ArrayLike) -> NDArray[np.int64]:
    """Scores (N,) of an array of events, also one that is mapped from a file."""
    array = np.asanyarray(events)
    if not array.ndim:
        raise UserError("events are an array (events, ...), not one number")
    table = Table.of("events", array)
    if table.rows <= _EVENTS:  # threads would cost more than they bring
        check(network, [table])
        return score(network, table, 0, 0, table.rows)[2]
    found = score_tables(network, [table])
    return np.concatenate([scores for _, _, scores in found])


def check(network: Network, tables: Iterable[Table]) -> None:
    """Refuse events of another shape than the network's; axes of one cell do not matter."""
    for table in tables:
        given, shape = ([n for n in each if n != 1] for each in (table.shape, network.shape))
        if given != shape and table.shape != (network.nodes[0].size,):
            raise UserError(
                f"{table.name}: events of shape {table.shape}; the network reads {network.shape}"
            )
        if table.dtype.kind not in "biuf":
            raise UserError(f"{table.name} holds {table.dtype}, numbers are expected")


def score(network: Network, table: Table, place: int, start: int, stop: int) -> Scored:
    """Scores of the rows from `start` up to `stop`."""
    events, port = table.read(start, stop).reshape(stop - start, *network.shape), network.port
    try:
        return place, start, network.counts(events)[:, 0]
    except ValueError as error:
        if (held := port.holds(events).reshape(len(events), -1)).all():
            raise
        event = int(np.argmin(held.all(axis=1)))
        value = events.reshape(len(events), -1)[event][~held[event]][0]
        raise UserError(
            f"{table.name}: event {start + event} has the value {value}; the port {port.text} has "
            f"values from {port.low:g} to {port.high:g} in steps of {port.lsb:g}: round and clip "
            "the values, or leave the event out"
        ) from error
