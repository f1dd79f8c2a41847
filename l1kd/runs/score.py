"""`l1kd score` and `l1kd rates`: scores of new events in a file, thresholds and rates of a run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd import __version__
from l1kd.core.errors import UserError
from l1kd.core.files import atomic, file_hash
from l1kd.data.sources import open_table
from l1kd.data.user_arrays import check_kept
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import Threshold
from l1kd.evaluation.score_events import score_tables
from l1kd.report import number_format as numbers
from l1kd.report.export import as_json
from l1kd.report.tables import Column, Table
from l1kd.runs.open_run import Run
from l1kd.runs.run import open_context

Columns = dict[str, NDArray[Any]]
Write = Callable[[Columns], None]


def score_files(
    directory: Path,
    files: Sequence[str],
    *,
    student: str | None = None,
    threshold: int | None = None,
    rate_khz: float | None = None,
    out: Path | None = None,
) -> Path:
    """Score the events of files by a student's exact network; the Parquet or HDF5 file written.

    The run is only read. What is written is whole or not there, and replaces nothing.
    """
    context = open_context(directory)
    run, started = Run(context.directory, context.config), time.monotonic()
    name, student = run.directory.resolve().name, student or run.best
    out = out or Path(f"{name}-scores.parquet")
    if out.suffix.lower() not in _WRITERS:
        raise UserError(f"{out}: scores are written as {', '.join(_WRITERS)}; end the name so")
    _check_free(out)
    network, level = run.network(student), None if threshold is None else Threshold(threshold)
    if rate_khz is not None:
        level = run.threshold(rate_khz, student)
    if len(set(files)) < len(files):
        raise UserError("a file is named twice; name it once")
    tables = [open_table(run.config.data, each, network.port) for each in files]
    check_kept(tables)
    lsb, events, accepted = network.output_types[0].lsb, sum(table.rows for table in tables), 0
    rate = None
    if level is not None and run.config.crossings_mhz is not None:
        rate = run.rate(level, student)._asdict()
    about = {
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
            for part in score_tables(network, tables):
                write(found := columns(*part))
                accepted += int(np.sum(found.get("accept", 0)))
                advance(len(part[2]))
        _check_free(out)  # somebody else may have come first
    seconds = time.monotonic() - started
    text = f"{events:,} events in {numbers.duration(seconds)} ({events / seconds:,.0f} events/s)"
    if level is not None:
        text += f", {accepted:,} accepted by a threshold of {level:,} LSB"
    context.say(f"{student} of {run.directory}: {text}")
    return out


def _check_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already, and is not replaced; name another --out")


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
    student: str | None = None,
    form: Literal["text", "json"] = "text",
) -> str:
    """Thresholds for rates, by default the configured ones, or the rate for a threshold."""
    context = open_context(directory)
    run = Run(context.directory, context.config)
    rows: list[dict[str, Any]] = []
    texts, notes = [], []
    student = student or run.best
    scores, lsb = run.test_scores(student), run.network(student).output_types[0].lsb
    normal = scores.pop("test")
    asked = list(khz) or (run.config.rates.khz if threshold is None else [])
    wanted: list[tuple[float | None, Threshold]] = []
    if threshold is not None:
        wanted = [(None, Threshold(threshold))]
    for each in asked:
        try:
            wanted.append((each, run.threshold(each, student)))
        except UserError as error:
            if khz or each == max(asked):
                raise
            notes.append(f"{error}.")
    for target, level in wanted:
        rate = run.rate(level, student)
        row = {
            "target_khz": target,
            "threshold": int(level),
            "threshold_score": int(level) * lsb,
            "normals_accepted": int(np.sum(normal >= level)),
            **{f"rate_{key}": value for key, value in rate._asdict().items()},
            "efficiency": {name: float(np.mean(own >= level)) for name, own in scores.items()},
        }
        rows.append(row)
        texts.append(
            {
                "aimed at [kHz]": numbers.quantity(target),
                "threshold [LSB]": numbers.count(int(level)),
                "threshold [score]": numbers.score(row["threshold_score"], lsb),
                "normals accepted": numbers.count(row["normals_accepted"]),
                "rate [kHz]": numbers.quantity(rate.khz),
                "68 % interval": f"{numbers.quantity(rate.low)} to {numbers.quantity(rate.high)}",
                "mean efficiency": numbers.percent(mean_over_signals(row["efficiency"])),
                **{name: numbers.percent(own) for name, own in row["efficiency"].items()},
            }
        )
    crossings, known = run.config.crossings_mhz, run.distinct
    if form == "json":
        of = {"run": str(run.directory), "student": student, "lsb": lsb, "events": len(normal)}
        return as_json(
            {**of, "crossings_mhz": crossings, "distinct_collisions": known, "points": rows}
        )
    repeats = "repeated collisions count once" if known else "all normals are independent"
    about = (
        f"{student} of {run.directory}: {len(normal):,} test normals at {crossings:g} MHz of "
        f"crossings; accepted is a score >= the threshold. In the 68 % intervals {repeats}."
    )
    table = Table.of([Column(title, itemgetter(title), str) for title in texts[0]], texts)
    return "\n\n".join([table.markdown(), about, *notes])
