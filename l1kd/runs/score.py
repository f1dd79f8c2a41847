"""`l1kd score` and `l1kd rates`: scores of new events in a file, thresholds and rates of a run."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from l1kd import __version__
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.files import atomic, check_free, file_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.event_tables import Table
from l1kd.data.sources import SOURCES, open_table
from l1kd.data.user_arrays import check_kept
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import Threshold, score_histogram
from l1kd.evaluation.rates import accepted as accepted_by
from l1kd.evaluation.score_events import Scored, check, in_order, parts, score, score_tables
from l1kd.exact.network import Network, from_json
from l1kd.report import number_format as numbers
from l1kd.report.export import as_json
from l1kd.report.tables import Column
from l1kd.report.tables import Table as ShownTable
from l1kd.runs.open_run import Run
from l1kd.runs.run import open_context

FORMAT_VERSION = 1  # of files of scores
Columns = dict[str, NDArray[Any]]
Write = Callable[[Columns], None]


@dataclass(frozen=True)
class Cluster:
    """Where events are scored: this process' threads, processes here, or a Dask cluster."""

    scheduler: str | None = None  # its address
    workers: int | None = None  # processes here

    def score(
        self, context: Context, network: Network, files: Sequence[str], tables: Sequence[Table]
    ) -> Iterator[Scored]:
        """Scores of all events, in their order."""
        if self == Cluster():
            yield from score_tables(network, tables)
        else:
            yield from self._on_dask(context, network, files, tables, _score_rows)

    def histogram(
        self, context: Context, network: Network, files: Sequence[str], tables: Sequence[Table]
    ) -> Any:
        """The histogram of all scores, as `score_histogram`."""
        kind = network.output_types[0]
        found: Iterator[Any]
        if self == Cluster():
            found = (score_histogram(kind, own) for _, _, own in score_tables(network, tables))
        else:
            found = self._on_dask(context, network, files, tables, _count_rows)
        total = score_histogram(kind)
        with context.progress("events", sum(table.rows for table in tables)) as advance:
            for part in found:
                total += part
                advance(int(part.sum()))
        return total

    def _on_dask(
        self,
        context: Context,
        network: Network,
        files: Sequence[str],
        tables: Sequence[Table],
        function: Callable[..., Any],
    ) -> Iterator[Any]:
        """Results of a function for every part of the files, in order; workers open them again."""
        from l1kd.runs.sweep import connected, plain_fault

        check(network, tables)
        # A path may end in `:key`, and means the same from any directory.
        paths = [str(Path.cwd() / each) for each in files]
        stored, section = json.dumps(network.to_json()), context.config.data.model_dump_json()
        with connected(self.scheduler, self.workers or 1) as client:
            if not (threads := sum(client.nthreads().values())):
                context.say("waiting: the scheduler has no workers")
            jobs = (
                (function, stored, section, paths[place], tables[place].rows, place, *rows)
                for place, *rows in parts(tables)
            )
            submit = functools.partial(client.submit, pure=False)
            try:
                yield from in_order(jobs, submit, 2 * max(threads, 16))
            except (UserError, OSError, GeneratorExit):
                raise
            except Exception as error:  # of a worker
                raise UserError(f"scoring on Dask: {plain_fault(error)}") from error


def score_files(
    directory: Path,
    files: Sequence[str],
    *,
    student: str | None = None,
    threshold: int | None = None,
    rate_khz: float | None = None,
    out: Path | None = None,
    cluster: Cluster = Cluster(),
) -> Path:
    """Score the events of files by a student's exact network; the Parquet or HDF5 file written.

    The run is only read. What is written is whole or not there, and replaces nothing. It has the
    same bytes wherever the events were scored.
    """
    context = open_context(directory)
    run, started = Run(context.directory, context.config), time.monotonic()
    name, student = run.directory.resolve().name, student or run.best
    out = out or Path(f"{name}-scores.parquet")
    if out.suffix.lower() not in _WRITERS:
        raise UserError(f"{out}: scores are written as {', '.join(_WRITERS)}; end the name so")
    check_free(out)
    network, level = run.network(student), None if threshold is None else Threshold(threshold)
    if rate_khz is not None:
        level = run.threshold(rate_khz, student)
    tables = _open(run, files, network)
    lsb, events, accepted = network.output_types[0].lsb, sum(table.rows for table in tables), 0
    rate = None
    if level is not None and run.config.crossings_mhz is not None:
        rate = run.rate(level, student)._asdict()
    about = {
        "format_version": FORMAT_VERSION,
        "l1kd": __version__,
        "run": name,
        "student": student,
        "lsb": lsb,
        "threshold": None if level is None else int(level),
        "rate_khz": rate,
        "network_sha256": file_hash(context.firmware(student) / "network.json"),
        "files": [
            {
                "file": each.name.encode(errors="replace").decode(),  # a name may be no text
                "events": each.rows,
                "bytes": each.file.stat().st_size,
            }
            for each in tables
        ],
    }

    def columns(place: int, start: int, scores: NDArray[np.int64]) -> Columns:
        found: Columns = {
            "file": np.full(len(scores), place, np.int32),
            "event": np.arange(start, start + len(scores), dtype=np.int64),
            "score_lsb": scores,
            "score": scores * lsb,
        }
        return found if level is None else {**found, "accept": scores >= level}

    with atomic(out) as temporary:
        empty = columns(0, 0, np.empty(0, np.int64))
        with (
            _WRITERS[out.suffix.lower()](temporary, about, empty) as write,
            context.progress("events", events) as advance,
        ):
            for part in cluster.score(context, network, files, tables):
                write(found := columns(*part))
                accepted += int(np.sum(found.get("accept", 0)))
                advance(len(part[2]))
        check_free(out)  # somebody else may have come first
    seconds = time.monotonic() - started
    text = f"{events:,} events in {numbers.duration(seconds)} ({events / seconds:,.0f} events/s)"
    if level is not None:
        text += f", {accepted:,} accepted by a threshold of {level:,} LSB"
    context.say(f"{student} of {run.directory}: {text}")
    return out


def _open(run: Run, files: Sequence[str], network: Network) -> list[Table]:
    if len(set(files)) < len(files):
        raise UserError("a file is named twice; name it once")
    tables = [open_table(run.config.data, each, network.port) for each in files]
    check_kept(tables)
    return tables


def _score_rows(
    stored: str, section: str, file: str, rows: int, place: int, start: int, stop: int
) -> Scored:
    """Scores of the rows of a file, by a worker."""
    network = _network(stored)
    table = _table(section, file, network.port)
    if table.rows != rows:
        raise UserError(f"{file} has {table.rows} events where a worker reads it, and not {rows}")
    with threadpool_limits(1):
        return score(network, table, place, start, stop)


def _count_rows(stored: str, *arguments: Any) -> Any:
    """As `_score_rows`, a histogram of the scores."""
    scores = _score_rows(stored, *arguments)[2]
    return score_histogram(_network(stored).output_types[0], scores)


@functools.lru_cache(maxsize=4)
def _network(stored: str) -> Network:
    return from_json(json.loads(stored))


@functools.lru_cache(maxsize=64)
def _table(section: str, file: str, port: FixedPoint) -> Table:
    values = json.loads(section)
    return open_table(SOURCES[values["source"]].section.model_validate(values), file, port)


@contextlib.contextmanager
def _parquet(path: Path, about: dict[str, Any], columns: Columns) -> Iterator[Write]:
    """Write columns like these as row groups; `file` is a dictionary of names."""
    import pyarrow
    from pyarrow import parquet

    names = pyarrow.array([each["file"] for each in about["files"]], pyarrow.string())

    def batch(columns: Columns) -> Any:
        file, *others = map(pyarrow.array, columns.values())
        file = pyarrow.DictionaryArray.from_arrays(file, names)
        return pyarrow.record_batch([file, *others], names=list(columns))

    schema = batch(columns).schema.with_metadata({"l1kd": json.dumps(about)})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield lambda columns: writer.write_batch(batch(columns))


@contextlib.contextmanager
def _hdf5(path: Path, about: dict[str, Any], columns: Columns) -> Iterator[Write]:
    """Write columns like these as arrays; `file` counts into `files`."""
    options = {"maxshape": (None,), "chunks": (1 << 15,), "compression": "lzf", "shuffle": True}
    with h5py.File(path, "w") as file:
        file.attrs["l1kd"] = json.dumps(about)
        file["files"] = [each["file"] for each in about["files"]]
        arrays = {key: file.create_dataset(key, data=c, **options) for key, c in columns.items()}

        def write(columns: Columns) -> None:
            for key, values in columns.items():
                arrays[key].resize(len(arrays[key]) + len(values), axis=0)
                arrays[key][len(arrays[key]) - len(values) :] = values

        yield write


_WRITERS = {".parquet": _parquet, ".h5": _hdf5, ".hdf5": _hdf5}


def rate_table(
    directory: Path,
    khz: Sequence[float] = (),
    threshold: int | None = None,
    *,
    files: Sequence[str] = (),
    student: str | None = None,
    form: Literal["text", "json"] = "text",
    cluster: Cluster = Cluster(),
) -> str:
    """Thresholds for rates, by default the configured ones, or the rate for a threshold.

    Normal events are those of the files, or the run's test normals.
    """
    context = open_context(directory)
    run = Run(context.directory, context.config)
    rows: list[dict[str, Any]] = []
    points, efficiencies, notes = [], [], []
    student = student or run.best
    scores, network = run.test_scores(student), run.network(student)
    lsb, given = network.output_types[0].lsb, None
    del scores["test"]
    if files:
        given = cluster.histogram(context, network, files, _open(run, files, network))
    normal = run.normals(student) if given is None else given
    events = int(normal.sum())
    asked = list(khz) or (run.config.rates.khz if threshold is None else [])
    wanted: list[tuple[float | None, Threshold]] = []
    if threshold is not None:
        wanted = [(None, Threshold(threshold))]
    for each in asked:
        try:
            wanted.append((each, run.threshold(each, student, normal=given)))
        except UserError as error:
            if khz or each == max(asked):
                raise
            notes.append(f"{error}.")
    for target, level in wanted:
        rate = run.rate(level, student, normal=given)
        row = {
            "target_khz": target,
            "threshold": int(level),
            "threshold_score": int(level) * lsb,
            "normals_accepted": accepted_by(normal, level),
            **{f"rate_{key}": value for key, value in rate._asdict().items()},
            "efficiency": {name: float(np.mean(own >= level)) for name, own in scores.items()},
        }
        rows.append(row)
        shown = {"threshold [LSB]": numbers.count(int(level))}
        points.append(
            {
                "aimed at [kHz]": numbers.quantity(target),
                **shown,
                "[score]": numbers.score(row["threshold_score"], lsb),
                "accepted": numbers.count(row["normals_accepted"]),
                "rate [kHz]": numbers.quantity(rate.khz),
                "68 % interval": f"{numbers.quantity(rate.low)} to {numbers.quantity(rate.high)}",
            }
        )
        efficiencies.append(
            {
                **shown,
                "mean": numbers.percent(mean_over_signals(row["efficiency"])),
                **{name: numbers.percent(own) for name, own in row["efficiency"].items()},
            }
        )
    crossings, known = run.config.crossings_mhz, run.distinct if given is None else {}
    if form == "json":
        of = {"run": str(run.directory), "student": student, "lsb": lsb, "events": events}
        return as_json(
            {**of, "crossings_mhz": crossings, "distinct_collisions": known, "points": rows}
        )
    repeats = "repeated collisions count once" if known else "all normals are independent"
    which = f"events of {len(files)} files" if files else "test normals"
    about = (
        f"{student} of {run.directory}: {events:,} {which} at {crossings:g} MHz of "
        f"crossings; accepted is a score >= the threshold. In the 68 % intervals {repeats}."
    )
    tables = [
        ShownTable.of([Column(title, itemgetter(title), str) for title in own[0]], own).markdown()
        for own in (points, efficiencies)
    ]
    return "\n\n".join([tables[0], "Efficiencies:", tables[1], about, *notes])
